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
  /// The expert the router selects there; nil in mode `router`.
  public var expert: String?
}

extension CoordinatorRuntime {
  /// Positions scored together: rows of so many positions are in memory at once.
  private static let scoringBlock = 16

  /// Scores `tokens[first...]` given what stands before each: log softmax of c·r + e, of e or of r, by mode.
  ///
  /// - Parameter first: at least 1, since the first token has nothing before it.
  public func score(_ tokens: [Token], first: Int, mode: DecodingMode) async throws -> [TokenScore] {
    try validate(GenerationRequest(prompt: Array(tokens.dropLast()), maximumTokens: 1, mode: mode))
    guard first >= 1, first < tokens.count else {
      throw FusionRouteError.badInput("the first scored position is \(first): it must be within 1 ..< \(tokens.count)")
    }
    if let last = tokens.last, last < 0 || Int(last) >= router.vocabulary.size {
      throw FusionRouteError.badInput("token \(last) is outside the vocabulary of \(router.vocabulary.size) tokens")
    }
    if case .expert(let name) = mode { return try await scoreExpert(name, tokens, first: first) }
    let id = nextSequence()
    let links = Dictionary(
      uniqueKeysWithValues: SequenceDecoder.involved(mode, of: experts).map { expert in
        (expert, ExpertLink(expert: expert, sequence: id, pool: pool, settings: settings.link, logger: logger))
      })
    do {
      var scores: [TokenScore] = []
      for start in stride(from: first - 1, to: tokens.count - 1, by: Self.scoringBlock) {
        let block = start..<min(start + Self.scoringBlock, tokens.count - 1)
        scores += try await scoreBlock(block, of: tokens, mode: mode, sequence: id, links: links)
      }
      await end(links, sequence: id)
      return scores
    } catch {
      await end(links, sequence: id)
      throw error
    }
  }

  private func end(_ links: [String: ExpertLink], sequence: UInt64) async {
    for link in links.values { await link.end() }
    host.release(sequence)
  }

  /// Scores one block of positions: the router's rows at once, then of each expert the rows where it is selected.
  private func scoreBlock(
    _ block: Range<Int>, of tokens: [Token], mode: DecodingMode, sequence: UInt64, links: [String: ExpertLink]
  ) async throws -> [TokenScore] {
    let rows = RowCollection()
    _ = try await host.submit(
      sequence: sequence, tokens: Array(tokens[..<block.upperBound]), wanted: Array(block), hidden: mode != .router
    ) { rows.put($0) }
    var selected: [Int: String] = [:]
    if mode != .router {
      for position in block {
        guard let hidden = rows[position]?.hidden, let index = ExpertSelection.select(host.head.weights(hidden: hidden))
        else { throw FusionRouteError.internal("the router did not select an expert at position \(position)") }
        selected[position] = experts[index]
      }
    }
    var expertRows: [Int: LogitsRow] = [:]
    let chain = TokenChain(tokens[..<block.upperBound])
    for (expert, link) in links {
      let positions = block.filter { selected[$0] == expert }
      guard let last = positions.last else { continue }
      var prefix = chain
      prefix.truncate(to: last + 1)
      let (result, _) = try await link.step(prefix, wants: positions.map { Step.Want(position: $0, fullRow: true) })
      for (position, row) in zip(positions, result.rows) {
        if case .full(let full) = row { expertRows[position] = full }
      }
    }
    return try block.map { position in
      guard let router = rows[position]?.logits, mode == .router || expertRows[position] != nil else {
        throw FusionRouteError.internal("a model left out position \(position)")
      }
      let scores = try LogProbabilities(
        router: mode == .noComplement ? nil : router,
        complementScale: mode == .fusion ? host.head.complementScale : 1, expert: expertRows[position],
        chosen: tokens[position + 1], top: 1, vocabulary: self.router.vocabulary.size)
      return TokenScore(
        logProbability: scores.chosen, argmax: scores.top.first?.token ?? 0, expert: selected[position])
    }
  }

  /// One expert's own scores, computed by its worker; nothing but the results travels.
  private func scoreExpert(_ expert: String, _ tokens: [Token], first: Int) async throws -> [TokenScore] {
    var scores: [TokenScore] = []
    var excluded: Set<ReplicaID> = []
    let id = nextSequence()
    while scores.count < tokens.count - first {
      try Task.checkCancellation()
      guard let (replica, _) = pool.place(expert, sequence: id, fingerprint: nil, excluding: excluded),
        excluded.insert(replica).inserted
      else { throw FusionRouteError.unavailable("expert \"\(expert)\" has no replica that could score") }
      defer { pool.release(id, at: replica) }
      do {
        let parts = pool.score(
          tokens, first: first + scores.count, topK: 0, fullRows: false, replica: replica,
          timeout: configuration.stepTimeout)
        for try await part in parts {
          guard case .scores(let reply, let payload) = part else { continue }
          scores += zip(reply.logProbabilities, reply.argmaxes).map {
            TokenScore(logProbability: $0, argmax: $1, expert: expert)
          }
          pool.credit(payload, replica: replica)
        }
      } catch let error as FusionRouteError where error.code == .unavailable {
        // Lost in the middle: another replica goes on from where this one stopped.
        continue
      }
    }
    return scores
  }
}

/// Rows by position, filled on the decoder's thread.
private final class RowCollection: Sendable {
  private let rows = Mutex<[Int: DecodedRow]>([:])

  func put(_ row: DecodedRow) { rows.withLock { $0[row.position] = row } }

  subscript(position: Int) -> DecodedRow? { rows.withLock { $0[position] } }
}
