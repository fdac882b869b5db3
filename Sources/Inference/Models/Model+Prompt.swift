public import Core

extension Model {
  /// Token ids of a conversation: through the model's chat template, with the marker that the assistant speaks next.
  ///
  /// - Throws: `badInput` if the model has no chat template, or the template refuses the messages.
  public func promptTokens(chat messages: [ChatMessage]) throws -> [Token] {
    let text = try renderChat(messages, addGenerationPrompt: true)
    let tokens = try vocabulary.tokenize(text, addSpecial: false, parseSpecial: true)
    // Some templates write the beginning of sequence themselves, some leave it to the tokeniser.
    guard vocabulary.addsBeginningOfSequence, let beginning = vocabulary.beginningOfSequence, tokens.first != beginning
    else { return tokens }
    return [beginning] + tokens
  }
}
