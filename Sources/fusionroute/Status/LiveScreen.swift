internal import Foundation

/// A screen of a terminal that is drawn anew without flicker, and left as it was.
struct LiveScreen {
  private static let enter = "\u{1B}[?1049h\u{1B}[?25l"
  private static let leave = "\u{1B}[?25h\u{1B}[?1049l"

  /// Shows `body`'s frames on the alternate screen, which is left however it ends.
  static func showing(_ body: (LiveScreen) async throws -> Void) async throws {
    let screen = LiveScreen()
    screen.write(enter)
    defer { screen.write(leave) }
    try await body(screen)
  }

  /// Replaces what is shown. Lines beyond the terminal's height are left out.
  func draw(_ lines: [String]) { write(Self.frame(lines, height: Self.height)) }

  /// One write that overwrites line by line, so that nothing is ever blank; terminals that know how show it at once.
  static func frame(_ lines: [String], height: Int) -> String {
    "\u{1B}[?2026h\u{1B}[H" + lines.prefix(max(1, height)).map { $0 + "\u{1B}[K" }.joined(separator: "\r\n")
      + "\u{1B}[J\u{1B}[?2026l"
  }

  private static var height: Int {
    var size = winsize()
    return ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_row > 0 ? Int(size.ws_row) : 24
  }

  private func write(_ text: String) { try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) }
}
