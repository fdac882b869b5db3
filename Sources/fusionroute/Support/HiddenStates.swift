internal import Core
internal import Dispatch
internal import Inference
internal import Synchronization

/// The states that a routing head reads, captured over some text.
enum HiddenStates {
  /// Tokens of one text that are used at most.
  static let maximumTokens = 1024

  /// Hidden states of every position but the first, [positions][width]. Blocks: not for the cooperative pool.
  static func capture(model path: String, texts: [String], chat: Bool) throws -> [[Float]] {
    let model = try Model.load(path: path)
    let decoder = try BatchingDecoder(
      model: model,
      configuration: DecoderConfiguration(
        slots: 1, contextPerSequence: maximumTokens, threads: 1, reproducible: true, hiddenStates: true))
    defer { decoder.shutdown() }
    var states: [[Float]] = []
    for (index, text) in texts.enumerated() {
      let isChat = chat && model.chatTemplate != nil
      let shown =
        isChat ? try model.renderChat([ChatMessage(role: "user", content: text)], addGenerationPrompt: true) : text
      let tokens = try model.vocabulary.tokenize(shown, addSpecial: !isChat, parseSpecial: isChat)
      states += try run(Array(tokens.prefix(maximumTokens)), sequence: UInt64(index + 1), decoder: decoder)
    }
    return states
  }

  private static func run(_ tokens: [Token], sequence: UInt64, decoder: BatchingDecoder) throws -> [[Float]] {
    guard tokens.count > 1 else { return [] }
    let rows = Mutex<[[Float]]>([])
    let outcome = Mutex<Result<DecodeSummary, FusionRouteError>?>(nil)
    let done = DispatchSemaphore(value: 0)
    decoder.submit(
      DecodeRequest(
        id: sequence, sequence: sequence, tokens: tokens, wanted: Array(1..<tokens.count), wantsHidden: true,
        deliver: { row in if let hidden = row.hidden { rows.withLock { $0.append(hidden) } } },
        completion: { result in
          outcome.withLock { $0 = result }
          done.signal()
        }))
    done.wait()
    decoder.release(sequence: sequence)
    _ = try outcome.withLock { try $0?.get() }
    return rows.withLock { $0 }
  }
}
