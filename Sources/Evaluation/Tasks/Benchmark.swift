internal import Core

/// A published benchmark, read from the JSON Lines, or the array, that its authors publish.
public enum Benchmark: String, Sendable, CaseIterable {
  case gsm8k, math500, mbpp, humaneval, ifeval

  /// How a question reaches the model.
  public enum Frame: String, Sendable, CaseIterable {
    /// The paper's text around the instruction, without a chat template.
    case paper
    /// The instruction as the user's message, through the model's chat template.
    case chat
  }

  /// The paper's prompt around an instruction.
  public static func framed(_ instruction: String) -> String {
    """
    Below is an instruction that describes a task. Write a response that appropriately completes the request.

    Instruction: \(instruction)

    Assistant:
    """
  }

  /// Columns that tell where a file comes from, for messages.
  var columns: String {
    switch self {
    case .gsm8k: "\"question\" and \"answer\""
    case .math500: "\"problem\" and \"answer\""
    case .mbpp: "\"task_id\", \"text\" or \"prompt\", and \"test_list\""
    case .humaneval: "\"task_id\", \"prompt\", \"entry_point\" and \"test\""
    case .ifeval: "\"key\", \"prompt\", \"instruction_id_list\" and \"kwargs\""
    }
  }

  /// Reads a published file. The whole record goes to the grader, as `{"name": …, "record": …}`.
  ///
  /// Throws `.badInput` that names source, line and the columns that are expected.
  public func read(_ text: some StringProtocol, source: String, frame: Frame) throws -> [EvaluationTask] {
    var tasks: [EvaluationTask] = []
    var seen: Set<String> = []
    for (place, number, line, record) in try JSONLines.records(of: text, source: source) {
      guard let instruction = instruction(record) else {
        let keys = record.members.map { "\"\($0.key)\" (\($0.value.kind))" }.joined(separator: ", ")
        throw FusionRouteError.badInput("\(place): \(rawValue) has \(columns); this record has \(keys)")
      }
      var id = "\(rawValue)/\(identifier(record) ?? "\(number)")"
      if !seen.insert(id).inserted {
        id += "#\(number)"
        seen.insert(id)
      }
      tasks.append(
        EvaluationTask(
          id: id, task: rawValue,
          content: frame == .paper
            ? .text(Self.framed(instruction)) : .messages([.init(role: "user", content: instruction)]),
          prompt: instruction, grader: .members([("name", .string(rawValue)), ("record", .object(record))]),
          tags: tags(record), line: "\(frame.rawValue) \(line)"))
    }
    guard !tasks.isEmpty else { throw FusionRouteError.badInput("\(source) has no records") }
    return tasks
  }

  /// What the model is asked; nil if the record lacks a column.
  func instruction(_ record: JSONObject) -> String? {
    func text(_ keys: String...) -> String? {
      for key in keys { if case .string(let text)? = record[key], !text.isEmpty { return text } }
      return nil
    }
    func number(_ keys: String...) -> Bool { keys.contains { record[$0]?.double != nil } }
    switch self {
    case .gsm8k:
      guard text("answer", "expected", "upstream_answer") != nil || number("answer", "expected") else { return nil }
      return text("question", "prompt")
    case .math500:
      guard text("answer", "solution") != nil || number("answer") else { return nil }
      return text("problem").map { "\($0)\n\nPut the final answer in \\boxed{}." }
    case .mbpp:
      guard let question = text("text", "prompt"), let tests = strings(record["test_list"]) else { return nil }
      return "\(question)\nYour code should pass these tests:\n\n\(tests.joined(separator: "\n"))"
    case .humaneval:
      guard let prompt = text("prompt"), text("test") != nil, text("entry_point") != nil else { return nil }
      return "Complete the following Python function. Answer with the whole function.\n\n```python\n\(prompt)\n```"
    case .ifeval:
      guard strings(record["instruction_id_list"]) != nil, case .array? = record["kwargs"] else { return nil }
      return text("prompt")
    }
  }

  private func strings(_ value: JSONValue?) -> [String]? {
    guard case .array(let list)? = value, !list.isEmpty else { return nil }
    let texts = list.compactMap { if case .string(let text) = $0 { text } else { nil } }
    return texts.count == list.count ? texts : nil
  }

  private func identifier(_ record: JSONObject) -> String? {
    for key in ["task_id", "unique_id", "key", "id"] {
      switch record[key] {
      case .string(let text)? where !text.isEmpty: return text
      case .integer(let number)?: return "\(number)"
      default: continue
      }
    }
    return nil
  }

  private func tags(_ record: JSONObject) -> [EvaluationTask.Tag] {
    guard self == .math500 else { return [] }
    return ["subject", "level"].compactMap { key in
      switch record[key] {
      case .string(let text)?: EvaluationTask.Tag(name: key, value: text)
      case .integer(let number)?: EvaluationTask.Tag(name: key, value: "\(number)")
      default: nil
      }
    }
  }
}
