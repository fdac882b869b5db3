public import Core
public import Fusion
internal import Inference
internal import Synchronization
internal import Wire

/// How a given token is scored at its position, teacher forced.
public struct TokenScore: Sendable, Equatable {
  /// Natural logarithm of the token's probability in the mode's distribution.
  public var logProbability: Float
  /// The mode's most likely token, lowest id on ties.
  public var argmax: Token
  /// The expert the router selects there, in mode `expert:NAME` that one; nil in mode `router`.
  public var expert: String?
  /// r and e of the token; nil for a model that was not asked. In mode `expert:NAME` e is told within the rounding of
  /// one addition in float32, unless it is among the alternatives.
  public var routerLogit: Float?
  public var expertLogit: Float?
  /// The most probable tokens, by descending probability, then ascending id; may or may not hold this one.
  public var alternatives: [TokenAlternative]
}

extension CoordinatorRuntime {
  /// Positions scored together: rows of so many positions are in memory at once.
  private static let scoringBlock = 16

  /// Scores `tokens[first...]` given what stands before each: log softmax of c·r + e, of e or of r, by mode.
  ///
  /// Takes a slot as an answer does, and waits for it. Cancelling the caller's task stops the work.
  ///
  /// - Parameters:
  ///   - first: at least 1, since the first token has nothing before it.
  ///   - alternatives: most probable tokens to tell at each position, at most
  ///     ``GenerationRequest/maximumAlternatives``.
  ///   - client: whom the request belongs to; see ``GenerationRequest/client``.
  ///   - deadline: from now, or from `deadlineStart`; see ``GenerationRequest/deadline``.
  /// - Throws: ``FusionRouteError``, as ``generate(_:)`` does.
  public func score(
    _ tokens: [Token], first: Int, mode: DecodingMode, alternatives: Int = 0, client: String = "",
    deadline: Duration? = nil, deadlineStart: ContinuousClock.Instant? = nil, trace: TraceContext? = nil
  ) async throws -> [TokenScore] {
    let arrival = ContinuousClock.now
    let id = nextSequence()
    let spans = RequestTrace(trace, sink: configuration.traceSink)
    let task = tasks.start(id) { [self] in
      try await observed(spans, ["mode": .string("\(mode)"), "tokens": .integer(tokens.count)]) { _ in
        try validate(tokens, first: first, mode: mode, alternatives: alternatives)
        if let trace { try Self.validate(trace) }
        return try await withDeadline(deadline, since: deadlineStart ?? arrival) {
          try await self.withSlot(id, client: client, cost: tokens.count, spans: spans) { _ in
            let run = ScoringRun(
              tokens: tokens, first: first, mode: mode, alternatives: alternatives, id: id,
              vocabulary: self.router.vocabulary.size, trace: trace)
            if case .expert(let name) = mode { return try await self.scoreExpert(name, run) }
            return try await self.scoreFused(run)
          }
        }
      }
    }
    return try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }

  private func validate(_ tokens: [Token], first: Int, mode: DecodingMode, alternatives: Int) throws {
    try validate(GenerationRequest(prompt: Array(tokens.dropLast()), maximumTokens: 1, mode: mode))
    try Self.validate(alternatives: alternatives)
    guard first >= 1, first < tokens.count else {
      throw FusionRouteError.badInput("the first scored position is \(first): it must be within 1 ..< \(tokens.count)")
    }
    if let last = tokens.last, last < 0 || Int(last) >= router.vocabulary.size {
      throw FusionRouteError.badInput("token \(last) is outside the vocabulary of \(router.vocabulary.size) tokens")
    }
  }

  private func scoreFused(_ run: ScoringRun) async throws -> [TokenScore] {
    let links = Dictionary(
      uniqueKeysWithValues: SequenceDecoder.involved(run.mode, of: experts).map { expert in
        (
          expert,
          ExpertLink(
            expert: expert, sequence: run.id, pool: pool, settings: settings.link, logger: logger.naming(run.trace))
        )
      })
    do {
      var scores: [TokenScore] = []
      for start in stride(from: run.first - 1, to: run.tokens.count - 1, by: Self.scoringBlock) {
        try Task.checkCancellation()
        let block = start..<min(start + Self.scoringBlock, run.tokens.count - 1)
        scores += try await scoreBlock(block, of: run, links: links)
      }
      await end(links, sequence: run.id)
      return scores
    } catch {
      await end(links, sequence: run.id)
      if let lost = error as? ExpertLink.Unavailable {
        throw FusionRouteError.unavailable("expert \"\(lost.expert)\" cannot answer: \(lost.reason)")
      }
      throw error
    }
  }

  private func end(_ links: [String: ExpertLink], sequence: UInt64) async {
    for link in links.values { await link.end() }
    host.release(sequence)
  }

