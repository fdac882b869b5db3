internal import Core
internal import Evaluation
internal import Foundation
internal import Synchronization

/// Two answers to one question.
struct JudgePair: Sendable {
  var id: String
  var question: String
  var method: String
  var opponent: String

  /// Pairs of the answers of two methods. Throws `.badInput` if there are none.
  static func read(tasks: [EvaluationTask], results: String, method: String, against: String) throws -> [JudgePair] {
    var answers: [String: [String: String]] = [:]
    var keys: [String: [String: String]] = [:]
    for (_, line) in JSONLines.lines(of: try TextFile.read(results)) {
      guard let record = AnswerRecord(line: line) else { continue }
      let key = keys[record.method]?[record.id]
      if [method, against].contains(record.method), let key, key != record.key {
        throw FusionRouteError.badInput(
          "\(results) has answers of two states of \"\(record.method)\" to \(record.id): evaluate what is to be judged into a "
            + "folder of its own")
      }
      keys[record.method, default: [:]][record.id] = record.key
      // Later lines replace earlier ones.
      answers[record.method, default: [:]][record.id] = record.text
    }
    for name in [method, against] where answers[name] == nil {
      let others = answers.isEmpty ? "" : "; it has those of \(answers.keys.sorted().joined(separator: ", "))"
      throw FusionRouteError.badInput("\(results) has no answers of \"\(name)\"\(others)")
    }
    let pairs = tasks.compactMap { task -> JudgePair? in
      guard let own = answers[method]?[task.id], let other = answers[against]?[task.id] else { return nil }
      return JudgePair(id: task.id, question: task.question, method: own, opponent: other)
    }
    guard !pairs.isEmpty else {
      throw FusionRouteError.badInput("no task of these files has answers of both methods in \(results)")
    }
    return pairs
  }
}

/// Asks a judge about pairs; judgements on disk are not asked for again.
struct JudgeRun: Sendable {
  /// What a judge made of the pairs, in their order.
  struct Outcome: Sendable {
    var judgements: [Judgement] = []
    var unjudged: [Unjudged] = []
  }

  /// A pair for which it would not write two scores, and its first reply, or why its service refused the pair.
  struct Unjudged: Error {
    var id: String
    var reply: String
    var isRefused = false
    /// Whether the reply ended at the limit of its tokens.
    var isCutOff = false

    /// For messages: the reply in one line, and so that it cannot steer a terminal.
    var said: String {
      let line = TokenPainter.printable(reply).split(whereSeparator: \.isNewline).joined(separator: " ")
      return (line.isEmpty ? "(nothing)" : line) + (isCutOff ? " (cut off by --max-tokens)" : "")
    }
  }

  /// How often an unreadable reply is asked for again, at another temperature.
  static let retries = 3
  /// So many refusals before the first judgement are not the pairs' affair.
  static let firstRefusals = 5

  let client: JudgeClient
  let progress: EvaluationProgress

  static func fileName(_ method: String) -> String {
    String(method.map { $0.isLetter || $0.isNumber || "-_.".contains($0) ? $0 : "_" })
  }

