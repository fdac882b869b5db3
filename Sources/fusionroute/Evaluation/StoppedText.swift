internal import Fusion

/// The text of tokens up to the first stop text, cut as the runtime cuts its answers.
struct StoppedText: Equatable {
  /// Text of each token, the one that completes a stop text being the last.
  private(set) var pieces: [String] = []
  /// Whether a stop text ended it. That text is left out.
  private(set) var isStopped = false

  /// - Parameter tokens: the bytes that each adds.
  init(_ tokens: some Sequence<[UInt8]>, stop: [String]) throws {
    var assembler = TextAssembler()
    var matcher = try StopMatcher(stop)
    for bytes in tokens {
      let output = matcher.append(assembler.append(bytes))
      pieces.append(output.text)
      guard output.matched == nil else {
        isStopped = true
        return
      }
    }
    // What was held back.
    let output = matcher.append(assembler.finish())
    isStopped = output.matched != nil
    if let last = pieces.indices.last { pieces[last] += output.text + (isStopped ? "" : matcher.finish()) }
  }

  var text: String { pieces.joined() }
}
