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
        json.field("max_model_len", environment.coordinator.contextLimit(for: .fusion))
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
