internal import Core
internal import Foundation

/// Writes answers to stdout, in order, one event at a time.
struct AnswerPrinter {
  enum Kind: Sendable {
    case text
    case json
  }

  private let kind: Kind
  private let style: Style
  private let experts: [String]
  /// Whether each answer is headed by its prompt.
  private let showsPrompts: Bool
  private var painter: TokenPainter
  private var answer = Answer()
  private var endsLine = true
  private(set) var totals = RunTotals()

  init(kind: Kind, style: Style, experts: [String], showsPrompts: Bool) {
    self.kind = kind
    self.style = style
    self.experts = experts
    self.showsPrompts = showsPrompts
    painter = TokenPainter(style: style, experts: experts)
  }

  /// Begins the answer to `prompt`; nil where there is none to show.
  mutating func begin(_ prompt: Prompt?) throws {
    answer = Answer()
    painter = TokenPainter(style: style, experts: experts)
    endsLine = true
    guard kind == .text, showsPrompts, let prompt else { return }
    let text: String
    switch prompt.content {
    case .text(let own), .document(let own): text = own
    case .messages(let messages): text = messages.last?.content ?? ""
    case .tokens(let tokens): text = "\(tokens.count) tokens"
    }
    try write(style.paint("\(style.unicode ? "❯" : ">") \(TokenPainter.printable(text))", .strong) + "\n")
  }

  mutating func add(_ event: AnswerEvent) throws {
    answer.add(event)
    guard kind == .text else { return }
    switch event {
    case .prompt: break
    case .token(let token): try write(answer: token.text, expert: token.expert)
    case .finished(let summary): try write(answer: summary.trailingText, expert: answer.tokens.last?.expert)
    }
  }

  /// Ends the answer, with the error that ended it if one did.
  mutating func end(_ error: FusionRouteError?) throws {
    answer.error = error
    if let summary = answer.summary { totals.add(summary) }
    switch kind {
    case .json:
      try write(answer.json.rendered + "\n")
    case .text:
      try write(painter.finish())
      // An answer that failed before its first token leaves no empty line.
      if !endsLine || error == nil { try write("\n") }
      if showsPrompts { try write("\n") }
    }
  }

  private mutating func write(answer text: String, expert: String?) throws {
    guard !text.isEmpty else { return }
    endsLine = text.last?.isNewline == true
    try write(painter.paint(text, expert: expert))
  }

  private func write(_ text: String) throws {
    guard !text.isEmpty else { return }
    do {
      try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    } catch {
      throw FusionRouteError.interrupted("stdout was closed before the answer was complete")
    }
  }
}
