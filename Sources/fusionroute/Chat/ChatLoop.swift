internal import Core
internal import Foundation
internal import Launch

/// A conversation in a terminal: reads lines, has them answered, and shows the answers as they come.
struct ChatLoop {
  private enum Event: Sendable {
    case line(String)
    /// A line that is no text.
    case invalidLine
    case endOfInput
    case signal(Int32)
    case answer(AnswerEvent)
    case answered((any Error)?)
  }

  let answerer: any Answerer
  let options: GenerationOptions
  private let style = Style(.standardOutput)
  private let errorStyle = Style(.standardError)

  private var conversation: Conversation
  private var joiner = LineJoiner()
  /// Typed while an answer came.
  private var waiting: [Event] = []
  private var interruptions = 0
  private var savedFiles: Set<String> = []

  init(answerer: any Answerer, options: GenerationOptions) {
    self.answerer = answerer
    self.options = options
    conversation = Conversation(mode: options.mode.mode)
  }

  /// Until the end of input or `/quit`. Throws `interrupted` after SIGTERM, SIGHUP or two Ctrl-C in a row.
  mutating func run() async throws {
    let (events, continuation) = AsyncStream<Event>.makeStream()
    let trap = try SignalTrap { signal, count in
      // Whatever hangs, a third one ends it.
      if count > 2, signal != SIGINT { _exit(FusionRouteError.Code.interrupted.exitCode) }
      continuation.yield(.signal(signal))
    }
    defer { trap.cancel() }
    // Reading blocks for as long as nobody types: a thread of its own, which ends with the process.
    Thread.detachNewThread {
      PromptSource.readLines(from: STDIN_FILENO) { bytes in
        continuation.yield(String(validating: bytes, as: UTF8.self).map { .line($0) } ?? .invalidLine)
      }
      continuation.yield(.endOfInput)
    }
    Summary.showLegend(experts: answerer.experts)
    note("/help lists commands, Ctrl-D ends.\n")
    var iterator = events.makeAsyncIterator()
    showMark()
    while let event = await next(&iterator) {
      switch event {
      case .line(let line):
        interruptions = 0
        guard let text = joiner.add(line) else {
          showMark()
          continue
        }
        guard try await handle(text, &iterator, continuation) else { return }
        showMark()
      case .invalidLine:
        joiner.clear()
        note("That line is not valid UTF-8.\n")
        showMark()
      case .endOfInput:
        write("\n")
        return
      case .signal(let signal):
        try interrupted(signal)
        showMark()
      case .answer, .answered: break
      }
    }
  }

  private mutating func next(_ iterator: inout AsyncStream<Event>.Iterator) async -> Event? {
    waiting.isEmpty ? await iterator.next() : waiting.removeFirst()
  }

  /// A signal while nothing is answered.
  private mutating func interrupted(_ signal: Int32) throws {
    interruptions += 1
    guard signal == SIGINT, interruptions < 2 else { throw FusionRouteError.interrupted("interrupted") }
    joiner.clear()
    write("\n")
    note("Ctrl-D ends, and so does Ctrl-C once more.\n")
  }

  /// False when the chat is to end.
  private mutating func handle(
    _ line: String, _ iterator: inout AsyncStream<Event>.Iterator, _ continuation: AsyncStream<Event>.Continuation
  ) async throws -> Bool {
    switch ChatInput(line, experts: answerer.experts) {
    case .nothing: break
    case .question(let question): try await answer(question, &iterator, continuation)
    case .new:
      conversation.restart()
      note("A new conversation.\n")
    case .undo:
      note(conversation.undo() ? "The last question and its answer are taken back.\n" : "There is nothing to undo.\n")
    case .mode(let mode):
      conversation.mode = mode
      note("From now on \(mode) decides.\n")
    case .showMode: note("\(conversation.mode) decides; /mode MODE changes it.\n")
    case .save(let file): save(to: file)
    case .help: note(ChatInput.helpText + "\n")
    case .mistake(let sentence): note(sentence + "\n")
    case .quit: return false
    }
    return true
  }

