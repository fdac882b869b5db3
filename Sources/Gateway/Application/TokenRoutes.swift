internal import Core
internal import Hummingbird
internal import Inference

/// `/tokenize` and `/detokenize`, with the fields of llama.cpp and those of vLLM.
struct TokenRoutes: Sendable {
  let environment: GatewayEnvironment

  private enum Source: Sendable {
    case text(String, addSpecial: Bool, parseSpecial: Bool)
    case chat([ChatMessage])
  }

  func tokenize(_ request: Request, context: GatewayContext) async throws -> Response {
    let body = try await RequestBodyText.read(request, environment: environment)
    let source = try Self.source(body.fields)
    let tellsPieces = try body.fields.bool("with_pieces") ?? false
    let tellsStrings = try body.fields.bool("return_token_strs") ?? false
    let router = environment.coordinator.router
    let tokens: [Token]
    do {
      tokens = try await environment.offloading {
        switch source {
        case .text(let text, let addSpecial, let parseSpecial):
          try router.vocabulary.tokenize(text, addSpecial: addSpecial, parseSpecial: parseSpecial)
        case .chat(let messages): try router.promptTokens(chat: messages)
        }
      }
    } catch {
      throw environment.told(error, param: body.fields["messages"] == nil ? "content" : "messages")
    }
    let texts = environment.texts
    return ServiceRoutes.json(
      JSONWriter.object { json in
        json.field("count", tokens.count)
        if let limit = environment.contextLimit(for: .fusion) { json.field("max_model_len", limit) }
        json.array("tokens", tokens) { json, token in
          guard tellsPieces else { return json.value(token) }
          json.object { json in
            json.field("id", token)
            json.field("piece", texts.text(token))
          }
        }
        if tellsStrings { json.array("token_strs", tokens) { $0.value(texts.text($1)) } }
      })
  }

  /// llama.cpp's `content` adds no special tokens by itself, vLLM's `prompt` does.
  private static func source(_ fields: FieldReader) throws -> Source {
    if let text = try fields.string("content") {
      return .text(
        text, addSpecial: try fields.bool("add_special") ?? false,
        parseSpecial: try fields.bool("parse_special") ?? true)
    }
    if let text = try fields.string("prompt") {
      return .text(text, addSpecial: try fields.bool("add_special_tokens") ?? true, parseSpecial: true)
    }
    guard fields["messages"] != nil else {
      throw GatewayError.invalid("content", "content is missing: give content, prompt or messages")
    }
    return .chat(try ChatRequest.messages(fields))
  }

  /// What vLLM tells of its tokeniser, as far as clients need it that tokenise with the server: lm-eval.
  func information(_ request: Request, context: GatewayContext) -> Response {
    let router = environment.coordinator.router
    let texts = environment.texts
    return ServiceRoutes.json(
      JSONWriter.object { json in
        json.field("tokenizer_class", "llama.cpp")
        json.field("bos_token", router.vocabulary.beginningOfSequence.map(texts.text))
        json.field("eos_token", router.vocabulary.endOfSequence.map(texts.text))
        json.field("chat_template", router.chatTemplate)
        if let limit = environment.contextLimit(for: .fusion) { json.field("model_max_length", limit) }
      })
  }

  func detokenize(_ request: Request, context: GatewayContext) async throws -> Response {
    let body = try await RequestBodyText.read(request, environment: environment)
    guard let values = try body.fields.array("tokens") else {
      throw GatewayError.invalid("tokens", "tokens is missing: give a list of token ids")
    }
    let texts = environment.texts
    let text = try await environment.offloading {
      texts.text(
        try CompletionRequest.tokens(values, path: "tokens", vocabulary: texts.vocabulary.size))
    }
    return ServiceRoutes.json(
      JSONWriter.object { json in
        json.field("content", text)
        json.field("prompt", text)
      })
  }
}
