internal import Core
internal import Foundation

/// How long the steps of a plan took, kept beside the plan: `plan.yaml.report.jsonl`, a line for each time that a step
/// ran, and one before it where it began from nothing. Lines of training also have the tokens of all steps in its log, where
/// those done again after a kill stand once; lines of sampling have the tokens of all its answers.
struct PlanReport {
  let path: String

  init(plan: String) { path = "\(plan).report.jsonl" }

  /// Notes that a step begins from nothing: what it took before counts no longer. Throws `unavailable` if the file cannot
  /// be written.
  func begin(_ step: TrainingPlan.Step) throws {
    // Not left to the line at the end, which is missing if the plan is killed: the next run would go on from this one.
    try append(step, [("begun", .bool(true))])
  }

  /// Notes that a step ran. Throws `unavailable` if the file cannot be written.
  func add(_ step: TrainingPlan.Step, seconds: Double, isFinished: Bool) throws {
    let tokens = Self.tokens(of: step.out).flatMap { Int(exactly: $0) }
    try append(
      step,
      [("seconds", .number(seconds)), ("finished", .bool(isFinished))]
        + (tokens.map { [("tokens", .integer($0))] } ?? []))
  }

  private func append(_ step: TrainingPlan.Step, _ members: [(String, JSONText)]) throws {
    let line = JSONText.object([("step", .text(step.title)), ("out", .text(step.out))] + members).rendered
    // What is missing is made; that it cannot be shows when it is opened.
    if !FileManager.default.fileExists(atPath: path) { _ = FileManager.default.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FusionRouteError.unavailable("cannot write \(path)")
    }
    defer { try? handle.close() }
    do {
      try handle.seekToEnd()
      try handle.write(contentsOf: Data((line + "\n").utf8))
    } catch {
      throw FusionRouteError.unavailable("cannot write \(path)", cause: error)
    }
  }

  /// Seconds of each result, all its runs since it was last begun from nothing taken together. Older files do not tell
  /// where that was: of them all counts.
  func seconds() -> [String: Double] {
    let text = Self.text(of: path) ?? ""
    return text.split(separator: "\n").reduce(into: [:]) { total, line in
      guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)), case .string(let out)? = object["out"]
      else { return }
      let before = object["begun"] == .bool(true) ? 0 : total[out] ?? 0
      total[out] = before + (Self.number(object["seconds"]) ?? 0)
    }
  }

  /// Tokens of a training run's steps, by its log, or of what was sampled; nil if neither is told. So is what no tokens
  /// can be: the directory of a `run` step may have a log of its own by that name.
  static func tokens(of result: String) -> Double? {
    let training = sum(of: "\(result)/log.jsonl") { line in
      guard let seconds = number(line["seconds"]), let speed = number(line["tokens_per_second"]) else { return nil }
      return seconds * speed
    }
    let told = training ?? sum(of: "\(result).answers") { number($0["tokens"]) }
    return told.flatMap { Int(exactly: $0.rounded()) }.map(Double.init)
  }

  /// The sum over the lines of a file that have such a number; nil if none has.
  private static func sum(of path: String, _ number: (JSONObject) -> Double?) -> Double? {
    guard let text = text(of: path) else { return nil }
    let numbers = text.split(separator: "\n").compactMap { line in
      guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)) else { return nil as Double? }
      return number(object)
    }
    return numbers.isEmpty ? nil : numbers.reduce(0, +)
  }

  /// Repaired, not refused: a full disk may have cut off the last line within a character.
  private static func text(of path: String) -> String? {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
  }

  private static func number(_ value: JSONValue?) -> Double? {
    switch value {
    case .integer(let number)?: Double(number)
    case .number(let number)?: number
    default: nil
    }
  }

  /// A line for each step, and the sum.
  func lines(of steps: [TrainingPlan.Step]) -> [String] {
    let seconds = seconds()
    let rows = steps.map { step in
      (
        name: "\(step.title) → \(URL(fileURLWithPath: step.out).lastPathComponent)", seconds: seconds[step.out] ?? 0,
        tokens: Self.tokens(of: step.out)
      )
    }
    let width = rows.map(\.name.count).max() ?? 0
    func row(_ name: String, _ seconds: Double, _ tokens: Double?) -> String {
      let minutes = String(format: "%8.1f min", seconds / 60)
      let count = tokens.map { String(format: "%12.0f tokens", $0) } ?? ""
      return name + String(repeating: " ", count: max(0, width - name.count)) + minutes + count
    }
    return rows.map { row($0.name, $0.seconds, $0.tokens) }
      + [row("all", rows.reduce(0) { $0 + $1.seconds }, rows.reduce(0) { $0 + ($1.tokens ?? 0) })]
  }
}
