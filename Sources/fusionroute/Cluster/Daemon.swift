internal import Core
internal import Foundation
internal import Gateway
internal import Launch
internal import Logging
internal import ServiceLifecycle
internal import Synchronization

/// `up` and `coordinator`: a cluster that is served over HTTP until a signal comes.
struct Daemon: Sendable {
  /// How much longer than the gateway's own grace everything may take to end in order.
  private static let closing = Duration.seconds(15)

  let cluster: ClusterFile
  let workers: ClusterSession.Workers
  /// Other hosts that are started once the coordinator listens.
  var hosts: LaunchedHosts?
  /// Whether they run on at the end.
  var leavesHosts = false
  let log: LogSettings
  /// Called with the port once connections are accepted.
  let serving: @Sendable (Int) -> Void

  /// SIGTERM and Ctrl-C end it in order: answers under way may finish, then workers stop. A second signal ends it at
  /// once.
  ///
  /// Throws `interrupted` after Ctrl-C, and what keeps the cluster from starting.
  func run() async throws {
    try cluster.checkFiles(for: [.gateway])
    let configuration = try cluster.gatewayConfiguration()
    try PortProbe.check(host: configuration.host, port: configuration.port)
    if configuration.apiKeys != nil, configuration.certificate == nil, !configuration.isLoopback {
      log.logger.warning(
        "API keys and answers travel unencrypted: set gateway.tls_certificate, or put a proxy in front")
    }
    let trace = try cluster.gateway.trace.map {
      try TraceFile(path: $0, experts: cluster.experts.map(\.name), logger: log.logger)
    }
    defer { trace?.flush() }
    let control = Control()
    let task = Task { try await serve(configuration, trace, control) }
    let trap = try SignalTrap { signal, _ in
      switch control.received(signal, at: .now) {
      case .first:
        log.logger.notice("shutting down", metadata: ["signal": "\(signal)"])
        control.end { task.cancel() }
      case .echo: break
      // Children notice by their stdin that this process is gone.
      case .another: _exit(FusionRouteError.Code.interrupted.exitCode)
      }
    }
    defer { trap.cancel() }
    let result = await task.result
    guard let signal = control.signal else { return try result.get() }
    if case .failure(let error) = result, !(error is CancellationError) {
      log.logger.warning("did not end in order", metadata: ["error": "\(error)"])
    }
    if signal == SIGINT { throw FusionRouteError.interrupted("interrupted") }
    log.logger.notice("ended")
  }

  private func serve(_ configuration: GatewayConfiguration, _ trace: TraceFile?, _ control: Control) async throws {
    log.logger.info("loading the router", metadata: ["model": "\(cluster.router.engine.model)"])
    try await ClusterSession.withStarted(
      cluster, workers: workers, log: log, progress: Progress(isQuiet: true), trace: trace
    ) { session in
      try Task.checkCancellation()
      let gateway = GatewayServer(
        configuration: configuration, coordinator: session.coordinator,
        scaler: ClusterScaler(cluster, workers: session.workers, hosts: hosts), logger: log.logger)
      var quiet = log.logger
      quiet.logLevel = max(quiet.logLevel, .warning)
      // Ended from the last to the first: those that speak to clients before those that answer.
      let services: [any Service] = [ClusterService(session: session, logger: log.logger), gateway]
      var settings = ServiceGroupConfiguration(
        services: services.map {
          .init(
            service: $0, successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .gracefullyShutdownGroup)
        }, logger: quiet)
      settings.maximumGracefulShutdownDuration = configuration.shutdownGrace + Self.closing
      let group = ServiceGroup(configuration: settings)
      let announcement = Task {
        if let port = try? await gateway.waitUntilServing() { serving(port) }
      }
      defer { announcement.cancel() }
      control.begin(group)
      guard let hosts else { return try await group.run() }
      try await hosts.around(session, leaves: leavesHosts) {
        try await group.run()
      } failed: {
        await group.triggerGracefulShutdown()
      }
    }
  }
}

/// Brings signals to the services, or to what is done before there are any.
final class Control: Sendable {
  enum Signal: Sendable, Equatable {
    case first
    /// The first one a second time: a terminal, `timeout` or a wrapper signals the process and its group.
    case echo
    case another
  }

  /// Time in which a signal is an echo of the first.
  static let echo = Duration.milliseconds(200)

  private struct State {
    var first: (signal: Int32, time: ContinuousClock.Instant)?
    var group: ServiceGroup?
  }

  private let state = Mutex(State())

  /// The first signal that came.
  var signal: Int32? { state.withLock { $0.first?.signal } }

  func received(_ signal: Int32, at time: ContinuousClock.Instant) -> Signal {
    state.withLock { state in
      guard let first = state.first else {
        state.first = (signal, time)
        return .first
      }
      return time - first.time < Self.echo ? .echo : .another
    }
  }

  func begin(_ group: ServiceGroup) {
    let isEnding = state.withLock { state in
      state.group = group
      return state.first != nil
    }
    if isEnding { Task { await group.triggerGracefulShutdown() } }
  }

  /// - Parameter early: called if the services do not run yet.
  func end(early: () -> Void) {
    if let group = state.withLock({ $0.group }) {
      Task { await group.triggerGracefulShutdown() }
    } else {
      early()
    }
  }
}