  private mutating func answer(
    _ question: String, _ iterator: inout AsyncStream<Event>.Iterator,
    _ continuation: AsyncStream<Event>.Continuation
  ) async throws {
    let (prompt, answerer, options) = (conversation.asking(question), answerer, options)
    let task = Task {
      do {
        try await answerer.answer(prompt, options: options) { continuation.yield(.answer($0)) }
        continuation.yield(.answered(nil))
      } catch {
        continuation.yield(.answered(error))
      }
    }
    defer { task.cancel() }
    var answer = Answer()
    var painter = TokenPainter(style: style, experts: answerer.experts)
    var signal: Int32?
    while let event = await iterator.next() {
      switch event {
      case .answer(let event):
        // What arrives after Ctrl-C is not shown, and so not kept either.
        if signal != nil { continue }
        answer.add(event)
        switch event {
        case .prompt: break
        case .token(let token): write(painter.paint(token.text, expert: token.expert))
        case .finished(let summary): write(painter.paint(summary.trailingText, expert: answer.tokens.last?.expert))
        }
      case .answered(let error):
        write(painter.finish() + (answer.text.last?.isNewline == true ? "" : "\n"))
        conversation.add(question: question, answer: answer.text)
        try ended(answer, error: error, signal: signal)
        return
      case .signal(let number):
        if signal != nil {
          // The colour of the last token must not stay behind.
          write(painter.finish() + "\n")
          throw FusionRouteError.interrupted("interrupted")
        }
        signal = number
        task.cancel()
      case .line, .invalidLine, .endOfInput: waiting.append(event)
      }
    }
  }

  private mutating func ended(_ answer: Answer, error: (any Error)?, signal: Int32?) throws {
    if let signal {
      guard signal == SIGINT else { throw FusionRouteError.interrupted("interrupted") }
      interruptions = 1
      note("Stopped.\n")
    } else if let error {
      Failure.report(Failure.known(error) ?? .internal("the answer failed", cause: error))
    } else if let summary = answer.summary, errorStyle.isTerminal {
      note(errorStyle.paint(Self.line(summary, unicode: errorStyle.unicode), .faint) + "\n")
    }
  }

  /// Tokens, speed and shares of an answer in a line.
  static func line(_ summary: AnswerSummary, unicode: Bool) -> String {
    let count = summary.generatedTokens
    var facts = ["\(count) token\(count == 1 ? "" : "s")"]
    if count > 1, summary.decode > .zero {
      facts.append("\(Summary.decimal(Double(count - 1) / summary.decode.seconds, 1)) tokens/s")
    }
    let shares = summary.tokensPerExpert.filter { $0.value > 0 }.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    if count > 0, !shares.isEmpty {
      facts.append(
        shares.map { "\($0.key) \(Int((Double($0.value) / Double(count) * 100).rounded())) %" }
          .joined(separator: ", "))
    }
    return facts.joined(separator: unicode ? " · " : ", ")
  }

  private mutating func save(to file: String) {
    guard savedFiles.contains(file) || !FileManager.default.fileExists(atPath: file) else {
      return note("\(file) exists already; take another name.\n")
    }
    do {
      var output = try AtomicFile(path: file)
      try output.write(Array((conversation.json.rendered + "\n").utf8))
      try output.commit()
      savedFiles.insert(file)
      note("\(conversation.messages.count) messages written to \(file).\n")
    } catch {
      note("\(error)\n")
    }
  }

  // MARK: Writing

  private func showMark() {
    let mark = joiner.isContinuing ? "… " : "❯ "
    let text = style.unicode ? mark : (joiner.isContinuing ? ". " : "> ")
    // Where stdout is a file, the answers alone go there.
    if style.isTerminal { write(style.paint(text, .strong)) } else { note(errorStyle.paint(text, .strong)) }
  }

  private func write(_ text: String) { try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) }
  private func note(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}
