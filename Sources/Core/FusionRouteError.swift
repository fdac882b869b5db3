/// An error a user can act on: what was wrong, where, and what to do about it.
public struct FusionRouteError: Error, Sendable, CustomStringConvertible {
  /// Open set of error kinds. Each maps to one exit code of the command line.
  public struct Code: RawRepresentable, Hashable, Sendable {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }

    /// Wrong use of a command or an API: 64.
    public static let usage = Code(rawValue: "usage")
    /// A file, key or prompt the user gave is not acceptable: 65.
    public static let badInput = Code(rawValue: "bad-input")
    /// A port in use, a worker that does not come, memory that does not suffice: 69.
    public static let unavailable = Code(rawValue: "unavailable")
    /// Too many requests wait already; trying again later helps: 69.
    public static let overloaded = Code(rawValue: "overloaded")
    /// A request took longer than its deadline allows: 69.
    public static let deadlineExceeded = Code(rawValue: "deadline-exceeded")
    /// A defect of ours: 70.
    public static let `internal` = Code(rawValue: "internal")
    /// Interrupted by the user or cancelled: 130.
    public static let interrupted = Code(rawValue: "interrupted")

    /// Process exit code (sysexits, and 128 + SIGINT).
    public var exitCode: Int32 {
      switch self {
      case .usage: 64
      case .badInput: 65
      case .unavailable, .overloaded, .deadlineExceeded: 69
      case .interrupted: 130
      default: 70
      }
    }
  }

  public let code: Code
  /// One full sentence.
  public let message: String
  public let cause: (any Error)?

  public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  public static func usage(_ message: String) -> Self { Self(.usage, message) }
  public static func badInput(_ message: String, cause: (any Error)? = nil) -> Self {
    Self(.badInput, message, cause: cause)
  }
  public static func unavailable(_ message: String, cause: (any Error)? = nil) -> Self {
    Self(.unavailable, message, cause: cause)
  }
  public static func `internal`(_ message: String, cause: (any Error)? = nil) -> Self {
    Self(.internal, message, cause: cause)
  }
  public static func interrupted(_ message: String) -> Self { Self(.interrupted, message) }

  public var description: String {
    if let cause { "\(message) (\(cause))" } else { message }
  }
}
