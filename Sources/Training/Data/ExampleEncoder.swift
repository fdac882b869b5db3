public import Core
public import Inference

/// Turns records into tokens as the runtime does: the same template, the same tokenizer, and a response that ends with
/// the end-of-turn token, which is a response token like any other.
public struct ExampleEncoder: Sendable {
  private let model: Model
  /// Longest sequence in tokens. The last one is not seen, so it is one more than the model's context at most.
  public let maximumLength: Int
  /// Whether longer sequences were asked for than the model takes.
  public let isLimitedByModel: Bool
  /// No chat template: prompt and answer follow one another as they are.
  public let isRaw: Bool

  /// What became of the records.
  public struct Report: Sendable, Equatable {
    public var examples = 0
    /// Responses that were cut to `maximumLength`; they lack their end of turn.
    public var truncated = 0
    /// Left out, since nothing of the response was within `maximumLength`, or since a pair was longer than that.
    public var dropped = 0
    /// Left out, since they teach nothing: texts of one token, and of a reward's pairs those with two equal answers.
    public var empty = 0
  }

  /// - Parameters:
  ///   - model: needs its vocabulary and template only.
  ///   - maximumLength: lowered to what the model takes.
  public init(model: Model, maximumLength: Int, isRaw: Bool = false) throws {
    guard maximumLength > 1 else {
      throw FusionRouteError.usage("sequences must have at least 2 tokens, not \(maximumLength)")
    }
    guard isRaw || model.chatTemplate != nil else {
      throw FusionRouteError.badInput(
        "\(model.path) has no chat template: use --raw, which puts prompt and answer one after the other")
    }
    self.model = model
    let context = model.information.trainedContext
    isLimitedByModel = context > 0 && maximumLength - 1 > context
    self.maximumLength = isLimitedByModel ? context + 1 : maximumLength
    self.isRaw = isRaw
  }

  // MARK: Samples

  /// Supervised samples of conversations and texts. Preference records are refused.
  public func samples(
    _ records: [(record: TrainingRecord, source: RecordSource)]
  ) throws -> (samples: [Sample], report: Report) {
    var report = Report()
    var samples: [Sample] = []
    for (record, source) in records {
      let sequences: [TrainingSequence]
      switch record {
      case .text(let text): sequences = try located(source) { try self.text(text) }
      case .conversation(let messages): sequences = [try located(source) { try conversation(messages) }]
      case .preference:
        throw FusionRouteError.badInput("\(source): this is a preference pair, where a single answer is expected")
      }
      for sequence in sequences { add(sequence, source, to: &samples, &report) }
    }
    return (samples, report)
  }

  private func add(
    _ sequence: TrainingSequence, _ source: RecordSource, to samples: inout [Sample], _ report: inout Report
  ) {
    var cut = sequence
    if sequence.tokens.count > maximumLength {
      cut.tokens = Array(sequence.tokens.prefix(maximumLength))
      cut.judged = sequence.judged.filter { $0 + 1 < maximumLength }
      if !cut.judged.isEmpty { report.truncated += 1 }
    }
    guard !cut.judged.isEmpty else {
      if sequence.judged.isEmpty { report.empty += 1 } else { report.dropped += 1 }
      return
    }
    report.examples += 1
    samples.append(Sample(sequence: cut, source: "\(source)"))
  }

  /// Preference pairs. Other records are refused.
  ///
  /// - Parameter isReward: pairs for a reward model; of those with two equal answers none is left.
  public func pairs(
    _ records: [(record: TrainingRecord, source: RecordSource)], isReward: Bool = false
  ) throws -> (pairs: [PreferencePair], report: Report) {
    var report = Report()
    var pairs: [PreferencePair] = []
    for (record, source) in records {
      guard case .preference(let prompt, let chosen, let rejected) = record else {
        throw FusionRouteError.badInput("\(source): this is no preference pair; one has \"chosen\" and \"rejected\"")
      }
      let both = try located(source) {
        try [chosen, rejected].map {
          try conversation(prompt + [ChatMessage(role: "assistant", content: $0)], lastOnly: true)
        }
      }
      guard max(both[0].tokens.count, both[1].tokens.count) <= maximumLength else {
        report.dropped += 1
        continue
      }
      guard
        var pair = isReward
          ? PreferencePair.reward(chosen: both[0], rejected: both[1], source: "\(source)")
          : PreferencePair(chosen: both[0], rejected: both[1], source: "\(source)")
      else {
        report.empty += 1
        continue
      }
      pair.task = source.task
      report.examples += 1
      pairs.append(pair)
    }
    return (pairs, report)
  }

  private func located<T>(_ source: RecordSource, _ body: () throws -> T) throws -> T {
    do {
      return try body()
    } catch let error as FusionRouteError {
      throw FusionRouteError(error.code, "\(source): \(error.message)", cause: error.cause)
    }
  }

