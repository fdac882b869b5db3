internal import Core
internal import Foundation

/// What a judge said with a status that is no success.
struct JudgeRefusal: Error, Equatable {
  let status: Int
  /// Nil if it said nothing that people can read.
  let message: String?
  /// The member of the request that it is about.
  let parameter: String?
  let code: String?

  /// Reads OpenAI's `{"error": {"message", "param", "code"}}` and what other services make of it.
  init(status: Int, body: [UInt8]) {
    self.status = status
    var value = try? JSONParser.parse(body)
    // Google's.
    if case .array(let list)? = value { value = list.first }
    guard case .object(let object)? = value else {
      let text = String(decoding: body, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
      // A page of some proxy.
      message = text.isEmpty || text.hasPrefix("<") ? nil : text
      parameter = nil
      code = nil
      return
    }
    var fields = object
    if case .object(let inner)? = object["error"] { fields = inner }
    message =
      Self.text(fields["message"]) ?? Self.text(fields["error"]) ?? Self.text(fields["detail"])
      ?? (object.members.isEmpty ? nil : JSONValue.object(object).text)
    parameter = Self.text(fields["param"])
    code = Self.text(fields["code"])
  }

  private static func text(_ value: JSONValue?) -> String? {
    switch value {
    case nil, .null?: nil
    case .string(let text)?: text.isEmpty ? nil : text
    case let value?: value.text
    }
  }

  /// For messages: in one line.
  var said: String { message.map { ServiceError.clipped($0) } ?? "status \(status)" }

  /// Whether the prompt is too long, which such a message may explain with `max_tokens`.
  var isAboutLength: Bool {
    let text = message?.lowercased() ?? ""
    return status == 413 || code == "context_length_exceeded" || text.contains("context length")
      || text.contains("context size")
  }

  /// Whether it is about this member of the request.
  func names(_ name: String) -> Bool {
    if let parameter, JudgeForm.parameters.contains(parameter) { return parameter == name }
    return message?.contains(name) == true
  }

  /// Whether another prompt may be taken: this one is too long or filtered, or nothing says what was wrong.
  var mayBeOfPrompt: Bool {
    guard [400, 413, 422].contains(status) else { return false }
    guard let parameter, !isAboutLength else { return true }
    return ["messages", "prompt", "input", "content"].contains { parameter.hasPrefix($0) }
  }
}

/// How requests differ from the usual form, for models that refuse that.
struct JudgeForm: OptionSet, Sendable {
  static let parameters = ["max_tokens", "temperature"]

  let rawValue: Int

  /// `max_completion_tokens` in place of `max_tokens`.
  static let completionTokens = JudgeForm(rawValue: 1)
  /// The temperature is the model's affair.
  static let noTemperature = JudgeForm(rawValue: 2)

  /// The form to ask in after a refusal; nil if that refused nothing that could be said otherwise.
  func adapted(to refusal: JudgeRefusal) -> JudgeForm? {
    guard [400, 422].contains(refusal.status), !refusal.isAboutLength else { return nil }
    var form = self
    if refusal.names("max_tokens") { form.insert(.completionTokens) }
    if refusal.names("temperature") { form.insert(.noTemperature) }
    return form == self ? nil : form
  }
}