  /// Scores one block of positions: the router's rows at once, then of each expert the rows where it is selected.
  private func scoreBlock(
    _ block: Range<Int>, of run: ScoringRun, links: [String: ExpertLink]
  ) async throws -> [TokenScore] {
    let rows = RowCollection()
    let mode = run.mode
    _ = try await host.submit(
      sequence: run.id, tokens: Array(run.tokens[..<block.upperBound]), wanted: Array(block), hidden: mode != .router
    ) { rows.put($0) }
    var selected: [Int: String] = [:]
    if mode != .router {
      for position in block {
        guard let hidden = rows[position]?.hidden, let index = ExpertSelection.select(host.head.weights(hidden: hidden))
        else { throw FusionRouteError.internal("the router did not select an expert at position \(position)") }
        selected[position] = experts[index]
      }
    }
    let expertRows = try await self.expertRows(
      at: Dictionary(grouping: selected.keys.sorted(), by: { selected[$0] ?? "" }),
      of: TokenChain(run.tokens[..<block.upperBound]), links: links, trace: run.trace)
    return try block.map { position in
      guard let router = rows[position]?.logits, mode == .router || expertRows[position] != nil else {
        throw FusionRouteError.internal("a model left out position \(position)")
      }
      let scores = try LogProbabilities(
        router: mode == .noComplement ? nil : router,
        complementScale: mode == .fusion ? host.head.complementScale : 1, expert: expertRows[position],
        chosen: run.tokens[position + 1], top: max(1, run.alternatives), vocabulary: self.router.vocabulary.size)
      return TokenScore(
        logProbability: scores.chosen.logProbability, argmax: scores.top.first?.token ?? 0,
        expert: selected[position], routerLogit: router[scores.chosen.token], expertLogit: scores.chosen.expertLogit,
        alternatives: scores.top.prefix(run.alternatives).map { TokenAlternative($0, routerLogit: router[$0.token]) })
    }
  }

  /// Full rows by position; the experts compute theirs at the same time.
  private func expertRows(
    at positions: [String: [Int]], of chain: TokenChain, links: [String: ExpertLink], trace: TraceContext?
  ) async throws -> [Int: LogitsRow] {
    try await withThrowingTaskGroup(of: [(Int, StepResult.Row)].self) { group in
      for (expert, positions) in positions {
        guard let link = links[expert], let last = positions.last else { continue }
        group.addTask {
          var prefix = chain
          prefix.truncate(to: last + 1)
          let wants = positions.map { Step.Want(position: $0, fullRow: true) }
          let (result, _) = try await link.step(prefix, wants: wants, trace: trace)
          return Array(zip(positions, result.rows))
        }
      }
      return try await group.reduce(into: [:]) { rows, part in
        for (position, row) in part { if case .full(let full) = row { rows[position] = full } }
      }
    }
  }

  /// One expert's own scores, computed by its worker; nothing but the results travels.
  private func scoreExpert(_ expert: String, _ run: ScoringRun) async throws -> [TokenScore] {
    var scores: [TokenScore] = []
    var excluded: Set<ReplicaID> = []
    var pin: ReplicaPin?
    var reason = "it has no replica"
    while scores.count < run.tokens.count - run.first {
      try Task.checkCancellation()
      let placed = try await pool.placeWaiting(
        expert, sequence: run.id, pin: pin, excluding: excluded,
        until: MonotonicClock.now + configuration.expertWait.nanoseconds)
      guard let (replica, offer) = placed else {
        throw FusionRouteError.unavailable("expert \"\(expert)\" cannot score: \(reason)")
      }
      pin = pool.pin(of: offer)
      defer { pool.release(run.id, at: replica) }
      guard excluded.insert(replica).inserted else {
        throw FusionRouteError.unavailable("expert \"\(expert)\" cannot score: \(reason)")
      }
      do {
        let parts = pool.score(
          run.tokens, first: run.first + scores.count, topK: run.width, fullRows: false, replica: replica,
          timeout: configuration.stepTimeout, trace: run.trace)
        for try await part in parts {
          guard case .scores(let reply) = part else { continue }
          scores += try run.scores(of: reply, after: scores.count, expert: expert)
        }
      } catch let error as FusionRouteError where error.code == .unavailable {
        // Lost in the middle: another replica goes on from where this one stopped.
        reason = error.message
      }
    }
    return scores
  }
}

/// One scoring request.
private struct ScoringRun: Sendable {
  let tokens: [Token]
  let first: Int
  let mode: DecodingMode
  let alternatives: Int
  let id: UInt64
  let vocabulary: Int
  let trace: TraceContext?

  /// Largest logits to ask a worker for; at least one, since with them comes the normaliser.
  var width: Int { min(max(1, alternatives), vocabulary) }

  /// What a worker's reply says, which must go on where the last one ended.
  func scores(of reply: ScoreReply, after count: Int, expert: String) throws -> [TokenScore] {
    let width = reply.topK
    guard reply.first == first + count, width == self.width,
      count + reply.logProbabilities.count <= tokens.count - first
    else { throw FusionRouteError.unavailable("its worker's reply does not fit what was asked") }
    return reply.logProbabilities.indices.map { index in
      let sum = reply.logSumExps[index]
      let top = (index * width..<(index + 1) * width).map { entry in
        TokenAlternative(
          id: reply.topIDs[entry], logProbability: reply.topLogits[entry] - sum, expertLogit: reply.topLogits[entry])
      }
      let token = tokens[first + count + index]
      let logProbability = reply.logProbabilities[index]
      return TokenScore(
        logProbability: logProbability, argmax: reply.argmaxes[index], expert: expert, routerLogit: nil,
        expertLogit: top.first { $0.id == token }?.expertLogit ?? logProbability + sum,
        alternatives: Array(top.prefix(alternatives)))
    }
  }
}

/// Rows by position, filled on the decoder's thread.
private final class RowCollection: Sendable {
  private let rows = Mutex<[Int: DecodedRow]>([:])

  func put(_ row: DecodedRow) { rows.withLock { $0[row.position] = row } }

  subscript(position: Int) -> DecodedRow? { rows.withLock { $0[position] } }
}
