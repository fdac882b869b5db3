internal import ArgumentParser
internal import Foundation
internal import Synchronization

/// `--color`.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable, Sendable {
  case auto, always, never
}

/// What a stream can show: whether it is a terminal, its colours, its width and its characters.
struct Style: Sendable, Equatable {
  enum Stream: Sendable { case standardOutput, standardError }

  enum Depth: Sendable, Equatable { case none, indexed, full }

  enum Role: Sendable, Equatable {
    case faint, strong, warning, failure
    /// A colour of the palette.
    case expert(Int)
  }

  var isTerminal: Bool
  var depth: Depth
  /// Whether box and block characters can be shown.
  var unicode: Bool
  /// Columns.
  var width: Int

  init(isTerminal: Bool, depth: Depth, unicode: Bool = true, width: Int = 80) {
    self.isTerminal = isTerminal
    self.depth = depth
    self.unicode = unicode
    self.width = width
  }

  // Set once while the command line is read, before any other thread writes.
  private static let chosen = Mutex(ColorChoice.auto)
  static var choice: ColorChoice {
    get { chosen.withLock { $0 } }
    set { chosen.withLock { $0 = newValue } }
  }

  /// The style of this process's stream.
  init(_ stream: Stream, environment: [String: String] = ProcessInfo.processInfo.environment) {
    let descriptor = stream == .standardOutput ? STDOUT_FILENO : STDERR_FILENO
    let isTerminal = isatty(descriptor) == 1
    var size = winsize()
    let known = isTerminal && ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    self.init(
      isTerminal: isTerminal, depth: Self.depth(isTerminal: isTerminal, choice: Self.choice, environment: environment),
      unicode: Self.showsUnicode(environment), width: known ? Int(size.ws_col) : 80)
  }

  /// NO_COLOR (no-color.org): any value but the empty one turns colours off, unless they were asked for by option.
  static func depth(isTerminal: Bool, choice: ColorChoice, environment: [String: String]) -> Depth {
    switch choice {
    case .never: return .none
    case .always: break
    case .auto:
      guard isTerminal, environment["NO_COLOR", default: ""].isEmpty, environment["TERM"] != "dumb" else {
        return .none
      }
    }
    return ["truecolor", "24bit"].contains(environment["COLORTERM"]) ? .full : .indexed
  }

  static func showsUnicode(_ environment: [String: String]) -> Bool {
    let locale = [environment["LC_ALL"], environment["LC_CTYPE"], environment["LANG"]].compactMap { $0 }
      .first { !$0.isEmpty }
    guard let locale else { return false }
    return locale.lowercased().replacing("-", with: "").contains("utf8")
  }

  func paint(_ text: String, _ role: Role) -> String {
    depth == .none || text.isEmpty ? text : open(role) + text + Self.reset
  }

  static let reset = "\u{1B}[0m"

  func open(_ role: Role) -> String {
    guard depth != .none else { return "" }
    switch role {
    case .faint: return "\u{1B}[2m"
    case .strong: return "\u{1B}[1m"
    case .warning: return "\u{1B}[33m"
    case .failure: return "\u{1B}[31m"
    case .expert(let index): return Palette.sequence(index, depth: depth)
    }
  }
}

/// Colours that tell experts apart, also for colour-blind eyes: Okabe and Ito's set without black, the most distinct
/// ones first. Experts beyond the seventh are underlined, and so on.
enum Palette {
  /// Red, green, blue, and the nearest of the 256 indexed colours.
  static let colors: [(red: Int, green: Int, blue: Int, index: Int)] = [
    (86, 180, 233, 74), (230, 159, 0, 178), (0, 158, 115, 36), (204, 121, 167, 175), (213, 94, 0, 166),
    (240, 228, 66, 227), (0, 114, 178, 25),
  ]

  static func sequence(_ expert: Int, depth: Style.Depth) -> String {
    let color = colors[expert % colors.count]
    let emphasis = ["", "4;", "3;", "1;"][expert / colors.count % 4]
    switch depth {
    case .none: return ""
    case .indexed: return "\u{1B}[\(emphasis)38;5;\(color.index)m"
    case .full: return "\u{1B}[\(emphasis)38;2;\(color.red);\(color.green);\(color.blue)m"
    }
  }
}
