internal import Wire

/// Where a coordinator's answers leave, under its byte credits.
protocol Outlet: Sendable {
  func send(_ message: WireMessage)

  /// Runs `body` once no answer is held back for want of credit: at once, or when credit has come.
  func whenDrained(_ body: @escaping @Sendable () -> Void)
}
