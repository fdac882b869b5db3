public import Core

/// One prompt of a task file: what is asked, and what its grader needs to know.
public struct EvaluationTask: Sendable, Equatable {
  public struct Message: Sendable, Equatable {
    public var role: String
    public var content: String

    public init(role: String, content: String) {
      self.role = role
      self.content = content
    }
  }

  /// How the prompt reaches a model.
  public enum Content: Sendable, Equatable {
    /// Through the model's chat template.
    case messages([Message])
    /// As it stands, with the special tokens that the vocabulary puts in front.
    case text(String)
  }

  /// A label to break results down by.
  public struct Tag: Sendable, Equatable, Hashable {
    public var name: String
    /// Texts as they are; numbers and booleans as JSON writes them.
    public var value: String

    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  /// Bytes that a line may have.
  public static let maximumLineBytes = 16 << 20
  /// Roles of messages.
  static let roles: Set<String> = ["system", "user", "assistant", "tool"]

  /// Unique in its file.
  public var id: String
  /// Which task the prompt belongs to; results are given per task.
  public var task: String
  public var content: Content
  /// What was asked, for graders and reports: the last message of the user.
  public var prompt: String
  /// Only the grader reads it.
  public var grader: JSONValue
  public var tags: [Tag]
  /// The whole line, which results are tied to.
  public var line: String

  public init(
    id: String, task: String, content: Content, prompt: String, grader: JSONValue, tags: [Tag] = [], line: String
  ) {
    self.id = id
    self.task = task
    self.content = content
    self.prompt = prompt
    self.grader = grader
    self.tags = tags
    self.line = line
  }

  /// What was asked, for a judge: the only message, or the whole conversation with who says what.
  public var question: String {
    guard case .messages(let messages) = content, messages.count > 1 else { return prompt }
    return messages.map { "\($0.role): \($0.content)" }.joined(separator: "\n\n")
  }

  /// The messages that a grader and a reward model see.
  public var messages: [Message] {
    switch content {
    case .messages(let messages): messages
    case .text: [Message(role: "user", content: prompt)]
    }
  }
}

extension EvaluationTask {
  /// Reads task lines: `{"id", "task", "messages", "grader", "tags"}`; further members are left alone. Empty lines are
  /// skipped. Throws `.badInput` that names source, line and fault.
  public static func read(_ text: some StringProtocol, source: String) throws -> [EvaluationTask] {
    var tasks: [EvaluationTask] = []
    var lines: [String: Int] = [:]
    for (number, line) in JSONLines.lines(of: text) {
      let place = "\(source):\(number)"
      let task = try parse(line, source: place)
      if let before = lines.updateValue(number, forKey: task.id) {
        throw FusionRouteError.badInput("\(place): the id \"\(task.id)\" stands on line \(before) already")
      }
      tasks.append(task)
    }
    guard !tasks.isEmpty else { throw FusionRouteError.badInput("\(source) has no tasks") }
    return tasks
  }

  /// Reads one line.
  public static func parse(_ line: String, source: String) throws -> EvaluationTask {
    func fault(_ what: String) -> FusionRouteError { .badInput("\(source): \(what)") }
    let object = try JSONLines.object(line, source: source)
    func text(_ key: String) throws -> String {
      guard case .string(let text)? = object[key], !text.isEmpty else {
        throw fault("a task must have \"\(key)\", a text that is not empty")
      }
      return text
    }
    let id = try text("id")
    let task = try text("task")
    guard task.allSatisfy({ $0.isLetter || $0.isNumber || "-_.".contains($0) }) else {
      throw fault("\"task\" is \"\(task)\" but must be one word")
    }
    guard case .array(let list)? = object["messages"], !list.isEmpty else {
      throw fault("a task must have \"messages\", a list that is not empty")
    }
    let messages = try list.enumerated().map { index, element in
      guard case .object(let message) = element, case .string(let role)? = message["role"],
        case .string(let content)? = message["content"]
      else { throw fault("message \(index + 1) must have a \"role\" and a \"content\", both texts") }
      guard roles.contains(role) else { throw fault("message \(index + 1) has the unknown role \"\(role)\"") }
      return Message(role: role, content: content)
    }
    guard let last = messages.last, last.role == "user" else { throw fault("the last message must be the user's") }
    guard case .object? = object["grader"] else { throw fault("a task must have \"grader\", an object") }
    return EvaluationTask(
      id: id, task: task, content: .messages(messages), prompt: last.content, grader: object["grader"] ?? .null,
      tags: try tags(object["tags"], fault), line: line)
  }

  private static func tags(_ value: JSONValue?, _ fault: (String) -> FusionRouteError) throws -> [Tag] {
    switch value {
    case nil, .null?: return []
    case .object(let object)?:
      return try object.members.map { name, value in
        switch value {
        case .string(let text): return Tag(name: name, value: text)
        case .bool, .integer, .number: return Tag(name: name, value: value.text)
        default: throw fault("the tag \"\(name)\" is \(value.kind) but must be a text, a number or a boolean")
        }
      }
    default: throw fault("\"tags\" must be an object")
    }
  }
}
