internal import ArgumentParser
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

  /// Sets up logging for the process; call once.
  func bootstrap(default level: Logger.Level) -> Logger {
    Style.choice = color
    let level = logLevel?.level ?? level
    let style = Style(.standardError)
    LoggingSystem.bootstrap { _ in StderrLogHandler(level: level, style: style) }
    return Logger(label: "fusionroute")
  }

  /// The level as a worker is told it.
  func level(default level: Logger.Level) -> Logger.Level { logLevel?.level ?? level }
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
