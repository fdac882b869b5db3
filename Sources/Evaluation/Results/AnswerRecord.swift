internal import Core

/// One graded answer, as it stands on a line of the results.
public struct AnswerRecord: Sendable, Equatable {
  /// Of the task's line, the method, the models and the settings: an answer with the same key is not asked for again.
  public var key: String
  public var method: String
  public var id: String
  public var task: String
  public var text: String
  /// Text of each token.
  public var pieces: [String]
  /// Names that ``deciders`` point into.
  public var experts: [String]
  /// Which expert decided each token; nil: none or all of them.
  public var deciders: [Int?]
  /// `stop` or `length`.
  public var finish: String
  public var promptTokens: Int
  /// Its share of the time, see ``SharedTime``; for methods that choose, of everything that they chose from. Nil if it was not
  /// measured.
  public var busySeconds: Double?
  /// Answers of other methods were under way, so that ``busySeconds`` tells little.
  public var interleaved: Bool
  /// Tokens that went through each model, by expert, `router` and `reward`.
  public var evaluations: [String: Int]
  /// The method or expert whose answer was chosen.
  public var chosen: String?
  public var grade: Grade

  public init(
    key: String, method: String, id: String, task: String, text: String, pieces: [String] = [], experts: [String] = [],
    deciders: [Int?] = [], finish: String = "stop", promptTokens: Int = 0, busySeconds: Double? = nil,
    interleaved: Bool = false, evaluations: [String: Int] = [:], chosen: String? = nil, grade: Grade
  ) {
    self.key = key
    self.method = method
    self.id = id
    self.task = task
    self.text = text
    self.pieces = pieces
    self.experts = experts
    self.deciders = deciders
    self.finish = finish
    self.promptTokens = promptTokens
    self.busySeconds = busySeconds
    self.interleaved = interleaved
    self.evaluations = evaluations
    self.chosen = chosen
    self.grade = grade
  }

  public static let router = "router"
  public static let reward = "reward"

  public var generatedTokens: Int { pieces.count }
  /// The prompt alone was too long for the context.
  public var didNotFit: Bool { pieces.isEmpty && finish == "length" }
  /// Tokens that went through experts.
  public var expertEvaluations: Int {
    evaluations.reduce(0) { $0 + ([Self.router, Self.reward].contains($1.key) ? 0 : $1.value) }
  }
  /// Name of the expert that decided a token that shows; nil for blanks, which any expert would write, for the end of the text, and
  /// where no expert decided.
  public func visibleDecider(_ position: Int) -> String? {
    guard deciders.indices.contains(position), let decider = deciders[position], experts.indices.contains(decider),
      pieces[position].unicodeScalars.contains(where: { !$0.properties.isWhitespace })
    else { return nil }
    return experts[decider]
  }
  /// Tokens that show, by the expert that decided them.
  public var visibleTokens: [String: Int] {
    pieces.indices.reduce(into: [:]) { counts, position in
      if let name = visibleDecider(position) { counts[name, default: 0] += 1 }
    }
  }
  /// Experts that decided at least one token that shows.
  public var decidingExperts: Set<String> { Set(visibleTokens.keys) }
}

extension AnswerRecord {
  /// One line, without its line feed.
  public var line: String {
    var members: [(String, JSONValue)] = [
      ("key", .string(key)), ("method", .string(method)), ("id", .string(id)), ("task", .string(task)),
      ("text", .string(text)), ("tokens", .array(pieces.map { .string($0) })),
      ("experts", .array(experts.map { .string($0) })),
      ("decided_by", .array(deciders.map { $0.map { .integer(Int64($0)) } ?? .null })),
      ("finish_reason", .string(finish)), ("prompt_tokens", .integer(Int64(promptTokens))),
      (
        "evaluated_tokens",
        .members(evaluations.sorted { $0.key < $1.key }.map { ($0.key, .integer(Int64($0.value))) })
      ),
    ]
    if let busySeconds { members.append(("busy_seconds", .finite(busySeconds))) }
    if interleaved { members.append(("interleaved", .bool(true))) }
    if let chosen { members.append(("chosen", .string(chosen))) }
    members += [("passed", .bool(grade.passed)), ("score", .finite(grade.score))]
    if !grade.parts.isEmpty {
      members.append(("parts", .members(grade.parts.map { ($0.name, .bool($0.passed)) })))
    }
    if let reason = grade.reason { members.append(("reason", .string(reason))) }
    if let version = grade.version { members.append(("grader", .string(version))) }
    return JSONValue.members(members).text
  }

  /// Reads a line; nil for one that a crash cut off or that is something else.
  public init?(line: String) {
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)) else { return nil }
    self.init(object)
  }

  /// What a line holds; nil if that is something else.
  init?(_ object: JSONObject) {
    func text(_ key: String) -> String? { if case .string(let text)? = object[key] { text } else { nil } }
    func list<T>(_ key: String, _ element: (JSONValue) -> T?) -> [T]? {
      guard case .array(let values)? = object[key] else { return nil }
      let read = values.compactMap(element)
      return read.count == values.count ? read : nil
    }
    guard let key = text("key"), let method = text("method"), let id = text("id"), let task = text("task"),
      let answer = text("text"), let finish = text("finish_reason"), case .bool(let passed)? = object["passed"],
      let pieces = list("tokens", { if case .string(let text) = $0 { text } else { nil } }),
      let experts = list("experts", { if case .string(let text) = $0 { text } else { nil } }),
      let deciders = list("decided_by", Self.decider), deciders.count == pieces.count,
      case .object(let evaluations)? = object["evaluated_tokens"],
      case .integer(let promptTokens)? = object["prompt_tokens"]
    else { return nil }
    var parts: [Grade.Part] = []
    if case .object(let members)? = object["parts"] {
      for (name, value) in members.members {
        guard case .bool(let passed) = value else { return nil }
        parts.append(.init(name: name, passed: passed))
      }
    }
    // Beyond what any answer costs, and far from where sums overflow.
    let plausible = 0...Int64(1) << 32
    guard plausible.contains(promptTokens) else { return nil }
    var counts: [String: Int] = [:]
    for (name, value) in evaluations.members {
      guard case .integer(let count) = value, plausible.contains(count) else { return nil }
      counts[name] = Int(count)
    }
    self.init(
      key: key, method: method, id: id, task: task, text: answer, pieces: pieces, experts: experts,
      deciders: deciders.map { $0.flatMap { experts.indices.contains($0) ? $0 : nil } }, finish: finish,
      promptTokens: Int(promptTokens), busySeconds: object["busy_seconds"]?.double,
      interleaved: object["interleaved"] == .bool(true),
      evaluations: counts, chosen: text("chosen"),
      grade: Grade(
        passed: passed, score: object["score"]?.double, parts: parts, reason: text("reason"),
        version: text("grader")))
  }

  private static func decider(_ value: JSONValue) -> Int?? {
    switch value {
    case .null: .some(nil)
    case .integer(let index): .some(Int(index))
    default: nil
    }
  }
}
