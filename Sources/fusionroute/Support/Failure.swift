internal import ArgumentParser
internal import Coordinator
internal import Core
internal import Foundation
internal import Launch
internal import Logging
internal import Synchronization

/// Turns errors into one sentence on stderr and the right exit code.
enum Failure {
  // Set once while the command line is read, before any other thread reports.
  private static let chosen = Mutex(LogFormat.text)
  static var format: LogFormat {
    get { chosen.withLock { $0 } }
    set { chosen.withLock { $0 = newValue } }
  }

  /// Ends the process.
  static func exit(_ error: any Error) -> Never {
    if let reported = error as? Reported { Foundation.exit(reported.error.code.exitCode) }
    if let failure = known(error) {
      report(failure)
      Foundation.exit(failure.code.exitCode)
    }
    // Usage errors, --help and --version; they print what belongs to them.
    FusionRoute.exit(withError: error)
  }

  /// `error: SENTENCE` on stderr, the form that a supervising process looks for; a log line where logs are for machines.
  static func report(_ error: FusionRouteError) {
    let style = Style(.standardError)
    // It may hold what stands in files and prompts, which must not steer the reader's terminal.
    let sentence = TokenPainter.printable(singleLine(Self.text(of: error)))
    // Who pressed Ctrl-C made no mistake; what failed on the way out is one.
    let isMistake = error.code != .interrupted || error.cause != nil
    let text =
      switch format {
      case .text: (isMistake ? style.paint(ProcessSupervisor.errorPrefix, .failure) : "") + sentence + "\n"
      case .journal, .json:
        LogLine(
          time: Date(), level: isMistake ? .error : .notice, label: "fusionroute", message: sentence,
          metadata: ["code": "\(error.code.rawValue)"]
        ).rendered(format, style: style)
      }
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// As ``FusionRouteError/description``, but of what Foundation throws only the sentence.
  private static func text(of error: any Error) -> String {
    guard let error = error as? FusionRouteError else {
      let cause = error as NSError
      guard cause.domain == NSCocoaErrorDomain || cause.domain == NSPOSIXErrorDomain else { return "\(error)" }
      let system = (cause.userInfo[NSUnderlyingErrorKey] as? NSError) ?? cause
      return system.domain == NSPOSIXErrorDomain
        ? String(cString: strerror(Int32(truncatingIfNeeded: system.code)))
        : cause.localizedFailureReason ?? cause.localizedDescription
    }
    guard let cause = error.cause, !isForPrograms(cause) else { return error.message }
    return "\(error.message) (\(text(of: cause)))"
  }

  /// Whether a cause only tells this program what the sentence tells people.
  private static func isForPrograms(_ cause: any Error) -> Bool {
    cause is PromptTooLong || cause is ContextLengthExceeded
  }

  /// The error as one of ours; nil for those that ArgumentParser explains.
  static func known(_ error: any Error) -> FusionRouteError? {
    switch error {
    case let error as FusionRouteError: error
    case is CancellationError: .interrupted("interrupted")
    case is ExitCode, is CleanExit, is ValidationError: nil
    default:
      // ArgumentParser's own error types are not public; it knows them by their exit code.
      FusionRoute.exitCode(for: error) == .failure
        ? .internal("an unexpected error, which is a defect of this program", cause: error) : nil
    }
  }

  private static func singleLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).map { $0.trimmingPrefix(while: \.isWhitespace) }.joined(separator: " ")
  }
}

/// The arguments as the system passed them.
enum RawArguments {
  /// Swift repairs invalid UTF-8 in arguments silently, which would answer another prompt than the one given.
  static func checkUTF8() throws {
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let argument = CommandLine.unsafeArgv[index] else { continue }
      let bytes = UnsafeRawBufferPointer(start: argument, count: strlen(argument))
      if String(validating: bytes, as: UTF8.self) == nil {
        let before = index > 1 ? CommandLine.unsafeArgv[index - 1].map { String(cString: $0) } : nil
        let place = before.map { $0.hasPrefix("-") ? "the value of \($0)" : "argument \(index)" } ?? "argument \(index)"
        throw FusionRouteError.badInput("\(place) is not valid UTF-8")
      }
    }
  }
}
