internal import Core

/// What a grader said of an answer.
public struct Grade: Sendable, Equatable {
  public var passed: Bool
  /// 0 to 1.
  public var score: Double
  /// Sub-goals, by name, in the grader's order.
  public var parts: [Part]
  public var reason: String?
  /// What the grader calls the state that it was in; nil if it does not say. Other states may grade otherwise.
  public var version: String?

  public struct Part: Sendable, Equatable {
    public var name: String
    public var passed: Bool

    public init(name: String, passed: Bool) {
      self.name = name
      self.passed = passed
    }
  }

  public init(passed: Bool, score: Double? = nil, parts: [Part] = [], reason: String? = nil, version: String? = nil) {
    self.passed = passed
    self.score = score ?? (passed ? 1 : 0)
    self.parts = parts
    self.reason = reason
    self.version = version
  }
}

/// The protocol of a persistent grader: one object a line in, one a line out, in the same order. A grader that lacks something,
/// such as a sandbox, ends with 69, which is never taken for an answer's fault.
public enum GraderProtocol {
  /// `{"id", "task", "prompt", "messages", "grader", "text"}`, without a line feed.
  public static func request(_ task: EvaluationTask, text: String) -> String {
    JSONValue.members([
      ("id", .string(task.id)), ("task", .string(task.task)), ("prompt", .string(task.prompt)),
      (
        "messages",
        .array(
          task.messages.map { .members([("role", .string($0.role)), ("content", .string($0.content))]) })
      ),
      ("grader", task.grader), ("text", .string(text)),
    ]).text
  }

  /// Reads `{"id", "passed", "score"?, "parts"?, "reason"?, "version"?}`. Throws `.badInput` for `{"id", "error"}`, by which a grader
  /// says that the task's line is at fault, and `.unavailable` for anything else.
  public static func grade(_ line: String, for task: EvaluationTask, command: String) throws -> Grade {
    func fault(_ what: String) -> FusionRouteError {
      .unavailable("the grader `\(command)` answered the task \(task.id) with \(what)")
    }
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)) else {
      throw fault("what is no JSON object: \(line.prefix(200))")
    }
    if case .string(let error)? = object["error"] {
      throw FusionRouteError.badInput("the task \(task.id) cannot be graded: \(error)")
    }
    guard object["id"] == .string(task.id) else {
      throw fault("another id: \(object["id"]?.text ?? "none"); answers must come in the order of the questions")
    }
    guard case .bool(let passed)? = object["passed"] else { throw fault("no \"passed\" that is true or false") }
    var grade = Grade(passed: passed)
    if let score = object["score"], score != .null {
      guard let value = score.double, (0...1).contains(value) else { throw fault("a \"score\" that is not in 0…1") }
      grade.score = value
    }
    if let parts = object["parts"], parts != .null {
      guard case .object(let members) = parts else { throw fault("\"parts\" that are no object") }
      grade.parts = try members.members.map { name, value in
        guard case .bool(let passed) = value else { throw fault("the part \"\(name)\" that is not true or false") }
        return Grade.Part(name: name, passed: passed)
      }
    }
    if case .string(let reason)? = object["reason"] { grade.reason = reason }
    if case .string(let version)? = object["version"] { grade.version = version }
    return grade
  }
}
