internal import Coordinator
internal import Core
internal import Fusion
internal import Inference

/// A checked request, ready to be decoded: its prompts as tokens, and one generation for each answer.
struct AnswerPlan: Sendable {
  enum Form: Sendable {
    case chat
    case completion
  }

  struct Prompt: Sendable {
    var tokens: [Token]
    /// What a completion that echoes starts with.
    var text = ""
    /// Tokens at the start that are no part of ``text``: a beginning of sequence that the tokeniser added.
    var hiddenTokens = 0
    /// Whether the first visible token begins with a space that the tokeniser added.
    var hidesSpace = false
  }

  let form: Form
  let options: AnswerOptions
  let echoes: Bool
  let prompts: [Prompt]
  /// By index: all answers to the first prompt, then those to the second.
  let requests: [GenerationRequest]
  /// What every part of the request has in common, the scoring of its prompts included.
  let template: Template

  /// Whether prompts are scored: their log-probabilities are asked for.
  var scoresPrompts: Bool { echoes && options.logprobs != nil }
  var maximumTokens: Int { requests.first?.maximumTokens ?? 0 }

  func prompt(ofAnswer index: Int) -> Int { index / options.choices }

  /// - Parameters:
  ///   - template: all but prompt, choice and what `options` say.
  init(form: Form, options: AnswerOptions, echoes: Bool, prompts: [Prompt], template: Template) {
    self.form = form
    self.options = options
    self.echoes = echoes
    self.prompts = prompts
    self.template = template
    let told = [options.logprobs, options.runtime.alternatives].compactMap(\.self).max()
    requests = (0..<prompts.count * options.choices).map { index in
      var request = GenerationRequest(
        prompt: prompts[index / options.choices].tokens,
        maximumTokens: options.maximumTokens ?? template.defaultMaximumTokens, sampling: options.sampling,
        mode: options.model.mode, fanout: options.runtime.fanout ?? template.fanout,
        warm: options.runtime.warm ?? template.warm, stop: options.stop, choice: index,
        onExpertLoss: options.runtime.onExpertLoss ?? template.onExpertLoss)
      request.alternatives = told
      request.client = template.client
      request.deadline = template.deadline
      request.trace = template.trace
      request.constraint = template.constraint
      request.priority = template.priority
      return request
    }
  }

  /// What every generation of a request has from elsewhere than its body.
  struct Template: Sendable {
    var defaultMaximumTokens: Int
    var fanout: FanoutPolicy
    var warm: WarmPolicy
    var onExpertLoss: ExpertLossPolicy
    var client: String
    var deadline: Duration?
    var trace: TraceContext?
    var constraint: (any TokenConstraint)?
    var priority = RequestPriority.interactive
  }
}
