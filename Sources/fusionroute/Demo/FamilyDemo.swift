internal import Core
internal import Evaluation
internal import Foundation
internal import Inference

/// Shows a family at work: each prompt answered by all together, coloured by expert, and by each expert alone.
struct FamilyDemo: Sendable {
  struct Question: Sendable {
    var task: EvaluationTask
    /// Whether there is something to grade it by.
    var isGraded: Bool

    /// A person's own.
    init(text: String) {
      task = EvaluationTask(
        id: "own", task: "own", content: .messages([.init(role: "user", content: text)]), prompt: text,
        grader: .null, line: text)
      isGraded = false
    }

    init(task: EvaluationTask) {
      self.task = task
      isGraded = true
    }
  }

  struct Totals: Sendable {
    var graded = 0
    /// By name; the fused model's under "fusionroute".
    var right: [String: Int] = [:]
    var run = RunTotals()
  }

  static let fused = "fusionroute"

  let answerer: any Answerer
  let options: GenerationOptions
  /// Nil: nothing is graded.
  let grader: DemoGrader?
  /// Whether each expert answers alone too.
  let showsAlone: Bool

  /// Throws the last refusal of a question, after all have had their turn.
  func show(_ questions: [Question]) async throws {
    var totals = Totals()
    if options.format == .text { Summary.showLegend(experts: answerer.experts) }
    let refusal = try await ask(questions, &totals)
    if options.format == .text, totals.run.answers > 0 { note(closing(totals)) }
    if let refusal { throw Reported(error: refusal) }
  }

  /// These questions, and then one line of stdin after the other.
  func converse(after questions: [Question]) async throws {
    var totals = Totals()
    if options.format == .text { Summary.showLegend(experts: answerer.experts) }
    let refusal = try await ask(questions, &totals)
    PromptSource.inviteToType()
    for await item in PromptSource.standardInput.items() {
      do {
        let typed = try item.get()
        // Settings of its own would be left out unseen.
        guard case .text(let text) = typed.content, typed == Prompt(label: typed.label, content: typed.content) else {
          note("Type the question itself, one a line; settings are options of this command.\n")
          continue
        }
        try await show(Question(text: text), &totals)
      } catch let error as FusionRouteError where error.code == .badInput {
        // Of this line; the next one may do.
        Failure.report(error)
      }
    }
    if options.format == .text, totals.run.answers > 0 { note(closing(totals)) }
    if let refusal { throw Reported(error: refusal) }
  }

  /// Has questions answered in order. Returns the last refusal of one: the next one may do.
  private func ask(_ questions: [Question], _ totals: inout Totals) async throws -> FusionRouteError? {
    var refusal: FusionRouteError?
    for (index, question) in questions.enumerated() {
      try Task.checkCancellation()
      do { try await show(question, &totals) } catch let error as FusionRouteError where error.code == .badInput {
        let label = questions.count > 1 ? "prompt \(index + 1): " : ""
        let named = FusionRouteError(error.code, label + error.message, cause: error.cause)
        Failure.report(named)
        if options.format == .json { try write(json(question, error: named).rendered + "\n") }
        refusal = named
      }
    }
    return refusal
  }

  private func show(_ question: Question, _ totals: inout Totals) async throws {
    let fused = try await fusedAnswer(question)
    let fusedGrade = try await grade(question, fused)
    let isText = options.format == .text
    if isText, let fusedGrade { try write(mark(fusedGrade) + "\n") }
    var alone: [(name: String, answer: Answer, grade: Grade?)] = []
    if showsAlone { alone = try await answersAlone(question) }
    if let summary = fused.summary { totals.run.add(summary) }
    // Answers that a grader which has failed since left ungraded are not wrong.
    if let fusedGrade, alone.allSatisfy({ $0.grade != nil }) {
      totals.graded += 1
      totals.right[Self.fused, default: 0] += fusedGrade.passed ? 1 : 0
      for (name, _, grade) in alone { totals.right[name, default: 0] += grade?.passed == true ? 1 : 0 }
    }
    guard isText else { return try write(json(question, fused, fusedGrade, alone).rendered + "\n") }
    if !alone.isEmpty {
      let columns = AnswerColumns(
        columns: alone.enumerated().map { index, item in
          .init(
            title: "\(item.name) alone", role: .expert(index), mark: item.grade.map { sign($0.passed) } ?? "",
            text: item.answer.text)
        })
      try write("\n" + columns.lines(Style(.standardOutput)).joined(separator: "\n") + "\n")
    }
    try write("\n")
  }

  // MARK: Answers

  private func prompt(_ question: Question) -> Prompt {
    Prompt(
      label: nil,
      content: .messages(question.task.messages.map { ChatMessage(role: $0.role, content: $0.content) }))
  }

