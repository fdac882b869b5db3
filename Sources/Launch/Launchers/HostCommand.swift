/// A program that a launcher runs on this machine: `ssh`, `sbatch`, `scancel`, `kubectl`.
public struct HostCommand: Sendable, Equatable {
  /// Looked up on `$PATH`.
  public var program: String
  public var arguments: [String]
  /// What it reads on stdin.
  public var input: String
  /// How long it may take.
  public var limit: Duration

  public init(_ program: String, _ arguments: [String], input: String = "", limit: Duration = .seconds(120)) {
    self.program = program
    self.arguments = arguments
    self.input = input
    self.limit = limit
  }

  /// As a person would type it.
  public var line: String { Quoting.shell([program] + arguments) }
}

/// What became of a ``HostCommand``.
public struct CommandResult: Sendable, Equatable {
  public var exit: ProcessExit
  public var output: String
  public var errors: String

  public init(exit: ProcessExit, output: String, errors: String) {
    self.exit = exit
    self.output = output
    self.errors = errors
  }

  /// Its last words, for a sentence.
  var lastLine: String? {
    (errors + "\n" + output).split(whereSeparator: \.isNewline).map { $0.trimming(\.isWhitespace) }
      .last { !$0.isEmpty }
  }

  /// What it said after `error: `, as our own commands do, else its last line.
  var complaint: String? {
    let prefix = ProcessSupervisor.errorPrefix
    return errors.split(whereSeparator: \.isNewline).last { $0.hasPrefix(prefix) }.map {
      String($0.dropFirst(prefix.count))
    }
      ?? lastLine
  }
}

/// Runs commands; the launchers decide which.
public typealias CommandRunner = @Sendable (HostCommand) async throws -> CommandResult

extension Substring {
  fileprivate func trimming(_ isLeftOut: (Character) -> Bool) -> String {
    var part = self
    while let first = part.first, isLeftOut(first) { part.removeFirst() }
    while let last = part.last, isLeftOut(last) { part.removeLast() }
    return String(part)
  }
}
