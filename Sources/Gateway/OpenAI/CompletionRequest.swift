internal import Core

/// The body of `/v1/completions`.
struct CompletionRequest: Sendable {
  enum Prompt: Sendable, Equatable {
    case text(String)
    case tokens([Token])
  }

  var prompts: [Prompt]
  var options: AnswerOptions
  /// Whether the answer starts with the prompt.
  var echoes: Bool

  init(_ fields: FieldReader, body: [UInt8], experts: [String], vocabulary: Int) throws {
    prompts = try Self.prompts(fields, vocabulary: vocabulary)
    options = try AnswerOptions(fields, body: body, experts: experts, vocabulary: vocabulary, minimumTokens: 0)
    options.logprobs = try fields.integer("logprobs", in: 0...GatewayLimits.alternatives)
    echoes = try fields.bool("echo") ?? false
    try fields.refuse("suffix", unless: { $0 == .string("") }, "the models write on, they do not fill in")
    guard prompts.count * options.choices <= GatewayLimits.answers else {
      throw GatewayError.invalid(
        fields.path("n"),
        "\(prompts.count) prompts with n = \(options.choices) make "
          + "\(prompts.count * options.choices) answers: there may be \(GatewayLimits.answers) to a request")
    }
  }

  /// A string, a list of strings, a list of token ids, or a list of lists of token ids.
  private static func prompts(_ fields: FieldReader, vocabulary: Int) throws -> [Prompt] {
    let path = fields.path("prompt")
    switch fields["prompt"] {
    case .string(let text): return [.text(text)]
    case .array(let elements):
      guard let first = elements.first else {
        throw GatewayError.invalid(path, "\(path) is empty: give at least one prompt")
      }
      if case .integer = first { return [.tokens(try tokens(elements, path: path, vocabulary: vocabulary))] }
      guard elements.count <= GatewayLimits.answers else {
        throw GatewayError.invalid(
          path, "\(path) has \(elements.count) prompts: there may be \(GatewayLimits.answers) to a request")
      }
      return try elements.enumerated().map { index, element in
        switch (first, element) {
        case (.string, .string(let text)): return .text(text)
        case (.array, .array(let ids)):
          return .tokens(try tokens(ids, path: "\(path)[\(index)]", vocabulary: vocabulary))
        default:
          throw GatewayError.invalid(
            "\(path)[\(index)]",
            "\(path)[\(index)] is \(element.kind): a prompt must be a string or a list of token ids, "
              + "and all prompts of a list of one kind")
        }
      }
    case nil: throw GatewayError.invalid(path, "\(path) is missing: give the text to go on from")
    case let other?: throw fields.mismatch("prompt", other, "a string, a list of strings or token ids")
    }
  }

  /// Token ids of the vocabulary.
  static func tokens(_ values: [JSONValue], path: String, vocabulary: Int) throws -> [Token] {
    try values.enumerated().map { index, value in
      Token(
        try FieldReader.integer(value, path: "\(path)[\(index)]", in: 0...Int64(vocabulary - 1)))
    }
  }
}