  /// The answer of all together, shown as it comes.
  private func fusedAnswer(_ question: Question) async throws -> Answer {
    let asked = prompt(question)
    let (events, continuation) = AsyncThrowingStream<AnswerEvent, any Error>.makeStream()
    let (answerer, options) = (answerer, options)
    let work = Task {
      do {
        try await answerer.answer(asked, options: options) { continuation.yield($0) }
        continuation.finish()
      } catch {
        continuation.finish(throwing: error)
      }
    }
    return try await withTaskCancellationHandler {
      var answer = Answer()
      let style = Style(.standardOutput)
      var painter = TokenPainter(style: style, experts: answerer.experts)
      let isText = options.format == .text
      if isText {
        let arrow = style.unicode ? "❯" : ">"
        try write(style.paint("\(arrow) \(TokenPainter.printable(question.task.prompt))", .strong) + "\n")
      }
      do {
        for try await event in events {
          answer.add(event)
          guard isText else { continue }
          switch event {
          case .prompt: break
          case .token(let token): try write(painter.paint(token.text, expert: token.expert))
          case .finished(let summary):
            try write(painter.paint(summary.trailingText, expert: answer.tokens.last?.expert))
          }
        }
        try Task.checkCancellation()
      } catch {
        // The colour of its last token must not stay behind.
        if isText { try? write(painter.finish() + (answer.text.isEmpty ? "" : "\n")) }
        throw error
      }
      if isText { try write(painter.finish() + (answer.text.last?.isNewline == true ? "" : "\n")) }
      return answer
    } onCancel: {
      work.cancel()
    }
  }

  /// Every expert's own answer; they run at once.
  private func answersAlone(_ question: Question) async throws -> [(name: String, answer: Answer, grade: Grade?)] {
    let decoder = AnswerDecoder(answerer: answerer, options: options, limiter: Limiter(answerer.parallelism))
    return try await withThrowingTaskGroup(of: (Int, Answer, Grade?).self) { group in
      for (index, name) in answerer.experts.enumerated() {
        group.addTask {
          let answer = try await decoder.answer(
            prompt(question).content, mode: "expert:\(name)", maximumTokens: options.maxTokens)
          return (index, answer, try await grade(question, answer))
        }
      }
      var all: [(Int, Answer, Grade?)] = []
      for try await item in group { all.append(item) }
      return all.sorted { $0.0 < $1.0 }.map { (answerer.experts[$0.0], $0.1, $0.2) }
    }
  }

  private func grade(_ question: Question, _ answer: Answer) async throws -> Grade? {
    guard question.isGraded, let grader else { return nil }
    return try await grader.grade(question.task, text: answer.text)
  }

  // MARK: What is shown

  private func sign(_ passed: Bool) -> String {
    Style(.standardOutput).unicode ? (passed ? "✓" : "✗") : passed ? "right" : "wrong"
  }

  private func mark(_ grade: Grade) -> String {
    guard !grade.parts.isEmpty else { return sign(grade.passed) }
    return sign(grade.passed) + " (" + grade.parts.map { "\($0.name) \(sign($0.passed))" }.joined(separator: ", ") + ")"
  }

  private func closing(_ totals: Totals) -> String {
    let style = Style(.standardError)
    var text = ""
    if totals.graded > 0 {
      let names = [Self.fused] + (showsAlone ? answerer.experts : [])
      let counts = names.map { name in
        "\(name == Self.fused ? "all together" : "\(name) alone") \(totals.right[name] ?? 0)"
      }
      text += "Right answers, of \(totals.graded): \(counts.joined(separator: style.unicode ? " · " : ", "))\n\n"
    }
    return text + Summary.table(totals.run, experts: answerer.experts, style: style)
  }

  private func json(
    _ question: Question, _ fused: Answer, _ grade: Grade?, _ alone: [(name: String, answer: Answer, grade: Grade?)]
  ) -> JSONText {
    func graded(_ answer: Answer, _ grade: Grade?) -> JSONText {
      guard case .object(var members) = answer.json else { return answer.json }
      members.append(("passed", grade.map { .bool($0.passed) } ?? .null))
      return .object(members)
    }
    return .object(
      asked(question) + [
        (Self.fused, graded(fused, grade)),
        ("alone", .object(alone.map { ($0.name, graded($0.answer, $0.grade)) })),
      ])
  }

  /// Of a question that was refused, as answers that failed have it.
  private func json(_ question: Question, error: FusionRouteError) -> JSONText {
    var answer = Answer()
    answer.error = error
    return .object(asked(question) + [(Self.fused, answer.json), ("alone", .object([]))])
  }

  private func asked(_ question: Question) -> [(String, JSONText)] {
    [("id", .text(question.task.id)), ("task", .text(question.task.task)), ("prompt", .text(question.task.prompt))]
  }

  private func write(_ text: String) throws {
    guard !text.isEmpty else { return }
    do { try FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } catch {
      throw FusionRouteError.interrupted("stdout was closed before the answer was complete")
    }
  }

  private func note(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}
