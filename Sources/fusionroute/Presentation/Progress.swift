internal import Foundation
internal import Synchronization

/// Long work on stderr: on a terminal one line that shows the time passing, elsewhere a line at the start.
final class Progress: Sendable {
  private let style: Style
  private let isQuiet: Bool
  private let state = Mutex<Step?>(nil)

  private struct Step {
    var text: String
    var started = ContinuousClock.now
    var frame = 0
    var id: UInt64
  }

  init(style: Style = Style(.standardError), isQuiet: Bool = false) {
    self.style = style
    self.isQuiet = isQuiet
  }

  /// Shows `text` while `body` runs, on a thread of its own.
  func step<T: Sendable>(_ text: String, _ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await showing(text) { try await onThread(body) }
  }

  /// Shows `text` while `body` runs.
  func showing<T>(_ text: String, _ body: () async throws -> T) async throws -> T {
    begin(text)
    defer { end() }
    return try await body()
  }

  /// Replaces the text of the step under way.
  func update(_ text: String) {
    state.withLock { $0?.text = text }
    draw(advance: false)
  }

  private func begin(_ text: String) {
    guard !isQuiet else { return }
    guard style.isTerminal else {
      write("\(text)\(style.unicode ? "…" : "...")\n")
      return
    }
    let id = UInt64.random(in: 0...UInt64.max)
    state.withLock { $0 = Step(text: text, id: id) }
    Thread.detachNewThread { [self] in
      while state.withLock({ $0?.id == id }) {
        draw(advance: true)
        Thread.sleep(forTimeInterval: 0.1)
      }
    }
  }

  private func end() {
    // Under the lock, as drawing is, so that no late frame follows.
    state.withLock {
      if $0 != nil { write("\r\u{1B}[K") }
      $0 = nil
    }
  }

  private func draw(advance: Bool) {
    state.withLock { state in
      guard var step = state else { return }
      let frames = style.unicode ? ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] : ["|", "/", "-", "\\"]
      if advance { step.frame += 1 }
      state = step
      let elapsed = (ContinuousClock.now - step.started).seconds
      // Short steps would only flicker.
      guard elapsed > 0.25 else { return }
      let clock = elapsed >= 1 ? "  \(Int(elapsed)) s" : ""
      let line = "\(frames[step.frame % frames.count]) \(step.text)\(clock)"
      write("\r" + style.paint(String(line.prefix(max(1, style.width - 1))), .faint) + "\u{1B}[K")
    }
  }

  private func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}