  // MARK: Tokens

  /// A text in pieces of `maximumLength`; of each every token but the first is judged.
  private func text(_ text: String) throws -> [TrainingSequence] {
    var tokens = try model.vocabulary.tokenize(text, addSpecial: true, parseSpecial: false)
    if let end = model.vocabulary.endOfSequence, tokens.last != end { tokens.append(end) }
    // A last piece of one token has nothing behind its first.
    return stride(from: 0, to: tokens.count, by: maximumLength).filter { $0 == 0 || $0 + 1 < tokens.count }
      .map { start in
        TrainingSequence(tokens: Array(tokens[start..<min(tokens.count, start + maximumLength)]), response: 1)
      }
  }

  /// The tokens of a conversation that ends with an answer, at most `maximumLength`: a longer one loses its beginning.
  public func tokens(_ messages: [ChatMessage]) throws -> [Token] {
    try conversation(messages, lastOnly: true).tokens.suffix(maximumLength - 1)
  }

  /// - Parameter lastOnly: only the last answer is judged.
  func conversation(_ messages: [ChatMessage], lastOnly: Bool = false) throws -> TrainingSequence {
    let answers = messages.indices.filter { messages[$0].role == "assistant" }
    guard let last = answers.last else {
      throw FusionRouteError.badInput("the conversation has no answer of the assistant")
    }
    if isRaw { return try rawConversation(messages, last: last) }
    var tokens: [Token] = []
    var judged: [Int] = []
    // Text that is in `tokens` already.
    var shown = ""
    for index in answers where !lastOnly || index == last {
      let prompt = try model.renderChat(Array(messages[..<index]), addGenerationPrompt: true)
      guard prompt.hasPrefix(shown) else {
        throw FusionRouteError.badInput("the chat template changes earlier turns, so a conversation has no one text")
      }
      if tokens.isEmpty {
        tokens = try model.promptTokens(chat: Array(messages[..<index]))
      } else {
        tokens += try special(String(prompt.dropFirst(shown.count)))
      }
      let whole = try model.renderChat(Array(messages[...index]), addGenerationPrompt: false)
      guard whole.hasPrefix(prompt) else {
        throw FusionRouteError.badInput("the chat template does not put the answer where it asks for it")
      }
      let (response, rest) = try self.response(
        String(whole.dropFirst(prompt.count)), content: messages[index].content)
      judged += (tokens.count - 1)..<(tokens.count - 1 + response.count)
      tokens += response
      if index != last { tokens += rest }
      shown = whole
    }
    return TrainingSequence(tokens: tokens, judged: judged)
  }

  private func special(_ text: String) throws -> [Token] {
    try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: true)
  }

  /// The tokens of an answer, its end of turn included, and what the template writes behind.
  private func response(_ text: String, content: String) throws -> (response: [Token], rest: [Token]) {
    // The answer's own text must not become special tokens; what the template adds may. Some templates trim answers, at
    // their beginning or at both ends.
    func withoutEnd(_ text: Substring) -> Substring {
      text[..<(text.lastIndex { !$0.isWhitespace }.map { text.index(after: $0) } ?? text.startIndex)]
    }
    let trimmed = content.drop(while: \.isWhitespace)
    let forms = [content[...], trimmed, withoutEnd(trimmed), withoutEnd(content[...])]
    let start = forms.map({ String($0) }).first { text.hasPrefix($0) } ?? ""
    let behind = try special(String(text.dropFirst(start.count)))
    let own = try model.vocabulary.tokenize(start, addSpecial: false, parseSpecial: false)
    if let end = behind.firstIndex(where: model.vocabulary.isEndOfGeneration) {
      return (own + behind[...end], Array(behind[behind.index(after: end)...]))
    }
    guard let end = model.vocabulary.endOfSequence else {
      throw FusionRouteError.badInput("neither the chat template nor the vocabulary has an end of turn")
    }
    return (own + behind + [end], [])
  }

  private func rawConversation(_ messages: [ChatMessage], last: Int) throws -> TrainingSequence {
    let prompt = messages[..<last].map(\.content).joined(separator: "\n")
    var tokens = try model.vocabulary.tokenize(prompt, addSpecial: true, parseSpecial: false)
    if let end = model.vocabulary.endOfSequence, tokens.last == end, !tokens.isEmpty { tokens.removeLast() }
    guard let end = model.vocabulary.endOfSequence, !tokens.isEmpty else {
      throw FusionRouteError.badInput("the prompt is empty, or the vocabulary has no end of sequence")
    }
    let answer = try model.vocabulary.tokenize(messages[last].content, addSpecial: false, parseSpecial: false)
    return TrainingSequence(tokens: tokens + answer + [end], response: tokens.count)
  }
}
