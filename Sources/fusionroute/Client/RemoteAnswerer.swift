internal import Coordinator
internal import Core
internal import Foundation
internal import Fusion
internal import Inference

/// Has prompts answered by a service.
struct RemoteAnswerer: Answerer {
  let experts: [String]
  let parallelism: Int
  /// What the service said of itself at the start.
  let status: CoordinatorStatus
  private let client: ServiceClient
  /// Whether the ids of prompts are asked for, which takes a request of its own.
  private let tellsPrompts: Bool
  /// Whether the service's router has a chat template; without one texts are continued as they stand, as by `run`.
  private let hasTemplate: Bool

  private struct Tokens: Decodable { var tokens: [Token] }

  private struct TokenizerInformation: Decodable {
    private enum CodingKeys: CodingKey { case chatTemplate }

    /// False if it says that there is none, not if it says nothing.
    var hasTemplate: Bool

    init(from decoder: any Decoder) throws {
      let values = try decoder.container(keyedBy: CodingKeys.self)
      hasTemplate = try !values.contains(.chatTemplate) || !values.decodeNil(forKey: .chatTemplate)
    }
  }

  /// Throws what keeps the service from being reached.
  init(_ client: ServiceClient, tellsPrompts: Bool) async throws {
    let status = try await client.get("/fusionroute/status", as: CoordinatorStatus.self)
    self.client = client
    self.status = status
    self.tellsPrompts = tellsPrompts
    experts = status.experts.filter(\.routed).map(\.name)
    parallelism = max(1, status.router.slots)
    hasTemplate = try await Self.hasChatTemplate(client)
  }

  /// A service that does not tell, being older or another, is taken to have one.
  private static func hasChatTemplate(_ client: ServiceClient) async throws -> Bool {
    do {
      return try await client.get("/tokenizer_info", as: TokenizerInformation.self).hasTemplate
    } catch is FusionRouteError {
      return true
    }
  }

  func answer(
    _ prompt: Prompt, options: GenerationOptions, emit: @Sendable (AnswerEvent) -> Void
  ) async throws {
    let (path, field) = try await question(prompt, options: options, emit: emit)
    var reader = AnswerReader()
    let body = JSONText.object([field] + Self.fields(prompt, options: options)).utf8
    try await client.stream(path, body) { event in
      let chunk: AnswerChunk
      do { chunk = try JSONDecoder().decode(AnswerChunk.self, from: Data(event.data.utf8)) } catch {
        throw FusionRouteError.unavailable(
          "\(client.url) sent a chunk that this program does not understand", cause: error)
      }
      for event in reader.add(chunk) { emit(event) }
    }
    guard let summary = reader.summary else {
      throw FusionRouteError.unavailable(
        "\(client.url) does not say who decided the tokens: it is no FusionRoute service")
    }
    emit(.finished(summary))
  }

  /// Where a prompt is sent and the field that holds it; tells the prompt's ids if they are known or wanted.
  private func question(
    _ prompt: Prompt, options: GenerationOptions, emit: (AnswerEvent) -> Void
  ) async throws -> (path: String, field: (String, JSONText)) {
    let raw = prompt.raw ?? options.raw
    let tokens: [Token]
    switch prompt.content {
    case .text(let text) where raw:
      // As ids, since a service may add special tokens to a text.
      tokens = try await tokenize([
        ("content", .text(text)), ("add_special", .bool(false)), ("parse_special", .bool(false)),
      ])
    case .document(let text):
      tokens = try await continued(text)
    case .text(let text) where !hasTemplate:
      tokens = try await continued(text)
    case .text(let text):
      return try await conversation([ChatMessage(role: "user", content: text)], prompt, options: options, emit: emit)
    case .messages(let messages):
      guard !raw else { throw FusionRouteError.badInput("\"messages\" need the chat template, which `raw` leaves out") }
      return try await conversation(messages, prompt, options: options, emit: emit)
    case .tokens(let own):
      tokens = own
    }
    emit(.prompt(tokens))
    return ("/v1/completions", ("prompt", Self.json(tokens)))
  }

  /// The ids of a text as it stands, behind the special tokens that the vocabulary puts in front.
  private func continued(_ text: String) async throws -> [Token] {
    try await tokenize([("content", .text(text)), ("add_special", .bool(true)), ("parse_special", .bool(false))])
  }

  private func conversation(
    _ messages: [ChatMessage], _ prompt: Prompt, options: GenerationOptions, emit: (AnswerEvent) -> Void
  ) async throws -> (path: String, field: (String, JSONText)) {
    let field = ("messages", Self.json(messages))
    // OpenAI's chat answers have at least a token; its completions may have none.
    let wantsNothing = (prompt.maximumTokens ?? options.maxTokens) == 0
    guard tellsPrompts || wantsNothing else { return ("/v1/chat/completions", field) }
    let tokens = try await tokenize([field])
    emit(.prompt(tokens))
    return wantsNothing ? ("/v1/completions", ("prompt", Self.json(tokens))) : ("/v1/chat/completions", field)
  }

  private func tokenize(_ fields: [(String, JSONText)]) async throws -> [Token] {
    try client.decode(try await client.post("/tokenize", JSONText.object(fields).utf8), as: Tokens.self).tokens
  }

  /// All of a request but its prompt.
  static func fields(_ prompt: Prompt, options: GenerationOptions) -> [(String, JSONText)] {
    let sampling = prompt.sampling.applied(to: options.sampling)
    var fields: [(String, JSONText)] = [
      ("model", .text(model(prompt.mode ?? options.mode.mode))), ("stream", .bool(true)),
      ("stream_options", .object([("include_usage", .bool(true))])),
      ("max_tokens", .integer(prompt.maximumTokens ?? options.maxTokens)),
      ("temperature", .float(sampling.temperature)),
      // The same 64 bits as a signed number, which is what OpenAI's field is.
      ("seed", .integer(Int(Int64(bitPattern: sampling.seed)))), ("top_p", .float(sampling.topP)),
      ("top_k", .integer(sampling.topK)), ("min_p", .float(sampling.minP)),
      ("repetition_penalty", .float(sampling.repetitionPenalty)),
      ("presence_penalty", .float(sampling.presencePenalty)),
      ("frequency_penalty", .float(sampling.frequencyPenalty)),
    ]
    let stop = prompt.stop ?? options.stop
    if !stop.isEmpty { fields.append(("stop", .array(stop.map { .text($0) }))) }
    if !sampling.logitBias.isEmpty {
      // JSON has no infinity; nothing makes up for the largest bias either.
      let bias = sampling.logitBias.sorted { $0.key < $1.key }
        .map { ("\($0.key)", JSONText.float(max(-SamplingParameters.maximumBias, $0.value))) }
      fields.append(("logit_bias", .object(bias)))
    }
    var own: [(String, JSONText)] = []
    if let fanout = options.fanout { own.append(("fanout", .text(fanout.rawValue))) }
    if let warm = options.warm { own.append(("warm", .text(warm.rawValue))) }
    if !own.isEmpty { fields.append(("fusionroute", .object(own))) }
    return fields
  }

  static func model(_ mode: DecodingMode) -> String {
    mode == .fusion ? "fusionroute" : "fusionroute:\(mode)"
  }

  private static func json(_ messages: [ChatMessage]) -> JSONText {
    .array(messages.map { .object([("role", .text($0.role)), ("content", .text($0.content))]) })
  }

  private static func json(_ tokens: [Token]) -> JSONText { .array(tokens.map { .integer(Int($0)) }) }
}
