internal import Core

/// Vocabularies of generated models: a function of kind and size, so that a router and its experts share one.
///
/// Both kinds grow in the same way: characters first, then pieces that each join two earlier ones, as byte-pair encoding
/// learns them. Common English words come first, then seeded random joins of letters, so that English text needs few
/// tokens and any size up to a million can be had. Digits and punctuation are never joined.
struct GeneratedVocabulary {
  /// GGUF's token types.
  enum Kind: Int32 {
    case normal = 1
    case unknown = 2
    case control = 3
    case byte = 6
  }

  private(set) var tokens: [String] = []
  private(set) var kinds: [Kind] = []
  private(set) var merges: [String] = []
  let kind: ModelRecipe.VocabularyKind
  private var known: Set<String> = []

  /// Marks a space at the start of a word.
  private var space: String { kind == .spm ? "▁" : "Ġ" }

  static func leastSize(_ kind: ModelRecipe.VocabularyKind) -> Int { kind == .spm ? 384 : 272 }

  /// `size` is at least `leastSize`.
  init(kind: ModelRecipe.VocabularyKind, size: Int) {
    self.kind = kind
    tokens.reserveCapacity(size)
    addBase()
    var pieces: [String] = []
    for word in Self.words where tokens.count < size { spell(word, size: size, pieces: &pieces) }
    grow(to: size, pieces: &pieces)
  }

  /// A byte-level BPE vocabulary that was learnt from texts.
  init(_ learnt: LearntMerges) {
    kind = .bpe
    addBase()
    for (left, right) in learnt.merges {
      let joined = left + right
      // Two ways to the same piece: the first counts, as in every tokenizer.
      guard !known.contains(joined) else { continue }
      add(joined)
      merges.append(left + " " + right)
    }
  }

  /// Tokens before the first join.
  static let baseBPE = 3 + 256

  // MARK: Special tokens

  /// Tokens whose output rows are kept small, so that greedy text of a random model does not end or change role.
  var specials: [Int] { kinds.indices.filter { kinds[$0] == .control || kinds[$0] == .unknown } }

  func id(of token: String) -> Int? { tokens.firstIndex(of: token) }

  static let unknownSPM = "<unk>"
  static let beginSPM = "<s>"
  static let endSPM = "</s>"
  static let endOfTextBPE = "<|endoftext|>"
  static let turnStart = "<|im_start|>"
  static let turnEnd = "<|im_end|>"

  private mutating func add(_ token: String, _ kind: Kind = .normal) {
    guard known.insert(token).inserted else { return }
    tokens.append(token)
    kinds.append(kind)
  }

  private mutating func addBase() {
    switch kind {
    case .spm:
      add(Self.unknownSPM, .unknown)
      add(Self.beginSPM, .control)
      add(Self.endSPM, .control)
      for byte in 0..<256 {
        add("<0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true) + ">", .byte)
      }
      add(Self.turnStart, .control)
      add(Self.turnEnd, .control)
      add("▁")
      for scalar in 0x21...0x7E { add(String(UnicodeScalar(UInt8(scalar)))) }
      for character in ["ä", "ö", "ü", "é", "ß", "–", "’", "€", "中", "🙂"] { add(character) }
    case .bpe:
      add(Self.endOfTextBPE, .control)
      add(Self.turnStart, .control)
      add(Self.turnEnd, .control)
      for byte in 0..<256 { add(Self.byteSymbol(UInt8(byte))) }
    }
  }

  /// GPT-2's printable stand-in for a byte.
  static func byteSymbol(_ byte: UInt8) -> String {
    switch byte {
    case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return String(UnicodeScalar(byte))
    default:
      // The others are numbered from U+0100 in the order of their values.
      let rank: Int =
        switch byte {
        case 0...0x20: Int(byte)
        case 0x7F...0xA0: 33 + Int(byte) - 0x7F
        default: 33 + 34
        }
      return UnicodeScalar(UInt32(0x100 + rank)).map { String($0) } ?? "?"
    }
  }

  // MARK: Growing

  /// Joins two known pieces; false if the result is known already.
  private mutating func join(_ left: String, _ right: String, pieces: inout [String]) -> Bool {
    let joined = left + right
    guard !known.contains(joined) else { return false }
    add(joined)
    if kind == .bpe { merges.append(left + " " + right) }
    pieces.append(joined)
    return true
  }

  /// Every prefix of the word, with and without the space, left to right.
  private mutating func spell(_ word: String, size: Int, pieces: inout [String]) {
    let letters = word.map { String($0) }
    for start in [space, ""] {
      var piece = start.isEmpty ? letters[0] : start
      for letter in start.isEmpty ? letters[1...] : letters[0...] {
        guard tokens.count < size else { return }
        _ = join(piece, letter, pieces: &pieces)
        piece += letter
      }
    }
  }

  private mutating func grow(to size: Int, pieces: inout [String]) {
    var generator = SplitMix64(seed: 0x766F_6361_6231)
    let letters = "etaoinshrdlucmfwypvbgkjqxz".map { String($0) }
    if pieces.isEmpty { pieces.append(letters[0]) }
    var longest = 8
    var failures = 0
    while tokens.count < size {
      let left = pieces[Int(generator.next() % UInt64(pieces.count))]
      let right = letters[Int(generator.next() % UInt64(letters.count))]
      if left.count >= longest || !join(left, right, pieces: &pieces) {
        failures += 1
        // Short pieces are running out.
        if failures > 4 * size { (longest, failures) = (longest + 4, 0) }
      }
    }
  }

  private static let words: [String] = """
    the of and to in is it that was he for on are as with his they at be this from have or by one had not but what all \
    were when we there can an your which their said if do will each about how up out them then she many some so these \
    would other into has more her two like him see time could no make than first been its who now people my made over \
    did down only way find use may water long little very after words called just where most know get through back much \
    before go good new write our used me man too any day same right look think also around another came come work three \
    word must because does part even place well such here take why things help put years different away again off went \
    old number great tell men say small every found still between name should home big give air line set own under read \
    last never us left end along while might next sound below saw something thought both few those always looked show \
    large often together asked house world going want school important until form food keep children feet land side \
    without boy once animals life enough took sometimes four head above kind began almost live page got earth need far \
    hand high year mother light parts country father let night following picture being study second eyes soon times \
    story boys since white days ever paper hard near sentence better best across during today however sure means knew \
    try told young miles sun ways thing whole hear example heard several change answer room sea against top turned \
    learn point city play toward five using himself usually money function return print model token expert router
    """.split(whereSeparator: { $0 == " " || $0 == "\n" }).map(String.init)
}
