internal import Core

/// Byte-pair encoding (Sennrich et al., arXiv 1508.07909) over bytes, learnt from texts: the most frequent pair of pieces
/// is joined, again and again. Words are cut as the pre-tokeniser `smollm` cuts them: digits alone, a space with the word
/// behind it.
public struct LearntMerges: Sendable, Equatable {
  /// Pairs in the order in which they are joined, in GPT-2's printable spelling of bytes.
  public let merges: [(left: String, right: String)]

  public static func == (a: Self, b: Self) -> Bool {
    a.merges.count == b.merges.count && zip(a.merges, b.merges).allSatisfy { $0 == $1 }
  }

  /// - Parameters:
  ///   - size: tokens of the whole vocabulary; there are fewer if the texts have no more pairs that occur twice.
  /// - Throws: `.usage` for a size below the bytes and special tokens, or above what a model may have.
  public static func learn(from texts: some Sequence<String>, size: Int) throws -> LearntMerges {
    guard (GeneratedVocabulary.leastSize(.bpe)...ModelRecipe.maximumVocabulary).contains(size) else {
      throw FusionRouteError.usage(
        "a vocabulary has \(GeneratedVocabulary.leastSize(.bpe)) to \(ModelRecipe.maximumVocabulary) tokens, not \(size)"
      )
    }
    // By bytes: words that are canonically equivalent have tokens of their own.
    var counts: [[UInt8]: Int] = [:]
    for text in texts { for word in Self.words(of: text) { counts[Array(word.utf8), default: 0] += 1 } }
    var learner = PairLearner(counts)
    return LearntMerges(merges: learner.run(joins: size - GeneratedVocabulary.baseBPE))
  }

  private init(merges: [(left: String, right: String)]) { self.merges = merges }

  /// Texts cut into words, each with the space before it.
  static func words(of text: String) -> [String] {
    let scalars = Array(text.unicodeScalars)
    var words: [String] = []
    var start = 0
    func kind(_ at: Int) -> Kind? { at < scalars.count ? Kind(scalars[at]) : nil }
    func end(of wanted: Kind, from: Int) -> Int {
      var at = from
      while kind(at) == wanted { at += 1 }
      return at
    }
    while start < scalars.count {
      var next: Int
      switch Kind(scalars[start]) {
      case .number: next = start + 1
      case .letter: next = end(of: .letter, from: start)
      case .other:
        next = contraction(scalars, at: start) ?? end(of: .other, from: start)
      case .space:
        let run = end(of: .space, from: start)
        // The last space of a run belongs to what follows it.
        next = run < scalars.count && run - start > 1 ? run - 1 : run
        if run - start == 1, scalars[start] == " ", let following = kind(run),
          following == .letter || following == .other
        {
          next = end(of: following, from: run)
        }
      }
      words.append(String(String.UnicodeScalarView(scalars[start..<next])))
      start = next
    }
    return words
  }

  private enum Kind {
    case letter, number, space, other

    init(_ scalar: Unicode.Scalar) {
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
      case .decimalNumber, .letterNumber, .otherNumber: self = .number
      default: self = scalar.properties.isWhitespace ? .space : .other
      }
    }
  }

  /// End of 's, 't, 're, 've, 'm, 'll or 'd at a place.
  private static func contraction(_ scalars: [Unicode.Scalar], at start: Int) -> Int? {
    guard scalars[start] == "'" else { return nil }
    for ending in ["re", "ve", "ll", "s", "t", "m", "d"] {
      let letters = Array(ending.unicodeScalars)
      let end = start + 1 + letters.count
      if end <= scalars.count, scalars[(start + 1)..<end].elementsEqual(letters) { return end }
    }
    return nil
  }
}

/// The joining, with counts that are kept up to date where words change.
private struct PairLearner {
  private struct Pair: Hashable {
    var left: Int
    var right: Int
  }

  private var pieces: [String] = (0..<256).map { GeneratedVocabulary.byteSymbol(UInt8($0)) }
  private var words: [(pieces: [Int], count: Int)]
  private var counts: [Pair: Int] = [:]
  private var places: [Pair: Set<Int>] = [:]
  private var queue = Queue()

  init(_ counts: [[UInt8]: Int]) {
    // Sorted, so that the result does not depend on a dictionary's order.
    words = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key.map { Int($0) }, $0.value) }
    for index in words.indices { change(index, by: 1) }
    for (pair, count) in self.counts { queue.push(count, pair) }
  }

  /// Adds or takes away a word's pairs.
  private mutating func change(_ index: Int, by sign: Int) {
    let (pieces, count) = words[index]
    for (left, right) in zip(pieces, pieces.dropFirst()) {
      let pair = Pair(left: left, right: right)
      counts[pair, default: 0] += sign * count
      if sign > 0 { places[pair, default: []].insert(index) }
    }
  }

  mutating func run(joins: Int) -> [(left: String, right: String)] {
    var merges: [(String, String)] = []
    while merges.count < joins, let (count, pair) = queue.pop() {
      // An entry from before a change.
      guard counts[pair] == count else { continue }
      guard count >= 2 else { break }
      merges.append((pieces[pair.left], pieces[pair.right]))
      join(pair)
    }
    return merges
  }

  private mutating func join(_ pair: Pair) {
    let joined = pieces.count
    pieces.append(pieces[pair.left] + pieces[pair.right])
    var touched: Set<Pair> = []
    for index in (places.removeValue(forKey: pair) ?? []).sorted() {
      let before = words[index].pieces
      guard zip(before, before.dropFirst()).contains(where: { $0 == pair.left && $1 == pair.right }) else { continue }
      change(index, by: -1)
      var after: [Int] = []
      var at = 0
      while at < before.count {
        if at + 1 < before.count, before[at] == pair.left, before[at + 1] == pair.right {
          after.append(joined)
          at += 2
        } else {
          after.append(before[at])
          at += 1
        }
      }
      words[index].pieces = after
      change(index, by: 1)
      for pieces in [before, after] {
        for (left, right) in zip(pieces, pieces.dropFirst()) { touched.insert(Pair(left: left, right: right)) }
      }
    }
    counts[pair] = nil
    for pair in touched { if let count = counts[pair], count > 0 { queue.push(count, pair) } }
  }

  /// A binary heap: the highest count first, of equals the pair of the oldest pieces.
  private struct Queue {
    private var entries: [(count: Int, pair: Pair)] = []

    private func precedes(_ a: Int, _ b: Int) -> Bool {
      let (x, y) = (entries[a], entries[b])
      if x.count != y.count { return x.count > y.count }
      return (x.pair.left, x.pair.right) < (y.pair.left, y.pair.right)
    }

    mutating func push(_ count: Int, _ pair: Pair) {
      entries.append((count, pair))
      var at = entries.count - 1
      while at > 0, precedes(at, (at - 1) / 2) {
        entries.swapAt(at, (at - 1) / 2)
        at = (at - 1) / 2
      }
    }

    mutating func pop() -> (count: Int, pair: Pair)? {
      guard let first = entries.first else { return nil }
      let last = entries.removeLast()
      guard !entries.isEmpty else { return first }
      entries[0] = last
      var at = 0
      while true {
        var least = at
        for child in [2 * at + 1, 2 * at + 2] where child < entries.count && precedes(child, least) { least = child }
        guard least != at else { return first }
        entries.swapAt(at, least)
        at = least
      }
    }
  }
}
