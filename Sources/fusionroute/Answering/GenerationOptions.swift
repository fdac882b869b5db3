internal import ArgumentParser
internal import Coordinator
internal import Core
internal import Fusion

/// Options of commands that generate text.
struct GenerationOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: ArgumentHelp("New tokens per answer at most.", valueName: "n"))
  var maxTokens = 256

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("0 is greedy; above it, exact sampling at that temperature.", valueName: "t"))
  var temperature: Float = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Seed of the sampling: the same seed gives the same text.", valueName: "n"))
  var seed: UInt64 = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "fusion, expert:NAME (one expert alone), router (the router alone) or no-complement (the router picks, the expert "
        + "alone decides).", valueName: "mode"))
  var mode: DecodingModeArgument = .init(mode: .fusion)

  @Option(help: ArgumentHelp("Only the n best tokens; 0 is off.", valueName: "n"))
  var topK = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Only the best tokens that hold this share of the probability; 1 is off.", valueName: "p"))
  var topP: Float = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Only tokens at least so probable relative to the best; 0 is off.", valueName: "p"))
  var minP: Float = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Above 1, tokens among the last 64 become less likely; 1 is off.", valueName: "f"))
  var repetitionPenalty: Float = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Taken off the score of tokens generated before.", valueName: "f"))
  var presencePenalty: Float = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Taken off for each time a token was generated before.", valueName: "f"))
  var frequencyPenalty: Float = 0

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Added to the score of a token, as ID=VALUE; -inf bans it. Repeatable.", valueName: "id=value"))
  var logitBias: [LogitBias] = []

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A text that ends the answer and is left out of it. Repeatable.", valueName: "text"))
  var stop: [String] = []

  @Flag(help: "Continue the prompt as it stands: no chat template, no special tokens added.")
  var raw = false

  @Option(
    help: ArgumentHelp(
      "Which experts step at each token: selected, predicted or all. Default: the cluster file's.", valueName: "policy")
  )
  var fanout: FanoutPolicy?

  @Option(
    help: ArgumentHelp(
      "Which experts read the prompt at arrival: auto, all or selected. Default: the cluster file's.",
      valueName: "policy"))
  var warm: WarmPolicy?

  @Option(help: "text or json (one object per prompt).")
  var format: OutputFormat = .text

  func validate() throws {
    guard maxTokens >= 0 else { throw ValidationError("--max-tokens is \(maxTokens): it must be 0 or more.") }
    do {
      // The vocabulary is not known yet; token ids of --logit-bias are checked once it is.
      try sampling.validated(vocabularySize: Int(Token.max))
    } catch let error as FusionRouteError {
      throw ValidationError(error.message)
    }
  }

  var sampling: SamplingParameters {
    SamplingParameters(
      temperature: temperature, seed: seed, topK: topK, topP: topP, minP: minP, repetitionPenalty: repetitionPenalty,
      presencePenalty: presencePenalty, frequencyPenalty: frequencyPenalty,
      logitBias: Dictionary(logitBias.map { ($0.token, $0.bias) }) { $1 })
  }
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable, Sendable { case text, json }

struct DecodingModeArgument: ExpressibleByArgument, Sendable {
  let mode: DecodingMode

  init(mode: DecodingMode) { self.mode = mode }

  init?(argument: String) {
    guard let mode = DecodingMode(parsing: argument) else { return nil }
    self.mode = mode
  }

  var defaultValueDescription: String { mode.description }
}

struct LogitBias: ExpressibleByArgument, Sendable {
  let token: Token
  let bias: Float

  init?(argument: String) {
    let parts = argument.split(separator: "=", maxSplits: 1)
    guard parts.count == 2, let token = Token(parts[0]), let bias = Float(parts[1]), !bias.isNaN else { return nil }
    self.token = token
    self.bias = bias
  }
}
