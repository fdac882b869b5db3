internal import Core
internal import Fusion
internal import Inference
internal import Launch

/// A prompt as a JSON object; unknown keys are errors.
struct PromptObject: Decodable {
  enum Key: String, CodingKey, CaseIterable {
    case prompt, messages, tokens, raw, mode, stop, temperature, seed
    case maxTokens = "max_tokens"
    case topK = "top_k"
    case topP = "top_p"
    case minP = "min_p"
    case repetitionPenalty = "repetition_penalty"
    case presencePenalty = "presence_penalty"
    case frequencyPenalty = "frequency_penalty"
    case logitBias = "logit_bias"
  }

  private struct AnyKey: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  private struct Message: Decodable {
    var role: String
    var content: String
  }

  private var content: Prompt.Content
  private var settings: Prompt

  init(from decoder: any Decoder) throws {
    for key in try decoder.container(keyedBy: AnyKey.self).allKeys where Key(rawValue: key.stringValue) == nil {
      let known = Key.allCases.map(\.rawValue)
      let near = NearestName.find(key.stringValue, among: known).map { "did you mean \"\($0)\"?" }
      throw FusionRouteError.badInput(
        "unknown key \"\(key.stringValue)\": \(near ?? "the keys are \(known.joined(separator: ", "))")")
    }
    let values = try decoder.container(keyedBy: Key.self)
    let text = try values.decodeIfPresent(String.self, forKey: .prompt)
    let messages = try values.decodeIfPresent([Message].self, forKey: .messages)
    let tokens = try values.decodeIfPresent([Token].self, forKey: .tokens)
    switch (text, messages, tokens) {
    case (let text?, nil, nil): content = .text(text)
    case (nil, let messages?, nil):
      content = .messages(messages.map { ChatMessage(role: $0.role, content: $0.content) })
    case (nil, nil, let tokens?): content = .tokens(tokens)
    default: throw FusionRouteError.badInput("exactly one of \"prompt\", \"messages\" and \"tokens\" is needed")
    }
    settings = Prompt(label: nil, content: content)
    settings.raw = try values.decodeIfPresent(Bool.self, forKey: .raw)
    settings.maximumTokens = try values.decodeIfPresent(Int.self, forKey: .maxTokens)
    if let text = try values.decodeIfPresent(String.self, forKey: .mode) {
      guard let mode = DecodingMode(parsing: text) else {
        throw FusionRouteError.badInput(
          "\"mode\" is \"\(text)\" but must be fusion, expert:NAME, router or no-complement")
      }
      settings.mode = mode
    }
    if values.contains(.stop) {
      if let one = try? values.decode(String.self, forKey: .stop) {
        settings.stop = [one]
      } else {
        settings.stop = try values.decodeIfPresent([String].self, forKey: .stop)
      }
    }
    settings.sampling = try Self.sampling(values)
  }

  private static func sampling(_ values: KeyedDecodingContainer<Key>) throws -> SamplingOverrides {
    var sampling = SamplingOverrides()
    sampling.temperature = try values.decodeIfPresent(Float.self, forKey: .temperature)
    sampling.seed = try values.decodeIfPresent(UInt64.self, forKey: .seed)
    sampling.topK = try values.decodeIfPresent(Int.self, forKey: .topK)
    sampling.topP = try values.decodeIfPresent(Float.self, forKey: .topP)
    sampling.minP = try values.decodeIfPresent(Float.self, forKey: .minP)
    sampling.repetitionPenalty = try values.decodeIfPresent(Float.self, forKey: .repetitionPenalty)
    sampling.presencePenalty = try values.decodeIfPresent(Float.self, forKey: .presencePenalty)
    sampling.frequencyPenalty = try values.decodeIfPresent(Float.self, forKey: .frequencyPenalty)
    guard let bias = try values.decodeIfPresent([String: Float].self, forKey: .logitBias) else { return sampling }
    sampling.logitBias = [:]
    for (text, value) in bias {
      guard let token = Token(text) else {
        throw FusionRouteError.badInput("\"logit_bias\" has the key \"\(text)\", but its keys must be token ids")
      }
      sampling.logitBias?[token] = value
    }
    return sampling
  }

  func prompt(label: String) -> Prompt {
    var prompt = settings
    prompt.label = label
    return prompt
  }

  /// - Parameter isObject: whether the text is a JSON object at all.
  static func sentence(for error: DecodingError, isObject: Bool) -> String {
    func path(_ context: DecodingError.Context) -> String {
      context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
    }
    switch error {
    case .typeMismatch(let type, let context): return "\"\(path(context))\" must be \(name(of: type))"
    case .valueNotFound(let type, let context): return "\"\(path(context))\" must be \(name(of: type)), not null"
    case .keyNotFound(let key, let context): return "\"\(path(context))\" lacks \"\(key.stringValue)\""
    case .dataCorrupted(let context):
      // Foundation says the same of broken JSON and of a number that does not fit its type.
      if isObject { return "a number in it does not fit where it stands: a whole number in range is needed there" }
      return context.codingPath.isEmpty ? "no valid JSON object" : "\"\(path(context))\" is out of range"
    @unknown default: return "no valid prompt"
    }
  }

  private static func name(of type: Any.Type) -> String {
    switch type {
    case is String.Type: "text"
    case is Bool.Type: "true or false"
    case is Float.Type, is Double.Type: "a number"
    case is Int.Type, is Token.Type, is UInt64.Type: "a whole number"
    default: "\(type)".hasPrefix("Array") ? "a list" : "an object"
    }
  }
}
