internal import Core
internal import Foundation

/// A line of a request log: what was asked and the tokens that were answered.
struct LoggedRequest: Sendable {
  struct Answer: Sendable, Equatable, Decodable {
    var index: Int
    var tokens: [Token]
    /// Nil for an answer that was broken off.
    var finishReason: String?

    enum CodingKeys: String, CodingKey {
      case index, tokens
      case finishReason = "finish_reason"
    }
  }

  private struct Fields: Decodable {
    struct Failure: Decodable { var code: String? }

    var requestID: String
    var route: String
    var seed: Int64
    var answers: [Answer]
    var error: Failure?

    enum CodingKeys: String, CodingKey {
      case route, seed, answers, error
      case requestID = "request_id"
    }
  }

  var id: String
  var route: String
  var answers: [Answer]
  /// Whether the answers were broken off: by the client, a deadline, a failure.
  var isPartial: Bool
  /// The request's JSON with the seed that was drawn for it; nil if the log left it out, being too long.
  var body: [UInt8]?

  static let routes = ["/v1/chat/completions", "/v1/completions"]

  /// Throws `badInput` without naming the line.
  init(line: [UInt8]) throws {
    guard let members = JSONMembers(line) else {
      throw FusionRouteError.badInput("this is no JSON object")
    }
    let fields: Fields
    do { fields = try JSONDecoder().decode(Fields.self, from: Data(line)) } catch {
      throw FusionRouteError.badInput("this is no line of a request log", cause: error)
    }
    guard Self.routes.contains(fields.route) else {
      throw FusionRouteError.badInput("the route \"\(fields.route)\" cannot be replayed")
    }
    id = fields.requestID
    route = fields.route
    answers = fields.answers
    isPartial = fields.error != nil
    guard let body = members.value("body") else { return }
    guard let object = JSONMembers(body) else { throw FusionRouteError.badInput("\"body\" is no JSON object") }
    self.body = object.setting("seed", to: "\(fields.seed)")
  }
}

/// Answers as they came now, by index.
struct ReplayedAnswers: Sendable {
  private struct Object: Decodable {
    struct Choice: Decodable {
      struct Details: Decodable {
        struct Token: Decodable { var id: Core.Token }
        var tokens: [Token]
      }

      var index: Int
      var finishReason: String?
      var fusionroute: Details?

      enum CodingKeys: String, CodingKey {
        case index, fusionroute
        case finishReason = "finish_reason"
      }
    }

    var choices: [Choice]
  }

  private(set) var byIndex: [Int: LoggedRequest.Answer] = [:]

  /// Adds a whole answer or a chunk of one. Throws `unavailable` if it is neither.
  mutating func add(_ json: [UInt8]) throws {
    let object: Object
    do { object = try JSONDecoder().decode(Object.self, from: Data(json)) } catch {
      throw FusionRouteError.unavailable("the service answers what this program does not understand", cause: error)
    }
    for choice in object.choices {
      var answer = byIndex[choice.index] ?? .init(index: choice.index, tokens: [], finishReason: nil)
      answer.tokens += (choice.fusionroute?.tokens ?? []).map(\.id)
      answer.finishReason = choice.finishReason ?? answer.finishReason
      byIndex[choice.index] = answer
    }
  }
}

/// How a replayed request compares with the log.
enum ReplayOutcome: Sendable, Equatable {
  case same(tokens: Int)
  case different(String)

  init(recorded: LoggedRequest, now: ReplayedAnswers) {
    var tokens = 0
    for answer in recorded.answers {
      let name = recorded.answers.count == 1 ? "" : "answer \(answer.index), "
      guard let new = now.byIndex[answer.index] else {
        self = .different("\(name)which did not come")
        return
      }
      if let at = zip(answer.tokens, new.tokens).enumerated().first(where: { $1.0 != $1.1 }) {
        self = .different(
          "\(name)token \(at.offset + 1) of \(answer.tokens.count): \(at.element.0) was recorded, \(at.element.1) came")
        return
      }
      // What was broken off may go on now.
      let isWhole = answer.finishReason != nil
      guard isWhole ? new.tokens.count == answer.tokens.count : new.tokens.count >= answer.tokens.count else {
        self = .different("\(name)\(answer.tokens.count) tokens were recorded, \(new.tokens.count) came")
        return
      }
      if isWhole, let reason = answer.finishReason, new.finishReason != reason {
        self = .different("\(name)it ended by \"\(reason)\" and now by \"\(new.finishReason ?? "nothing")\"")
        return
      }
      tokens += answer.tokens.count
    }
    self = .same(tokens: tokens)
  }
}
