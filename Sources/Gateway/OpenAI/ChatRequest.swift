internal import Core
internal import Inference

/// The body of `/v1/chat/completions`.
struct ChatRequest: Sendable {
  var messages: [ChatMessage]
  var options: AnswerOptions

  init(_ fields: FieldReader, body: [UInt8], experts: [String], vocabulary: Int) throws {
    messages = try Self.messages(fields)
    options = try AnswerOptions(fields, body: body, experts: experts, vocabulary: vocabulary, minimumTokens: 1)
    let top = try fields.integer("top_logprobs", in: 0...GatewayLimits.alternatives)
    if try fields.bool("logprobs") ?? false {
      options.logprobs = top ?? 0
    } else if top != nil {
      throw GatewayError.invalid(fields.path("top_logprobs"), "top_logprobs needs logprobs: true")
    }
    try Self.refuseTools(fields)
  }

  private static func refuseTools(_ fields: FieldReader) throws {
    let isEmpty = { (value: JSONValue) in value == .array([]) }
    let reason = "this server's models call no tools or functions"
    try fields.refuse("tools", unless: isEmpty, reason)
    try fields.refuse("functions", unless: isEmpty, reason)
    let harmless: Set<String> = ["none", "auto"]
    for name in ["tool_choice", "function_call"] {
      try fields.refuse(
        name, unless: { if case .string(let text) = $0 { harmless.contains(text) } else { false } }, reason)
    }
    try fields.refuse("modalities", unless: { $0 == .array([.string("text")]) }, "answers are text")
    try fields.refuse("audio", "answers are text")
  }

  /// The field `messages`, which must not be empty.
  static func messages(_ fields: FieldReader) throws -> [ChatMessage] {
    let path = fields.path("messages")
    guard let elements = try fields.array("messages") else {
      throw GatewayError.invalid(path, "\(path) is missing: give the conversation")
    }
    guard !elements.isEmpty else { throw GatewayError.invalid(path, "\(path) is empty: give at least one message") }
    return try elements.enumerated().map { index, element in
      guard case .object(let object) = element else {
        throw GatewayError.invalid("\(path)[\(index)]", "\(path)[\(index)] must be an object, not \(element.kind)")
      }
      return try message(FieldReader(object, prefix: "\(path)[\(index)]."))
    }
  }

  private static func message(_ fields: FieldReader) throws -> ChatMessage {
    let role: String
    switch try fields.string("role") {
    case "system", "developer": role = "system"
    case "user": role = "user"
    case "assistant": role = "assistant"
    case let other?:
      let isTool = other == "tool" || other == "function"
      let path = fields.path("role")
      throw GatewayError.invalid(
        path,
        isTool
          ? "\(path) is \"\(other)\": this server's models call no tools or functions"
          : "\(path) is \"\(other.clipped)\": it must be system, developer, user or assistant")
    case nil:
      throw GatewayError.invalid(
        fields.path("role"), "\(fields.path("role")) is missing: it must be system, developer, user or assistant")
    }
    try fields.refuse("tool_calls", unless: { $0 == .array([]) }, "this server's models call no tools or functions")
    return ChatMessage(role: role, content: try content(fields))
  }

  /// A string, or a list of parts whose texts are joined by line breaks.
  private static func content(_ fields: FieldReader) throws -> String {
    let path = fields.path("content")
    switch fields["content"] {
    case .string(let text): return text
    case .array(let parts):
      guard !parts.isEmpty else { throw GatewayError.invalid(path, "\(path) is empty: give at least one part") }
      return try parts.enumerated().map { index, part in
        guard case .object(let object) = part else {
          throw GatewayError.invalid("\(path)[\(index)]", "\(path)[\(index)] must be an object, not \(part.kind)")
        }
        return try text(FieldReader(object, prefix: "\(path)[\(index)]."))
      }.joined(separator: "\n")
    case nil: throw GatewayError.invalid(path, "\(path) is missing: give the message's text")
    case let other?: throw fields.mismatch("content", other, "a string or an array of text parts")
    }
  }

  private static func text(_ part: FieldReader) throws -> String {
    guard let type = try part.string("type") else {
      throw GatewayError.invalid(part.path("type"), "\(part.path("type")) is missing: it must be \"text\"")
    }
    guard type == "text" else {
      throw GatewayError.invalid(
        part.path("type"), "\(part.path("type")) is \"\(type.clipped)\": this server's models read text only")
    }
    guard let text = try part.string("text") else {
      throw GatewayError.invalid(part.path("text"), "\(part.path("text")) is missing: give the part's text")
    }
    return text
  }
}
