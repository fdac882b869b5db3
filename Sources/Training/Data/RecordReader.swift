public import Core
public import Inference

/// One line of a data file.
public enum TrainingRecord: Sendable, Equatable {
  /// A text to learn as a whole.
  case text(String)
  /// A conversation; every message of the assistant is a response.
  case conversation([ChatMessage])
  /// Two answers to a conversation that ends before them.
  case preference(prompt: [ChatMessage], chosen: String, rejected: String)
}

/// Where a record stands.
public struct RecordSource: Sendable, Hashable, CustomStringConvertible {
  public var file: String
  public var line: Int
  /// What the record's `task` says, for results by task.
  public var task: String?

  public init(file: String, line: Int, task: String? = nil) {
    self.file = file
    self.line = line
    self.task = task
  }

  public var description: String { "\(file):\(line)" }
}

/// Reads JSONL data: `{"messages": [{"role", "content"}…]}`, `{"prompt", "completion"}`, `{"prompt", "chosen",
/// "rejected"}` or `{"text"}` a line. A prompt is a text or a list of messages; an answer is a text or a list with one
/// message of the assistant.
public enum RecordReader {
  /// Longest line.
  public static let maximumLineBytes = 16 << 20
  public static let roles: Set<String> = ["system", "user", "assistant", "tool"]

  /// Reads a file. Throws `.badInput` that names file, line and fault.
  public static func read(_ path: String) throws -> [(record: TrainingRecord, source: RecordSource)] {
    let data = try TextFile.bytes(path, what: "the data file")
    var records: [(TrainingRecord, RecordSource)] = []
    var number = 0
    // Some programs begin UTF-8 files with a byte order mark.
    var start = data.startIndex + (data.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)
    while start < data.endIndex {
      let end = data[start...].firstIndex(of: UInt8(ascii: "\n")) ?? data.endIndex
      number += 1
      let line = data[start..<end]
      start = end < data.endIndex ? end + 1 : end
      guard line.contains(where: { $0 != 0x20 && $0 != 0x0D && $0 != 0x09 }) else { continue }
      var source = RecordSource(file: path, line: number)
      let object = try parse(line, source: source)
      if case .string(let task)? = object["task"] { source.task = task }
      records.append((try record(object, source: source), source))
    }
    guard !records.isEmpty else { throw FusionRouteError.badInput("the data file \(path) has no records") }
    return records
  }

  private static func parse(_ line: ArraySlice<UInt8>, source: RecordSource) throws -> JSONObject {
    func fault(_ what: String) -> FusionRouteError { .badInput("\(source): \(what)") }
    guard line.count <= maximumLineBytes else { throw fault("the line is longer than \(maximumLineBytes) bytes") }
    let value: JSONValue
    do {
      value = try JSONParser.parse(Array(line))
    } catch let failure as JSONParser.Failure {
      throw fault("this is no JSON: \(failure.message) (byte \(failure.offset + 1) of the line)")
    }
    guard case .object(let object) = value else { throw fault("a record must be an object, not \(value.kind)") }
    return object
  }

  private static func record(_ object: JSONObject, source: RecordSource) throws -> TrainingRecord {
    func fault(_ what: String) -> FusionRouteError { .badInput("\(source): \(what)") }
    if let messages = object["messages"] { return .conversation(try self.messages(messages, "messages", fault)) }
    if let text = object["text"] {
      guard case .string(let text) = text else { throw fault("\"text\" must be a string, not \(text.kind)") }
      guard !text.isEmpty else { throw fault("\"text\" is empty") }
      return .text(text)
    }
    guard let prompt = object["prompt"] else {
      throw fault(
        "the record has neither \"messages\" nor \"prompt\" nor \"text\"; its keys are "
          + (object.members.isEmpty ? "none" : object.members.map { "\"\($0.key)\"" }.joined(separator: ", ")))
    }
    let before = try self.prompt(prompt, fault)
    if let completion = object["completion"] ?? object["response"] {
      return .conversation(
        before + [ChatMessage(role: "assistant", content: try answer(completion, "completion", before, fault))])
    }
    guard let chosen = object["chosen"], let rejected = object["rejected"] else {
      throw fault("beside \"prompt\" there must be \"completion\", or \"chosen\" and \"rejected\"")
    }
    return .preference(
      prompt: before, chosen: try answer(chosen, "chosen", before, fault),
      rejected: try answer(rejected, "rejected", before, fault))
  }

  /// A prompt's messages: of a text, one of the user.
  public static func prompt(_ value: JSONValue, source: String) throws -> [ChatMessage] {
    try prompt(value) { .badInput("\(source): \($0)") }
  }

  private typealias Fault = (String) -> FusionRouteError

  private static func prompt(_ value: JSONValue, _ fault: Fault) throws -> [ChatMessage] {
    if case .string(let text) = value { return [ChatMessage(role: "user", content: text)] }
    return try messages(value, "prompt", fault)
  }

  private static func answer(
    _ value: JSONValue, _ key: String, _ prompt: [ChatMessage], _ fault: Fault
  ) throws -> String {
    let text: String
    if case .string(let whole) = value {
      text = whole
    } else {
      // Some files repeat the prompt's messages in front.
      let list = try messages(value, key, fault)
      let own = list.starts(with: prompt) ? Array(list.dropFirst(prompt.count)) : list
      guard own.count == 1, let message = own.first, message.role == "assistant" else {
        throw fault("\"\(key)\" must be a text or one message of the assistant")
      }
      text = message.content
    }
    guard !text.allSatisfy(\.isWhitespace) else { throw fault("\"\(key)\" is empty") }
    return text
  }

  private static func messages(_ value: JSONValue, _ key: String, _ fault: Fault) throws -> [ChatMessage] {
    guard case .array(let list) = value, !list.isEmpty else {
      throw fault("\"\(key)\" must be a list of messages")
    }
    return try list.enumerated().map { index, element in
      guard case .object(let object) = element, case .string(let role)? = object["role"],
        case .string(let content)? = object["content"]
      else { throw fault("message \(index + 1) of \"\(key)\" must have a \"role\" and a \"content\", both texts") }
      guard roles.contains(role) else {
        throw fault(
          "message \(index + 1) of \"\(key)\" has the unknown role \"\(role)\"; roles are "
            + roles.sorted().joined(separator: ", "))
      }
      guard role != "assistant" || !content.allSatisfy(\.isWhitespace) else {
        throw fault("message \(index + 1) of \"\(key)\", an answer of the assistant, is empty")
      }
      return ChatMessage(role: role, content: content)
    }
  }
}
