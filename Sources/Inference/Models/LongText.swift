internal import CLlama
internal import Core

/// Long texts in pieces.
///
/// llama.cpp's search for special tokens walks a list from its start for each one it finds, so its time grows with the
/// square of their number: 8 MB of them take an hour. Cut behind a special token, the pieces give the same tokens as the
/// whole, since what lies between two special tokens is tokenised by itself.
struct LongText: Sendable {
  /// Texts up to so many bytes stay whole, and pieces have about so many.
  static let pieceBytes = 16 << 10

  /// Texts of the special tokens behind which may be cut. All are `<…>` without such brackets inside, and no special
  /// token of another shape has brackets: so none can overlap with one of these.
  let cuts: Set<[UInt8]>
  private let longest: Int

  init(_ vocabulary: Vocabulary) {
    var cuts: Set<[UInt8]> = []
    let special = LLAMA_TOKEN_ATTR_CONTROL.rawValue | LLAMA_TOKEN_ATTR_USER_DEFINED.rawValue
    let strips = LLAMA_TOKEN_ATTR_LSTRIP.rawValue | LLAMA_TOKEN_ATTR_RSTRIP.rawValue
    let found = special | LLAMA_TOKEN_ATTR_UNKNOWN.rawValue
    for token in 0..<Token(vocabulary.size) {
      let attributes = vocabulary.attributes(token)
      guard attributes & UInt32(found) != 0 else { continue }
      let text = vocabulary.text(token)
      if Self.isBracketed(text) {
        // Tokens that take the space around them along, and the unknown one, are left out: no need to think about them.
        if attributes & UInt32(special) != 0, attributes & UInt32(strips) == 0 { cuts.insert(text) }
      } else if text.contains(where: { $0 == Self.open || $0 == Self.close }) {
        cuts = []
        break
      }
    }
    self.cuts = cuts
    longest = cuts.map(\.count).max() ?? 0
  }

  private static let open = UInt8(ascii: "<")
  private static let close = UInt8(ascii: ">")

  private static func isBracketed(_ text: [UInt8]) -> Bool {
    text.count > 2 && text.first == open && text.last == close
      && !text.dropFirst().dropLast().contains { $0 == open || $0 == close }
  }

  /// Pieces of a text, in order; the text itself where it has no special tokens to cut behind.
  func pieces(of text: [UInt8]) -> [ArraySlice<UInt8>] {
    guard text.count > Self.pieceBytes, !cuts.isEmpty else { return [text[...]] }
    var pieces: [ArraySlice<UInt8>] = []
    var start = 0
    var opened: Int?
    for (index, byte) in text.enumerated() {
      if byte == Self.open { opened = index }
      guard byte == Self.close, let first = opened else { continue }
      opened = nil
      guard index + 1 - start >= Self.pieceBytes, index + 1 - first <= longest else { continue }
      guard cuts.contains(Array(text[first...index])) else { continue }
      pieces.append(text[start...index])
      start = index + 1
    }
    if start < text.count { pieces.append(text[start...]) }
    return pieces
  }
}