  /// Judgements are kept in `file`; a pair that could not be judged is asked about again by the next run.
  ///
  /// If that is so of more than half of the pairs, throws `.badInput` where the judge refuses to read them, `.unavailable`
  /// where it writes no scores.
  func judge(_ pairs: [JudgePair], file: String, width: Int) async throws -> Outcome {
    let known = Mutex<[String: Judgement]>([:])
    let text = FileManager.default.contents(atPath: file).map { String(decoding: $0, as: UTF8.self) } ?? ""
    for (_, line) in JSONLines.lines(of: text) {
      if let (key, judgement) = Judgement.parse(line) { known.withLock { $0[key] = judgement } }
    }
    if !FileManager.default.fileExists(atPath: file) {
      guard FileManager.default.createFile(atPath: file, contents: nil) else {
        throw FusionRouteError.unavailable("cannot write \(file)")
      }
    }
    guard let handle = FileHandle(forWritingAtPath: file) else {
      throw FusionRouteError.unavailable("cannot write \(file)")
    }
    defer { try? handle.close() }
    handle.seekToEndOfFile()
    // A line that a crash cut off ends here.
    if !text.isEmpty, !text.hasSuffix("\n") { try Self.write("\n", to: handle, file) }
    let output = Mutex(handle)
    let unjudged = Mutex<[Unjudged]>([])
    let open = pairs.filter { pair in known.withLock { $0[key(pair)] == nil } }
    let judged = Mutex(pairs.count - open.count)
    if !open.isEmpty {
      let wins = pairs.count { pair in known.withLock { $0[key(pair)]?.outcome == .win } }
      try await progress.showing("judging", count: open.count, known: (pairs.count - open.count, wins), word: "won") {
        try await EvaluationRun.forEach(open, width: width) { pair in
          do {
            let judgement = try await judgement(pair)
            let key = key(pair)
            known.withLock { $0[key] = judgement }
            judged.withLock { $0 += 1 }
            try output.withLock { try Self.write(judgement.line(key: key) + "\n", to: $0, file) }
            progress.advance(passed: judgement.outcome == .win)
          } catch let fault as Unjudged {
            let all = unjudged.withLock { list -> [Unjudged] in
              list.append(fault)
              return list
            }
            // Whatever the others bring: the judge does not understand what it is asked for.
            let isTaken = judged.withLock { $0 > 0 } || all.count { $0.isRefused } < Self.firstRefusals
            guard isTaken, 2 * all.count <= pairs.count else { throw failure(all, of: pairs.count) }
            progress.advance(passed: false)
          }
        }
      }
    }
    let faults = unjudged.withLock { $0 }
    var outcome = Outcome()
    for pair in pairs {
      if let judgement = known.withLock({ $0[key(pair)] }) {
        outcome.judgements.append(judgement)
      } else if let fault = faults.first(where: { $0.id == pair.id }) {
        outcome.unjudged.append(fault)
      }
    }
    return outcome
  }

  private static func write(_ text: String, to handle: FileHandle, _ file: String) throws {
    do { try handle.write(contentsOf: Data(text.utf8)) } catch {
      throw FusionRouteError.unavailable("\(file) cannot be written", cause: error)
    }
  }

  private func failure(_ faults: [Unjudged], of count: Int) -> FusionRouteError {
    let refused = faults.filter(\.isRefused)
    if let first = refused.first, 2 * refused.count > faults.count {
      return .badInput("\(client.name) refused \(refused.count) of \(count) pairs; \(first.id): \(first.said)")
    }
    let first = faults.first { !$0.isRefused }.map { "; for \($0.id) it wrote: \($0.said)" } ?? ""
    return .unavailable(
      "\(client.name) does not write two scores from 1 to 10 on the first line for \(faults.count) of \(count) "
        + "pairs\(first)")
  }

  private func key(_ pair: JudgePair) -> String {
    var hasher = SHA256Hasher()
    for field in [
      "fusionroute/judge/2", client.model, client.url.identity, pair.question, pair.method, pair.opponent,
    ] {
      hasher.update(field: field)
    }
    return String(hasher.finalize().hex.prefix(40))
  }

  private func judgement(_ pair: JudgePair) async throws -> Judgement {
    let first = try await scores(pair.id, pair.question, pair.method, pair.opponent)
    let second = try await scores(pair.id, pair.question, pair.opponent, pair.method)
    return Judgement(
      id: pair.id, methodFirst: (first.first, first.second), methodSecond: (second.second, second.first))
  }

  private func scores(
    _ id: String, _ question: String, _ one: String, _ other: String
  ) async throws -> (first: Double, second: Double) {
    let prompt = JudgePrompt.text(question: question, first: one, second: other)
    var fault: Unjudged?
    for attempt in 0...Self.retries {
      let reply: JudgeClient.Reply
      // A judge that broke the form does so again unless something changes.
      do { reply = try await client.reply(to: prompt, temperature: attempt == 0 ? 0 : 0.7) } catch let refusal
        as JudgeRefusal
      {
        // Of this pair: too long for the judge, or nothing that it wants to read.
        throw Unjudged(id: id, reply: refusal.said, isRefused: true)
      }
      if let scores = JudgePrompt.scores(in: reply.text) { return scores }
      let text = JudgePrompt.withoutThoughts(reply.text).drop(while: \.isWhitespace)
      fault = fault ?? Unjudged(id: id, reply: String(text.prefix(200)), isCutOff: reply.isCutOff)
    }
    throw fault ?? Unjudged(id: id, reply: "")
  }
}
