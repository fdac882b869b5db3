public import Core
internal import Foundation

/// Two answers to one question before a judge, as the paper shows them: both in one prompt, two scores from 1 to 10 on
/// the first line of the reply.
public enum JudgePrompt {
  public static let scores = 1.0...10.0

  public static func text(question: String, first: String, second: String) -> String {
    """
    You judge the answers of two assistants to the same question, fairly and precisely.

    [Question]
    \(question)

    [The start of assistant 1's answer]
    \(first)
    [The end of assistant 1's answer]

    [The start of assistant 2's answer]
    \(second)
    [The end of assistant 2's answer]

    Rate each answer for helpfulness, relevance, accuracy and level of detail with a score from 1 to 10, where a higher \
    score is better. Write on the first line only the two scores, assistant 1's and then assistant 2's, separated by a \
    space. On the lines after it, explain your rating; the order in which the answers stand must not matter.
    """
  }

  /// What a reply says behind the block of thoughts that it begins with, if it does; nothing if those have no end. Where the
  /// model's template begins them, the reply has their end alone.
  public static func withoutThoughts(_ reply: String) -> Substring {
    if let end = reply.firstRange(of: "</think>") { return reply[end.upperBound...] }
    return reply.drop(while: \.isWhitespace).hasPrefix("<think>") ? "" : reply[...]
  }

  /// The two scores on the first line that is not empty, thoughts left out; nil unless it holds exactly two numbers from 1
  /// to 10, with or without the names of both assistants in their order before them.
  public static func scores(in reply: String) -> (first: Double, second: Double)? {
    guard
      let line = withoutThoughts(reply).split(whereSeparator: \.isNewline)
        .first(where: { $0.contains { !$0.isWhitespace } }),
      // `8 9`, `8, 9`, `8/10 9/10` and `Scores: 8 9` all occur; the marks that judges put around numbers do not matter.
      let words = Self.words(of: line.replacingOccurrences(of: "/10", with: ""))
    else { return nil }
    var labels: [(name: String, index: Int)] = []
    var numbers: [(value: Double, index: Int)] = []
    for (index, word) in words.enumerated() {
      if let name = label(at: index, in: words) {
        labels.append((name, index))
      } else if case .number(let value) = word {
        numbers.append((value, index))
      }
    }
    guard numbers.count == 2, numbers.allSatisfy({ scores.contains($0.value) }) else { return nil }
    if !labels.isEmpty {
      // `Assistant 1: 8` alone is one score, not two; names in another order may mean anything.
      guard names.contains(labels.map(\.name)), labels[0].index < numbers[0].index, labels[1].index < numbers[1].index
      else { return nil }
    }
    return (numbers[0].value, numbers[1].value)
  }

  private enum Word {
    case text(String)
    case number(Double)
    case mark(Character)
  }

  /// What judges call the two assistants, in their order.
  private static let names = [["1", "2"], ["a", "b"]]
  /// What a name may stand behind.
  private static let nouns: Set<String> = ["answer", "assistant", "candidate", "model", "response"]
  /// Emphasis of Markdown, which may stand anywhere.
  private static let emphasis: Set<Character> = ["*", "_", "`", "#"]

  /// The words of a line; nil if one looks like a number and is none.
  private static func words(of line: String) -> [Word]? {
    var words: [Word] = []
    var rest = line[...]
    while let first = rest.first {
      if first.isLetter {
        let text = rest.prefix(while: \.isLetter)
        words.append(.text(text.lowercased()))
        rest = rest.dropFirst(text.count)
      } else if first.isNumber || (first == "." && rest.dropFirst().first?.isNumber == true) {
        var digits = rest.prefix { $0.isNumber || $0 == "." }
        // The end of a sentence, or of a label.
        while digits.last == "." { digits.removeLast() }
        guard let number = Double(digits) else { return nil }
        words.append(.number(number))
        rest = rest.dropFirst(digits.count)
      } else {
        if !first.isWhitespace, !emphasis.contains(first) { words.append(.mark(first)) }
        rest = rest.dropFirst()
      }
    }
    return words
  }

