internal import Coordinator
internal import Core
internal import Journal
internal import Logging
internal import Synchronization

/// Runs the items of all open batches, so many at once, in turn among the batches. What it knows is in the journal: it can
/// end at any moment, and another process goes on.
final class BatchRunner: Sendable {
  static let firstPause = Duration.milliseconds(250)
  static let longestPause = Duration.seconds(15)
  /// Between looks at windows that end, and at what has been kept long enough.
  private static let tick = Duration.seconds(10)
  private static let sweepInterval = 3_600

  private let journal: Journal
  private let logger: Logger
  let counts = BatchCounts()
  private let signals: AsyncStream<Void>
  private let signal: AsyncStream<Void>.Continuation
  /// What child tasks have ended since the last look.
  private let ended = Mutex<[Ended]>([])
  /// Batches whose items may start or go on.
  private let open = Mutex<Set<String>>([])

  private enum Ended: Sendable {
    case item(batch: String, number: Int)
    /// A batch's input was read; work on it may go on.
    case reading(batch: String)
    case work(batch: String)
  }

  init(journal: Journal, logger: Logger) {
    self.journal = journal
    self.logger = logger
    (signals, signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  }

  /// A batch came or was cancelled.
  func wake() { signal.yield() }

  /// Until the task is cancelled; items under way are then left to the next process.
  func run(_ environment: GatewayEnvironment, concurrency: Int) async {
    await withDiscardingTaskGroup { group in
      group.addTask { [signal] in
        repeat { signal.yield() } while (try? await Task.sleep(for: Self.tick)) != nil
      }
      var schedule = BatchSchedule(concurrency: concurrency)
      var sweepAt = 0
      for await _ in signals {
        if Task.isCancelled { break }
        let now = UnixTime.now.seconds
        do {
          if now >= sweepAt {
            sweepAt = now + Self.sweepInterval
            try await journal.sweep(now: now)
          }
          try await look(&schedule, now: now, group: &group, environment)
        } catch {
          // The disk may have room again later.
          logger.error("batches cannot go on for now", metadata: ["error": "\(error)"])
        }
      }
      group.cancelAll()
    }
  }

  private func look(
    _ schedule: inout BatchSchedule, now: Int, group: inout DiscardingTaskGroup, _ environment: GatewayEnvironment
  ) async throws {
    let ended = ended.withLock { ended in
      defer { ended = [] }
      return ended
    }
    for end in ended {
      switch end {
      case .item(let batch, let number): schedule.itemEnded(number, of: batch)
      case .reading(let batch): schedule.readingEnded(batch)
      case .work(let batch): schedule.workEnded(batch)
      }
    }
    if environment.gate.isDraining { return }
    var batches = try await journal.openBatches()
    for (index, batch) in batches.enumerated() where now >= batch.life.expires {
      if let late = try await journal.apply(.windowEnded, to: batch.id, now: now) { batches[index] = late }
    }
    try await cancelOrphans(&batches, now: now, environment)
    counts.looked(
      open: batches.count { !$0.life.status.isFinal },
      waiting: batches.reduce(0) { $0 + ($1.life.takesResults ? $1.life.total - $1.life.ended : 0) })
    open.withLock { $0 = Set(batches.filter(\.life.startsItems).map(\.id)) }
    schedule.update(batches.map { ($0.id, $0.life) })
    for batch in batches {
      switch schedule.work(on: batch.id) {
      case .validate:
        start(&group, batch) {
          defer { self.tell(.reading(batch: batch.id)) }
          try await self.validate(batch, environment)
        }
      case .finalize: start(&group, batch) { try await self.finalize(batch) }
      case nil: break
      }
    }
    try await startItems(&schedule, batches, group: &group, environment)
  }

  /// Batches whose API key was revoked: nobody else can cancel them.
  private func cancelOrphans(
    _ batches: inout [StoredBatch], now: Int, _ environment: GatewayEnvironment
  ) async throws {
    guard let keys = environment.keys else { return }
    for (index, batch) in batches.enumerated()
    where !batch.owner.isEmpty && !batch.life.awaitsFinalization && !keys.has(name: batch.owner) {
      guard let cancelled = try await journal.apply(.cancel, to: batch.id, now: now) else { continue }
      batches[index] = cancelled
      logger.notice(
        "batch cancelled: its API key was revoked", metadata: ["batch": "\(batch.id)", "key": "\(batch.owner)"])
    }
  }

  private func startItems(
    _ schedule: inout BatchSchedule, _ batches: [StoredBatch], group: inout DiscardingTaskGroup,
    _ environment: GatewayEnvironment
  ) async throws {
    let byID = Dictionary(batches.map { ($0.id, $0) }) { first, _ in first }
    while let turn = schedule.next() {
      guard let batch = byID[turn.batch],
        let item = try await journal.waitingItems(of: turn.batch, from: turn.from, limit: 1).first
      else {
        schedule.exhausted(turn.batch)
        continue
      }
      schedule.started(item.number, of: turn.batch)
      group.addTask { [self] in
        await run(item, of: batch, environment)
        tell(.item(batch: batch.id, number: item.number))
      }
    }
  }

  private func start(
    _ group: inout DiscardingTaskGroup, _ batch: StoredBatch, _ work: @escaping @Sendable () async throws -> Void
  ) {
    group.addTask { [self] in
      do { try await work() } catch {
        logger.error("batch cannot go on for now", metadata: ["batch": "\(batch.id)", "error": "\(error)"])
        try? await Task.sleep(for: Self.longestPause)
      }
      tell(.work(batch: batch.id))
    }
  }

  private func tell(_ end: Ended) {
    ended.withLock { $0.append(end) }
    signal.yield()
  }

  /// Writes until it succeeds: a disk that is full may have room later, and what was computed is not computed again.
  ///
  /// - Throws: `CancellationError` alone; what was to be written is then left to the next process.
  static func untilWritten<R>(_ logger: Logger, _ work: () async throws -> R) async throws -> R {
    var pause = firstPause
    while true {
      try Task.checkCancellation()
      do { return try await work() } catch {
        try Task.checkCancellation()
        logger.error("journal not written for now", metadata: ["error": "\(error)"])
        try await Task.sleep(for: pause)
        pause = min(pause * 2, longestPause)
      }
    }
  }

  // MARK: Work

  private func validate(_ batch: StoredBatch, _ environment: GatewayEnvironment) async throws {
    var text: [UInt8] = []
    var number = 0
    while let part = try await journal.part(number, of: batch.inputFile) {
      text += part
      number += 1
    }
    let (input, limit) = (text, environment.configuration.maximumBody)
    do {
      let items = try await environment.offloading {
        try BatchInput.items(input, endpoint: batch.endpoint, maximumBody: limit)
      }
      try await journal.begin(batch.id, items: items, now: UnixTime.now.seconds)
      logger.info("batch begins", metadata: ["batch": "\(batch.id)", "requests": "\(items.count)"])
    } catch let refused as BatchInput.Refused {
      try await journal.refuse(batch.id, problems: refused.problems, now: UnixTime.now.seconds)
      logger.info("batch refused", metadata: ["batch": "\(batch.id)", "problems": "\(refused.problems.count)"])
    }
  }

  private func finalize(_ batch: StoredBatch) async throws {
    let isCancelled = batch.life.status == .cancelling
    try await journal.finalize(batch.id, now: UnixTime.now.seconds) { customID in
      BatchObjects.line(unrun: customID, batch: batch.id, isCancelled: isCancelled)
    }
    logger.info("batch ended", metadata: ["batch": "\(batch.id)"])
  }

  /// Until it has a result, or its batch wants none any more.
  private func run(_ item: BatchItem, of batch: StoredBatch, _ environment: GatewayEnvironment) async {
    guard let route = AnswerPlanner.Route(rawValue: batch.endpoint) else { return }
    var outcome: Bool?
    counts.started()
    defer { counts.ended(succeeded: outcome) }
    let requestID = "\(batch.id.dropFirst("batch_".count))-\(item.number)"
    let trace = TraceContext(traceparent: nil, requestID: requestID)
    var pause = Self.firstPause
    while !Task.isCancelled, open.withLock({ $0.contains(batch.id) }) {
      do {
        // No deadline of the configuration's, which is for those who wait: the window ends what waits too long.
        let result = try await UnattendedAnswers(environment: environment).answer(
          route, body: item.body, client: "batch:\(batch.owner)", deadline: nil, trace: trace, priority: .batch)
        let line = BatchObjects.line(item, requestID: requestID, status: result.status, body: result.body)
        let isCounted = try await Self.untilWritten(logger) {
          try await journal.record(
            item.number, of: batch.id, succeeded: result.status < 400, line: line, now: UnixTime.now.seconds)
        }
        if isCounted { outcome = result.status < 400 }
        return
      } catch {
        if environment.gate.isDraining { return }
        logger.debug(
          "batch item not answered for now",
          metadata: ["batch": "\(batch.id)", "item": "\(item.number)", "error": "\(error)"])
        try? await Task.sleep(for: pause)
        pause = min(pause * 2, Self.longestPause)
      }
    }
  }
}
