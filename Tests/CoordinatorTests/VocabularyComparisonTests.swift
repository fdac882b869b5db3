import Core
import Testing

@testable import Coordinator

@Suite struct VocabularyComparisonTests {
  private static let size = 2_500
  private static let router = VocabularyTexts(size: size) { Array("token \($0)".utf8) }

  private static func texts(_ query: (first: Int, count: Int)) -> [[UInt8]] {
    (query.first..<min(query.first + query.count, size)).map { Array("token \($0)".utf8) }
  }

  @Test("queries that were repeated, and so answered twice, change nothing: each page counts once")
  func repeatedPages() {
    var comparison = VocabularyComparison(router: Self.router)
    var firsts: [Int] = []
    var verdict: VocabularyComparison.Verdict?
    while verdict != .same, firsts.count < 10 {
      let query = comparison.query
      firsts.append(query.first)
      // Asked again before the answer came.
      #expect(comparison.query.first == query.first)
      verdict = comparison.receive(first: query.first, total: Self.size, texts: Self.texts(query))
      guard verdict != .same else { break }
      for earlier in firsts {
        let texts = Self.texts((earlier, query.count))
        let again = comparison.receive(first: earlier, total: Self.size, texts: texts)
        #expect(again == nil, "the page of \(earlier)")
      }
    }
    #expect(verdict == .same && firsts == [0, 1_024, 2_048])
  }

  @Test("a page that nobody asked for, an empty one and one that differs are told, also among repeated ones")
  func wrongPages() {
    var comparison = VocabularyComparison(router: Self.router)
    let page = Self.texts(comparison.query)
    for _ in 0..<2 { _ = comparison.receive(first: 0, total: Self.size, texts: page) }
    var other = Self.texts(comparison.query)
    other[3] = Array("else".utf8)
    let wrong: [(first: Int, texts: [[UInt8]], word: String)] = [
      (2_048, Self.texts((2_048, 1_024)), "wrong vocabulary page"), (1_024, [], "wrong vocabulary page"),
      (1_024, other, "first at token 1027"),
    ]
    for (first, texts, word) in wrong {
      var copy = comparison
      guard case .different(let sentence)? = copy.receive(first: first, total: Self.size, texts: texts) else {
        Issue.record("the page of \(first) was taken")
        continue
      }
      #expect(sentence.contains(word), "\(sentence)")
    }
  }
}
