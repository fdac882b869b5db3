internal import Core

/// The router's tokens as raw text, to compare with a worker's.
struct VocabularyTexts: Sendable {
  let size: Int
  let text: @Sendable (Token) -> [UInt8]
}

/// Compares a worker's vocabulary with the router's, page by page: the same tokens in the same order, and the worker
/// may have more of them behind.
struct VocabularyComparison: Sendable {
  enum Verdict: Equatable {
    case next(first: Int, count: Int)
    case same
    case different(String)
  }

  static let pageSize = 1024
  let router: VocabularyTexts
  private(set) var compared = 0

  init(router: VocabularyTexts) { self.router = router }

  var query: (first: Int, count: Int) { (compared, min(Self.pageSize, max(1, router.size - compared))) }

  /// Takes a page in; nil for one that was compared before: its query was repeated, and answered twice.
  mutating func receive(first: Int, total: Int, texts: [[UInt8]]) -> Verdict? {
    guard total >= router.size else {
      let name = String(decoding: router.text(Token(total)), as: UTF8.self)
      return .different(
        "the expert's vocabulary has \(total) tokens and the router's \(router.size): token \(total), \"\(name)\", is "
          + "missing; router and experts must share one vocabulary")
    }
    guard first >= compared else { return nil }
    guard first == compared, !texts.isEmpty else { return .different("the worker sent the wrong vocabulary page") }
    for text in texts where compared < router.size {
      let own = router.text(Token(compared))
      if own != text {
        return .different(
          "the vocabularies differ first at token \(compared): \"\(String(decoding: own, as: UTF8.self))\" for the "
            + "router, \"\(String(decoding: text, as: UTF8.self))\" for the expert; router and experts must share one "
            + "vocabulary")
      }
      compared += 1
    }
    return compared == router.size ? .same : .next(first: query.first, count: query.count)
  }
}
