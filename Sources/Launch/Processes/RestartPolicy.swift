/// How a process ended.
public enum ProcessExit: Sendable, Hashable, CustomStringConvertible {
  case code(Int32)
  case signal(Int32)

  public var description: String {
    switch self {
    case .code(let code): "exit code \(code)"
    case .signal(let signal): "signal \(signal)"
    }
  }
}

/// Whether and when a worker that ended by itself is started again. A pure value: time is passed in.
public struct RestartPolicy: Sendable, Equatable {
  public struct Limits: Sendable, Equatable {
    /// Restarts allowed within `window`.
    public var restarts: Int
    public var window: Duration
    /// Wait before the first restart of a row; it doubles with each further one.
    public var backOff: Duration
    public var maximumBackOff: Duration

    public init(
      restarts: Int = 5, window: Duration = .seconds(60), backOff: Duration = .milliseconds(500),
      maximumBackOff: Duration = .seconds(30)
    ) {
      self.restarts = restarts
      self.window = window
      self.backOff = backOff
      self.maximumBackOff = max(maximumBackOff, backOff)
    }
  }

  public enum Decision: Sendable, Equatable {
    case restart(after: Duration)
    /// The reason, to be put after "was not started again: ".
    case giveUp(String)
  }

  /// Exit codes that the same command line would give again: wrong use and bad input.
  public static let permanentCodes: Set<Int32> = [64, 65]

  public let limits: Limits
  /// When it was restarted, within the window; times since any fixed origin.
  private var restarts: [Duration] = []
  /// Restarts in a row, none of which ran for a whole window.
  private var row = 0

  public init(limits: Limits = Limits()) { self.limits = limits }

  /// - Parameters:
  ///   - ran: how long the process had run.
  ///   - now: time since the same origin in every call.
  public mutating func ended(_ exit: ProcessExit, ran: Duration, now: Duration) -> Decision {
    if case .code(let code) = exit, Self.permanentCodes.contains(code) {
      return .giveUp("exit code \(code) means that the same start would fail again")
    }
    if ran >= limits.window { row = 0 }
    restarts.removeAll { now - $0 >= limits.window }
    guard restarts.count < limits.restarts else {
      return .giveUp("it ended \(restarts.count + 1) times within \(limits.window)")
    }
    restarts.append(now)
    var wait = limits.backOff
    for _ in 0..<row where wait < limits.maximumBackOff { wait = wait * 2 }
    row += 1
    return .restart(after: min(wait, limits.maximumBackOff))
  }
}
