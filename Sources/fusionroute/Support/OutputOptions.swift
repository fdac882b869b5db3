internal import ArgumentParser
internal import Foundation
internal import Launch
internal import Logging

/// Options that every command has.
struct OutputOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "What is logged to stderr: trace, debug, info, notice, warning, error or critical.", valueName: "level"))
  var logLevel: LogLevel?

  @Option(
    help: ArgumentHelp("Colours: auto (on a terminal, unless NO_COLOR is set), always or never.", valueName: "when"))
  var color: ColorChoice = .auto

  @Option(
    help: ArgumentHelp(
      "What log lines look like: text, json (one object a line) or journal (for journald). Default: journal where "
        + "stderr is journald's, else text.", valueName: "format"))
  var logFormat: LogFormat?

  /// Sets up logging for the process; call once.
  ///
  /// - Parameter isSupervised: a supervisor reads the sentence that this process ends with.
  func bootstrap(default level: Logger.Level, isSupervised: Bool = false) -> LogSettings {
    Style.choice = color
    let level = logLevel?.level ?? level
    let format = logFormat ?? .automatic(environment: ProcessInfo.processInfo.environment)
    let style = Style(.standardError)
    LoggingSystem.bootstrap { StderrLogHandler(label: $0, level: level, format: format, style: style) }
    if !isSupervised { Failure.format = format }
    return LogSettings(level: level, format: format, logger: Logger(label: "fusionroute"))
  }
}

/// How this process logs, and so its children.
struct LogSettings: Sendable {
  var level: Logger.Level
  var format: LogFormat
  var logger: Logger
}

struct LogLevel: ExpressibleByArgument {
  let level: Logger.Level

  init?(argument: String) {
    guard let level = Logger.Level(rawValue: argument.lowercased()) else { return nil }
    self.level = level
  }

  static var allValueStrings: [String] { Logger.Level.allCases.map(\.rawValue) }
  var defaultValueDescription: String { level.rawValue }
}

/// `30s`, `500ms`, `5min`.
struct DurationArgument: ExpressibleByArgument {
  let duration: Duration

  init(_ duration: Duration) { self.duration = duration }

  init?(argument: String) {
    guard let duration = Quantity.duration(argument) else { return nil }
    self.duration = duration
  }

  var defaultValueDescription: String { Quantity.text(duration) }
}
