internal import Wire

/// Where a coordinator's answers leave, under its byte credits.
protocol Outlet: Sendable {
  func send(_ message: WireMessage)

  /// Runs `body` with `true` once no answer is held back for want of credit: at once, or when credit has come; with
  /// `false` if the coordinator of that incarnation has gone first.
  func whenDrained(for coordinator: UInt64, _ body: @escaping @Sendable (Bool) -> Void)
}
