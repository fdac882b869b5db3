internal import Coordinator
internal import Core
internal import Foundation
internal import Fusion
internal import Inference

/// One thing to answer: a text, a conversation or token ids, and what it sets apart from the options.
struct Prompt: Sendable, Equatable {
  enum Content: Sendable, Equatable {
    case text(String)
    case messages([ChatMessage])
    case tokens([Token])
    /// A text as it stands, without the chat template, behind the special tokens that the vocabulary puts in front.
    case document(String)
  }

  /// For messages about it, such as `line 3`; nil if it is the only one.
  var label: String?
  var content: Content
  var maximumTokens: Int?
  var mode: DecodingMode?
  var raw: Bool?
  var stop: [String]?
  var sampling: SamplingOverrides = .init()

  init(label: String?, content: Content) {
    self.label = label
    self.content = content
  }
}

/// Sampling fields that a prompt of its own may set.
struct SamplingOverrides: Sendable, Equatable {
  var temperature: Float?
  var seed: UInt64?
  var topK: Int?
  var topP: Float?
  var minP: Float?
  var repetitionPenalty: Float?
  var presencePenalty: Float?
  var frequencyPenalty: Float?
  var logitBias: [Token: Float]?

  func applied(to parameters: SamplingParameters) -> SamplingParameters {
    SamplingParameters(
      temperature: temperature ?? parameters.temperature, seed: seed ?? parameters.seed, topK: topK ?? parameters.topK,
      topP: topP ?? parameters.topP, minP: minP ?? parameters.minP,
      repetitionPenalty: repetitionPenalty ?? parameters.repetitionPenalty,
      presencePenalty: presencePenalty ?? parameters.presencePenalty,
      frequencyPenalty: frequencyPenalty ?? parameters.frequencyPenalty, logitBias: logitBias ?? parameters.logitBias)
  }
}

extension Prompt {
  /// Bytes that a line of prompts may have.
  static let maximumLineBytes = 64 << 20

  /// A line of stdin without its line feed: a JSON object if it starts with `{`, else the prompt itself.
  /// Nil for an empty line. Throws `badInput` naming the line.
  static func line(_ bytes: [UInt8], number: Int) throws -> Prompt? {
    var bytes = bytes[...]
    if bytes.last == UInt8(ascii: "\r") { bytes = bytes.dropLast() }
    let label = "line \(number)"
    guard bytes.count <= maximumLineBytes else {
      throw FusionRouteError.badInput("\(label) of the prompts is longer than \(maximumLineBytes) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw FusionRouteError.badInput("\(label) of the prompts is not valid UTF-8")
    }
    guard text.contains(where: { !$0.isWhitespace }) else { return nil }
    guard text.drop(while: \.isWhitespace).first == "{" else { return Prompt(label: label, content: .text(text)) }
    do {
      return try JSONDecoder().decode(PromptObject.self, from: Data(bytes)).prompt(label: label)
    } catch let error as FusionRouteError {
      throw FusionRouteError.badInput("\(label) of the prompts: \(error.message)")
    } catch let error as DecodingError {
      let isObject = (try? JSONSerialization.jsonObject(with: Data(bytes))) is [String: Any]
      throw FusionRouteError.badInput(
        "\(label) of the prompts: \(PromptObject.sentence(for: error, isObject: isObject))")
    }
  }

  /// The request it makes with these options and this model.
  func request(
    options: GenerationOptions, fanout: FanoutPolicy, warm: WarmPolicy, onExpertLoss: ExpertLossPolicy, model: Model
  ) throws -> GenerationRequest {
    GenerationRequest(
      prompt: try tokens(raw: raw ?? options.raw, model: model),
      maximumTokens: maximumTokens ?? options.maxTokens, sampling: sampling.applied(to: options.sampling),
      mode: mode ?? options.mode.mode, fanout: options.fanout ?? fanout, warm: options.warm ?? warm,
      stop: stop ?? options.stop, onExpertLoss: onExpertLoss)
  }

  /// Token ids: raw text as it stands, otherwise through the chat template if the model has one.
  private func tokens(raw: Bool, model: Model) throws -> [Token] {
    let vocabulary = model.vocabulary
    switch content {
    case .tokens(let tokens):
      return tokens
    case .document(let text):
      return try vocabulary.tokenize(text, addSpecial: true, parseSpecial: false)
    case .text(let text) where raw:
      return try vocabulary.tokenize(text, addSpecial: false, parseSpecial: false)
    case .text(let text) where model.chatTemplate == nil:
      return try vocabulary.tokenize(text, addSpecial: true, parseSpecial: false)
    case .text(let text):
      return try model.promptTokens(chat: [ChatMessage(role: "user", content: text)])
    case .messages(let messages):
      guard !raw else { throw FusionRouteError.badInput("\"messages\" need the chat template, which `raw` leaves out") }
      guard model.chatTemplate != nil else {
        throw FusionRouteError.badInput(
          "the router's model has no chat template: give \"prompt\" instead of \"messages\"")
      }
      return try model.promptTokens(chat: messages)
    }
  }
}
