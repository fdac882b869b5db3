internal import Core
internal import Foundation
internal import Synchronization

/// How far an evaluation is: on a terminal a bar, elsewhere a line now and then.
final class EvaluationProgress: Sendable {
  private static let interval = Duration.seconds(30)
  private static let barWidth = 24

  struct State {
    var name = ""
    var count = 0
    /// Of an earlier run; the other numbers have them too.
    var known = 0
    var done = 0
    var passed = 0
    /// What those that pass are.
    var word = "right"
    var started = ContinuousClock.now
    var said = ContinuousClock.now
  }

  let progress: Progress
  private let style = Style(.standardError)
  private let state = Mutex(State())

  init(_ progress: Progress) { self.progress = progress }

  /// - Parameters:
  ///   - count: answers that `body` brings.
  ///   - known: those that an earlier run has brought, which count as well.
  ///   - word: what those that pass are.
  func showing(
    _ name: String, count: Int, known: (count: Int, passed: Int) = (0, 0), word: String = "right",
    _ body: () async throws -> Void
  ) async throws {
    let all = known.count + count
    state.withLock {
      $0 = State(name: name, count: all, known: known.count, done: known.count, passed: known.passed, word: word)
    }
    let some = known.count > 0 ? "\(count) of \(all)" : "\(count)"
    try await progress.showing("\(name): \(some) answer\(all == 1 ? "" : "s")") { try await body() }
    let state = state.withLock { $0 }
    guard !style.isTerminal else { return }
    say(Self.line(state, now: .now, style: style))
  }

  /// One more answer has been graded.
  func advance(passed: Bool) {
    let (text, isDue) = state.withLock { state -> (String, Bool) in
      state.done += 1
      if passed { state.passed += 1 }
      let now = ContinuousClock.now
      let isDue = now - state.said >= Self.interval
      if isDue { state.said = now }
      return (Self.line(state, now: now, style: style), isDue)
    }
    progress.update(text)
    if !style.isTerminal, isDue { say(text) }
  }

  private func say(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8)) }

  static func line(_ state: State, now: ContinuousClock.Instant, style: Style) -> String {
    let share = state.count > 0 ? Double(state.done) / Double(state.count) : 0
    var parts = ["\(state.name) \(state.done)/\(state.count)"]
    if style.isTerminal { parts[0] += " " + Summary.bar(share, width: barWidth, unicode: style.unicode) }
    if state.done > 0 {
      parts.append("\(Int((100 * Double(state.passed) / Double(state.done)).rounded())) % \(state.word)")
      // Those known before took none of the time.
      let left = (now - state.started).seconds / Double(state.done - state.known) * Double(state.count - state.done)
      if state.done < state.count { parts.append(RemainingTime.text(left)) }
    }
    return parts.joined(separator: style.unicode ? " · " : ", ")
  }
}

/// How long something still takes, for people.
enum RemainingTime {
  static func text(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "" }
    if seconds < 90 { return "\(Int(seconds.rounded())) s left" }
    if seconds < 5_400 { return "\(Int((seconds / 60).rounded())) min left" }
    return String(format: "%.1f h left", seconds / 3_600)
  }
}
