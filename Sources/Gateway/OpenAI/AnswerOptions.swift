internal import Core
internal import Coordinator
internal import Core
internal import Fusion

/// What chat and plain completions have in common, checked.
struct AnswerOptions: Sendable {
  var model: ModelName
  var sampling: SamplingParameters
  /// Given, or drawn for this request.
  var seed: UInt64
  /// New tokens; nil: the configuration's.
  var maximumTokens: Int?
  /// Answers per prompt.
  var choices: Int
  var stop: [String]
  var streams: Bool
  var includesUsage: Bool
  /// Most probable tokens to tell with each token; nil: no log-probabilities.
  var logprobs: Int?
  var format: ResponseFormat
  /// Whom the request says that it is for.
  var user: String?
  var runtime: RuntimeOptions

  /// - Parameters:
  ///   - minimumTokens: the least that a maximum of tokens may be.
  ///   - vocabulary: number of tokens, which bounds the ids of `logit_bias`.
  init(_ fields: FieldReader, body: [UInt8], experts: [String], vocabulary: Int, minimumTokens: Int) throws {
    model = try ModelName(reading: "model", of: fields, experts: experts)
    runtime = try RuntimeOptions(fields)
    let maximum = minimumTokens...Int(Int32.max)
    let given = try fields.integer("max_tokens", in: maximum)
    maximumTokens = try fields.integer("max_completion_tokens", in: maximum) ?? given
    choices = try fields.integer("n", in: 1...GatewayLimits.answers) ?? 1
    stop = try Self.stop(fields)
    streams = try fields.bool("stream") ?? false
    includesUsage = try Self.includesUsage(fields, streams: streams)
    user = try fields.string("user").map { String($0.prefix(GatewayLimits.userLength)) }
    format = try ResponseFormat(fields, body: body)
    // Drawn below 2^53, which every client's JSON reads back exactly.
    seed =
      try fields.integer("seed", in: Int64.min...Int64.max).map { UInt64(bitPattern: $0) }
      ?? UInt64.random(in: 0..<1 << 53)
    sampling = SamplingParameters(temperature: 1, seed: seed)
    logprobs = nil
    try readSampling(fields, vocabulary: vocabulary)
    if let best = try fields.integer("best_of", in: 1...GatewayLimits.answers), best > choices {
      throw GatewayError.invalid(
        fields.path("best_of"),
        "best_of is \(best) and n is \(choices): choosing among more answers than are returned "
          + "is not supported", code: "unsupported_parameter")
    }
  }

  private mutating func readSampling(_ fields: FieldReader, vocabulary: Int) throws {
    let penalties = -SamplingParameters.maximumPenalty...SamplingParameters.maximumPenalty
    if let value = try fields.number("temperature", in: 0...SamplingParameters.maximumTemperature) {
      sampling.temperature = value
    }
    if let value = try fields.number("top_p", in: 0...1) { sampling.topP = value }
    if let value = try fields.number("presence_penalty", in: penalties) { sampling.presencePenalty = value }
    if let value = try fields.number("frequency_penalty", in: penalties) { sampling.frequencyPenalty = value }
    // Both at the top, as vLLM and llama.cpp name them, and among our own fields, which win.
    for fields in [fields, try fields.object("fusionroute")].compactMap(\.self) {
      if let value = try fields.integer("top_k", in: 0...Int(Int32.max)) { sampling.topK = value }
      if let value = try fields.number("min_p", in: 0...1) { sampling.minP = value }
      if let value = try fields.number("repetition_penalty", in: SamplingParameters.repetitionPenalties) {
        sampling.repetitionPenalty = value
      }
    }
    guard let bias = try fields.object("logit_bias") else { return }
    for (key, value) in bias.object.members {
      let path = fields.path("logit_bias")
      guard let token = Int32(key), token >= 0, Int(token) < vocabulary else {
        throw GatewayError.invalid(
          path, "logit_bias has the key \"\(key.clipped)\": its keys must be token ids from 0 to \(vocabulary - 1)")
      }
      let number = try FieldReader.number(value, path: "\(path).\(key)")
      guard abs(number) <= Double(SamplingParameters.maximumBias) else {
        throw GatewayError.invalid(
          path,
          "logit_bias of token \(token) is \(number): it must be from -\(SamplingParameters.maximumBias) to "
            + "\(SamplingParameters.maximumBias)")
      }
      sampling.logitBias[token] = Float(number)
    }
  }

  private static func stop(_ fields: FieldReader) throws -> [String] {
    guard let value = fields["stop"] else { return [] }
    let path = fields.path("stop")
    let elements: [JSONValue]
    switch value {
    case .string: elements = [value]
    case .array(let array): elements = array
    default: throw fields.mismatch("stop", value, "a string or an array of strings")
    }
    guard elements.count <= GatewayLimits.stopStrings else {
      throw GatewayError.invalid(
        path, "stop has \(elements.count) strings: there may be \(GatewayLimits.stopStrings)")
    }
    return try elements.enumerated().map { index, element in
      let place = elements.count == 1 && element == value ? path : "\(path)[\(index)]"
      guard case .string(let text) = element else {
        throw GatewayError.invalid(place, "\(place) must be a string, not \(element.kind)")
      }
      guard !text.isEmpty else { throw GatewayError.invalid(place, "\(place) is empty: leave it out") }
      return text
    }
  }

  private static func includesUsage(_ fields: FieldReader, streams: Bool) throws -> Bool {
    guard let options = try fields.object("stream_options") else { return false }
    guard streams else {
      throw GatewayError.invalid(fields.path("stream_options"), "stream_options is only for requests with stream: true")
    }
    return try options.bool("include_usage") ?? false
  }
}

/// What only this server knows: the request's field `fusionroute`.
struct RuntimeOptions: Sendable {
  /// Most probable tokens to tell with each token, with both models' logits; nil: none.
  var alternatives: Int?
  /// nil, here and below: the configuration's.
  var fanout: FanoutPolicy?
  var warm: WarmPolicy?
  var onExpertLoss: ExpertLossPolicy?

  init(_ fields: FieldReader) throws {
    guard let fields = try fields.object("fusionroute") else { return }
    alternatives = try fields.integer("alternatives", in: 0...GatewayLimits.alternatives)
    fanout = try fields.choice("fanout", of: FanoutPolicy.self)
    warm = try fields.choice("warm", of: WarmPolicy.self)
    onExpertLoss = try fields.choice("on_expert_loss", of: ExpertLossPolicy.self)
  }
}
