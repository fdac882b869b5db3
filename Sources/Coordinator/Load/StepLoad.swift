public import Core
internal import Foundation
internal import Fusion
public import Logging
internal import Messaging
internal import Synchronization
internal import Wire

/// A coordinator whose router takes no time, and streams that ask for one token after another: what `bench scale`
/// measures. Registration, placement, links, wire, scoring and merging are those of every request.
public final class StepLoad: Sendable {
  /// What a measured interval came to.
  public struct Figures: Sendable, Equatable, Codable {
    public var steps: Int
    public var seconds: Double
    /// Processor time of this process in the interval.
    public var processorSeconds: Double
    /// What a step took beyond the worker's own waiting and computing, from the stream's wish to its token, in
    /// milliseconds.
    public var addedMedianMs: Double
    public var addedP99Ms: Double
    public var failovers: Int

    public var stepsPerSecond: Double { Double(steps) / seconds }
    /// Steps for each second of processor time.
    public var stepsPerCore: Double { processorSeconds > 0 ? Double(steps) / processorSeconds : 0 }
  }

  private struct Tally {
    var steps = 0
    var added: [UInt64] = []
    var failovers = 0
    var processorSeconds = 0.0
  }

  /// Tokens after which a stream begins a new sequence.
  private static let sequenceLength = 256
  private static let promptLength = 16
  private static let expert = "stub"

  private let pool: ExpertPool
  private let server: MessageServer
  private let vocabulary: Int
  private let next: @Sendable (TokenChain) -> Token?
  private let logger: Logger
  private let row: LogitsRow
  private let sequences = Atomic<UInt64>(1)

  /// Binds a private endpoint.
  ///
  /// - Parameters:
  ///   - vocabulary: size and fingerprint that workers must have.
  ///   - next: the token that must follow, to check answers.
  public init(
    endpoint: String, vocabulary: (size: Int, fingerprint: SHA256Digest), logger: Logger,
    next: @escaping @Sendable ([Token]) -> Token?
  ) throws {
    self.vocabulary = vocabulary.size
    self.logger = logger
    self.next = { next($0.tokens) }
    var random = SplitMix64(seed: 11)
    row = LogitsRow((0..<vocabulary.size).map { _ in Float.random(in: -4...4, using: &random) })
    pool = ExpertPool(
      requirements: .init(
        experts: [Self.expert], vocabularyFingerprint: vocabulary.fingerprint, vocabularySize: vocabulary.size,
        protocolRange: WireCodec.oldestProtocol...WireCodec.currentProtocol, reproducible: true),
      limits: .init(), vocabulary: VocabularyTexts(size: vocabulary.size) { _ in [] },
      heartbeatInterval: .milliseconds(500), logger: logger)
    var messaging = MessagingOptions(logger: logger)
    messaging.tickInterval = .milliseconds(50)
    server = try MessageServer(endpoints: [endpoint], options: messaging, handler: pool)
  }

  public static var expertName: String { expert }

  public var boundEndpoint: String { server.boundEndpoints.first ?? "" }

  /// Waits until so many replicas serve. Throws `unavailable` if they do not in time.
  public func wait(replicas count: Int, timeout: Duration) async throws {
    let deadline = MonotonicClock.now + timeout.nanoseconds
    while true {
      let seen = pool.changes
      guard pool.state.withLock({ $0.registry.serving(Self.expert).count }) < count else { return }
      guard MonotonicClock.now < deadline else {
        throw FusionRouteError.unavailable("\(count) stub workers did not register within \(timeout)")
      }
      await pool.waitForChange(since: seen, until: min(deadline, MonotonicClock.now + 500_000_000))
    }
  }

  /// Runs `streams` for `duration` and counts what happens after `warmUp` of it.
  public func run(streams: Int, warmUp: Duration, duration: Duration) async throws -> Figures {
    let start = MonotonicClock.now
    let from = start + warmUp.nanoseconds
    let until = from + duration.nanoseconds
    let tallies = try await withThrowingTaskGroup(of: Tally.self) { group in
      for _ in 0..<streams { group.addTask { try await self.stream(from: from, until: until) } }
      group.addTask {
        try await Task.sleep(for: .nanoseconds(Int64(from - start)))
        let before = Self.processorSeconds
        try await Task.sleep(for: duration)
        return Tally(processorSeconds: Self.processorSeconds - before)
      }
      return try await group.reduce(into: Tally()) { sum, tally in
        sum.steps += tally.steps
        sum.added += tally.added
        sum.failovers += tally.failovers
        sum.processorSeconds += tally.processorSeconds
      }
    }
    let added = tallies.added.sorted()
    func percentile(_ share: Double) -> Double {
      added.isEmpty ? 0 : Double(added[min(added.count - 1, Int(Double(added.count) * share))]) / 1e6
    }
    return Figures(
      steps: tallies.steps, seconds: Double(duration.nanoseconds) / 1e9, processorSeconds: tallies.processorSeconds,
      addedMedianMs: percentile(0.5), addedP99Ms: percentile(0.99), failovers: tallies.failovers)
  }

  private func stream(from: UInt64, until: UInt64) async throws -> Tally {
    var tally = Tally()
    while MonotonicClock.now < until {
      let id = sequences.add(1, ordering: .relaxed).oldValue
      let link = ExpertLink(
        expert: Self.expert, sequence: id, pool: pool,
        settings: .init(stepTimeout: .seconds(60), expertWait: .seconds(30)), logger: logger)
      do { try await decode(id, link, &tally, from: from, until: until) } catch {
        await link.end()
        throw error
      }
      await link.end()
      tally.failovers += await link.failovers
    }
    return tally
  }

  private func decode(
    _ id: UInt64, _ link: ExpertLink, _ tally: inout Tally, from: UInt64, until: UInt64
  ) async throws {
    var random = SplitMix64(seed: id)
    var chain = TokenChain((0..<Self.promptLength).map { _ in Token.random(in: 0..<Token(vocabulary), using: &random) })
    var history = History(prompt: chain.tokens)
    for index in 0..<Self.sequenceLength {
      let began = MonotonicClock.now
      guard began < until else { return }
      let scorer = try StepScorer(
        router: row, complementScale: 1, parameters: SamplingParameters(), history: history, outputIndex: index,
        choice: 0, vocabulary: vocabulary)
      let named = scorer.candidates(limit: 32)
      let (result, _) = try await link.step(
        chain, wants: [Step.Want(position: chain.count - 1, topK: 32, named: named)])
      guard case .partial(let partial)? = result.rows.first, case .chosen(let choice) = try scorer.decide(partial)
      else {
        throw FusionRouteError.internal("a stub's row does not decide")
      }
      guard next(chain) == nil || next(chain) == choice.token else {
        throw FusionRouteError.internal("a stub answered for another prefix")
      }
      chain.append(choice.token)
      history.append(choice.token)
      let ended = MonotonicClock.now
      guard began >= from, ended <= until else { continue }
      let inside = result.queueNanoseconds + result.computeNanoseconds
      tally.steps += 1
      tally.added.append(ended - began > inside ? ended - began - inside : 0)
    }
  }

  public func shutdown() {
    pool.close()
    server.shutdown(flushing: .milliseconds(200))
  }

  /// User and system time of this process so far.
  private static var processorSeconds: Double { Double(clock()) / Double(CLOCKS_PER_SEC) }
}
