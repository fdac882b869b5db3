internal import Core
internal import Fusion
internal import Inference

/// A conversation and what its commands make of it.
struct Conversation: Sendable, Equatable {
  private(set) var messages: [ChatMessage] = []
  var mode: DecodingMode

  init(mode: DecodingMode) { self.mode = mode }

  /// Adds what was asked, and what was answered, whole or not. An answer without a word takes its question back, since
  /// two questions in a row are no conversation to most templates.
  mutating func add(question: String, answer: String) {
    guard !answer.isEmpty else { return }
    messages.append(ChatMessage(role: "user", content: question))
    messages.append(ChatMessage(role: "assistant", content: answer))
  }

  /// What is sent to have `question` answered.
  func asking(_ question: String) -> Prompt {
    var prompt = Prompt(label: nil, content: .messages(messages + [ChatMessage(role: "user", content: question)]))
    prompt.mode = mode
    return prompt
  }

  /// Takes the last question and its answer back; false if there is none.
  mutating func undo() -> Bool {
    guard !messages.isEmpty else { return false }
    messages.removeLast(2)
    return true
  }

  mutating func restart() { messages = [] }

  /// As a line that `run` and `generate` read.
  var json: JSONText {
    var members: [(String, JSONText)] = [
      (
        "messages",
        .array(messages.map { .object([("role", .text($0.role)), ("content", .text($0.content))]) })
      )
    ]
    if mode != .fusion { members.append(("mode", .text(mode.description))) }
    return .object(members)
  }
}

/// What a line typed in a chat asks for.
enum ChatInput: Sendable, Equatable {
  case question(String)
  case new
  case mode(DecodingMode)
  case showMode
  case save(String)
  case undo
  case help
  case quit
  /// No command; the sentence says what to type.
  case mistake(String)
  case nothing

  static let helpText = """
    /new          forget the conversation
    /undo         take the last question and its answer back
    /mode [MODE]  show or set what decides: fusion, router, no-complement or expert:NAME
    /save FILE    write the conversation as JSON, which `run` and `generate` read
    /help         this list
    /quit         end, as Ctrl-D does
    A line that ends in \\ goes on in the next one. Ctrl-C stops an answer.
    """

  /// - Parameter experts: names that `/mode expert:NAME` may have.
  init(_ line: String, experts: [String]) {
    let text = line.trimmed
    guard text.hasPrefix("/") else {
      self = text.isEmpty ? .nothing : .question(line)
      return
    }
    let words = text.split(separator: " ", maxSplits: 1)
    let argument = words.count > 1 ? String(words[1]).trimmed : ""
    switch (String(words[0]), argument) {
    case ("/new", ""): self = .new
    case ("/undo", ""): self = .undo
    case ("/help", ""): self = .help
    case ("/quit", ""), ("/bye", ""), ("/exit", ""): self = .quit
    case ("/mode", ""): self = .showMode
    case ("/mode", _): self = Self.mode(argument, experts: experts)
    case ("/save", ""): self = .mistake("/save needs the name of a file")
    case ("/save", _): self = .save(argument)
    case (let command, _):
      self = .mistake("\(command) is no command, or takes nothing after it; /help lists them")
    }
  }

  private static func mode(_ text: String, experts: [String]) -> ChatInput {
    guard let mode = DecodingMode(parsing: text) else {
      return .mistake("\"\(text)\" is no mode: use fusion, router, no-complement or expert:NAME")
    }
    if case .expert(let name) = mode, !experts.contains(name) {
      return .mistake("there is no expert \"\(name)\"; the experts are \(experts.joined(separator: ", "))")
    }
    return .mode(mode)
  }
}

extension String {
  fileprivate var trimmed: String {
    String(drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }
}

/// Joins typed lines that end in a backslash with the next one.
struct LineJoiner {
  private var pending: String?

  /// The whole line, or nil while it goes on.
  mutating func add(_ line: String) -> String? {
    let text = pending.map { $0 + "\n" + line } ?? line
    guard line.hasSuffix("\\") else {
      pending = nil
      return text
    }
    pending = String(text.dropLast())
    return nil
  }

  var isContinuing: Bool { pending != nil }

  mutating func clear() { pending = nil }
}