  /// The name of an assistant at this place, as in `Assistant 1`, `B: 9` and `2. 9`; nil for anything else.
  private static func label(at index: Int, in words: [Word]) -> String? {
    let name: String
    switch words[index] {
    case .text(let text) where text == "a" || text == "b": name = text
    case .number(let number) where number == 1 || number == 2: name = number == 1 ? "1" : "2"
    default: return nil
    }
    if index > 0, case .text(let noun) = words[index - 1], nouns.contains(noun) { return name }
    let rest = words[(index + 1)...]
    guard case .mark(let mark)? = rest.first else { return nil }
    if mark == ":" || mark == "=" { return name }
    // `10 1.` and `(8, 1)` end with a score.
    guard mark == "." || mark == ")", case .number? = rest.dropFirst().first else { return nil }
    return name
  }
}

/// What a judge said of one pair, in both orders.
public struct Judgement: Sendable, Equatable {
  public enum Outcome: String, Sendable { case win, tie, loss }

  public var id: String
  /// Scores of the method and of its opponent, with the method's answer first and with it second.
  public var methodFirst: (method: Double, opponent: Double)
  public var methodSecond: (method: Double, opponent: Double)

  public init(
    id: String, methodFirst: (method: Double, opponent: Double), methodSecond: (method: Double, opponent: Double)
  ) {
    self.id = id
    self.methodFirst = methodFirst
    self.methodSecond = methodSecond
  }

  /// By the sum over both orders, so that a preference for a place cancels.
  public var outcome: Outcome {
    let (own, other) = (
      methodFirst.method + methodSecond.method, methodFirst.opponent + methodSecond.opponent
    )
    return own > other ? .win : own < other ? .loss : .tie
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.id == b.id && a.methodFirst == b.methodFirst && a.methodSecond == b.methodSecond
  }
}

/// Wins and losses over all pairs that were judged.
public struct WinRate: Sendable, Equatable {
  public var wins = 0
  public var ties = 0
  public var losses = 0
  /// Ids of the pairs that could not be judged; they count for nothing.
  public var unjudged: [String]
  /// Wins, and half of the ties, over the pairs that were judged; nil for no pair.
  public var rate: Double?
  public var interval: Interval?
  public var signTest: Double

  public init(_ judgements: [Judgement], unjudged: [String] = [], bootstrap: Bootstrap) {
    self.unjudged = unjudged
    let points = judgements.map { judgement -> Double in
      switch judgement.outcome {
      case .win: 1
      case .tie: 0.5
      case .loss: 0
      }
    }
    wins = points.count { $0 == 1 }
    losses = points.count { $0 == 0 }
    ties = points.count - wins - losses
    rate = Statistics.mean(points)
    interval = Bootstrap.interval(bootstrap.replicates(points, stratum: "judge"))
    signTest = Statistics.signTest(wins: wins, losses: losses)
  }

  public var json: JSONValue {
    .members([
      ("pairs", .integer(Int64(wins + ties + losses))), ("wins", .integer(Int64(wins))),
      ("ties", .integer(Int64(ties))), ("losses", .integer(Int64(losses))),
      ("unjudged", .array(unjudged.map { .string($0) })), ("win_rate", .finite(rate)),
      ("interval", interval.map { .array([.finite($0.lower), .finite($0.upper)]) } ?? .null),
      ("sign_test_p", .finite(signTest)),
    ])
  }
}

extension Judgement {
  /// One line of the judge's results.
  ///
  /// - Parameter key: of the pair's contents and the judge.
  public func line(key: String) -> String {
    func pair(_ scores: (method: Double, opponent: Double)) -> JSONValue {
      .array([.number(scores.method), .number(scores.opponent)])
    }
    return JSONValue.members([
      ("key", .string(key)), ("id", .string(id)), ("method_first", pair(methodFirst)),
      ("method_second", pair(methodSecond)), ("outcome", .string(outcome.rawValue)),
    ]).text
  }

  /// Reads a line; nil for one that a crash cut off.
  public static func parse(_ line: String) -> (key: String, judgement: Judgement)? {
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)), case .string(let key)? = object["key"],
      case .string(let id)? = object["id"]
    else { return nil }
    func pair(_ name: String) -> (method: Double, opponent: Double)? {
      guard case .array(let values)? = object[name], values.count == 2, let own = values[0].double,
        let other = values[1].double
      else { return nil }
      return (own, other)
    }
    guard let first = pair("method_first"), let second = pair("method_second") else { return nil }
    return (key, Judgement(id: id, methodFirst: first, methodSecond: second))
  }
}
