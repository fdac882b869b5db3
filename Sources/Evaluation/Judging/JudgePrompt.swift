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

  /// The two scores on the first line that is not empty; nil unless it holds exactly two numbers from 1 to 10.
  public static func scores(in reply: String) -> (first: Double, second: Double)? {
    guard
      let line = reply.split(whereSeparator: \.isNewline).first(where: { $0.contains { !$0.isWhitespace } })
    else { return nil }
    // `8 9`, `8, 9`, `8/10 9/10` and `Scores: 8 9` all occur; the marks that judges put around numbers do not matter.
    let words = line.replacingOccurrences(of: "/10", with: "").split { !($0.isNumber || $0 == ".") }
    let numbers = words.compactMap { Double($0.hasSuffix(".") ? $0.dropLast() : $0) }
    guard numbers.count == 2, numbers.allSatisfy({ scores.contains($0) }) else { return nil }
    return (numbers[0], numbers[1])
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

/// Wins and losses over all pairs.
public struct WinRate: Sendable, Equatable {
  public var wins = 0
  public var ties = 0
  public var losses = 0
  /// Wins, and half of the ties, over all pairs; nil for no pair.
  public var rate: Double?
  public var interval: Interval?
  public var signTest: Double

  public init(_ judgements: [Judgement], bootstrap: Bootstrap) {
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
      ("ties", .integer(Int64(ties))), ("losses", .integer(Int64(losses))), ("win_rate", .finite(rate)),
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
