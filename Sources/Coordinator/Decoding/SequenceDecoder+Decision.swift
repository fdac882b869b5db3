internal import Core
internal import Fusion
internal import Wire

/// How one token is decided: who is asked, for how much of a row, and under which constraint.
extension SequenceDecoder {
  struct Decision {
    var choice: Choice
    var expert: String?
    var degraded = false
    var weights: [Float] = []
    /// r, where the router was asked, whether or not it had a say.
    var routerRow: LogitsRow?
    /// Nil unless the request asks for it.
    var probabilities: LogProbabilities?

    var alternatives: [TokenAlternative] {
      (probabilities?.top ?? []).map {
        TokenAlternative($0, routerLogit: $0.routerLogit ?? routerRow?[$0.token])
      }
    }
  }

  func decideNext() async throws -> Decision {
    (evaluatedByRouter, evaluatedByExpert) = (0, 0)
    if request.fanout == .all {
      for link in links.values { await link.prepare(chain, keepingRowAt: chain.count - 1, trace: trace) }
    }
    guard request.mode.usesRouter else {
      guard case .expert(let name) = request.mode else { throw FusionRouteError.internal("a mode without a model") }
      do {
        return try await decide(router: nil, expert: name)
      } catch let error as ExpertLink.Unavailable {
        throw Self.unavailable(error)
      }
    }
    let output = try await router.evaluate(sequence: id, tokens: chain.tokens, routes: request.mode != .router)
    note(output)
    var decision = try await decide(output)
    decision.weights = output.weights
    decision.routerRow = output.logits
    return decision
  }

  private func decide(_ output: RouterOutput) async throws -> Decision {
    if request.mode == .router { return try await decideWithoutExpert(output.logits) }
    guard let selected = ExpertSelection.select(output.weights) else {
      throw FusionRouteError.internal("the routing weights are not numbers: check the router's head")
    }
    predictor.observe(selected)
    let decision = try await decide(output, selected: selected)
    if request.fanout == .predicted, let next = predictor.likelyNext(after: selected) {
      await links[experts[next]]?.prepare(chain, trace: trace)
    }
    return decision
  }

  /// The selected expert decides, or, when it is lost, whom the request's policy names.
  private func decide(_ output: RouterOutput, selected: Int) async throws -> Decision {
    let weights = output.weights
    let complement = request.mode == .fusion ? output.logits : nil
    let order =
      [selected] + weights.indices.filter { $0 != selected }.sorted { (-weights[$0], $0) < (-weights[$1], $1) }
    let tried = request.onExpertLoss == .nextBest ? order : [selected]
    var lost = ExpertLink.Unavailable(expert: experts[selected], reason: "it was not asked")
    for index in tried {
      do {
        var decision = try await decide(router: complement, expert: experts[index])
        decision.degraded = index != selected
        return decision
      } catch let error as ExpertLink.Unavailable {
        lost = error
      }
    }
    guard request.onExpertLoss == .router else { throw Self.unavailable(lost) }
    var decision = try await decideWithoutExpert(output.logits)
    decision.degraded = true
    return decision
  }

  private static func unavailable(_ lost: ExpertLink.Unavailable) -> FusionRouteError {
    .unavailable("expert \"\(lost.expert)\" cannot answer: \(lost.reason)")
  }

  // MARK: One model's or two models' rows

  /// By r itself: c weighs the router against an expert.
  private func decideWithoutExpert(_ row: LogitsRow) async throws -> Decision {
    let choice = try await choose(router: row, scale: 1) { scorer in try measured { try scorer.decideWithoutExpert() } }
    return Decision(choice: choice, probabilities: try probabilities(of: choice, router: row, scale: 1, expert: nil))
  }

  private func decide(router row: LogitsRow?, expert: String) async throws -> Decision {
    guard let link = links[expert] else { throw FusionRouteError.internal("no line to expert \"\(expert)\"") }
    var asked = AskedRows(isWhole: request.alternatives != nil)
    let scale = router.head.complementScale
    let choice = try await choose(router: row, scale: scale) { scorer in try await ask(link, scorer, &asked) }
    summary.certification.record(partialRows: asked.partials, fullRow: asked.full?.count)
    return Decision(
      choice: choice, expert: expert,
      probabilities: try probabilities(of: choice, router: row, scale: scale, expert: asked.full))
  }

  /// The best token that the constraint allows.
  ///
  /// The best of all is the best of those allowed if it is allowed itself, so it is tested alone first: to find every
  /// forbidden token takes a grammar far longer. With top-k, top-p or min-p that is not so: what is left out depends on
  /// what else may come. Then the forbidden ones are masked before.
  ///
  /// - Parameter scale: what the router's logits are multiplied by.
  private func choose(
    router row: LogitsRow?, scale: Float, _ decide: (StepScorer) async throws -> Choice
  ) async throws -> Choice {
    guard constraint != nil else { return try await decide(try scorer(router: row, scale: scale, banned: [])) }
    if !request.sampling.isFiltered {
      let choice = try await decide(try scorer(router: row, scale: scale, banned: []))
      if try measured({ try constraint?.allows(choice.token) ?? true }) { return choice }
    }
    let forbidden = try measured { try constraint?.forbidden() ?? [] }
    guard forbidden.count < vocabulary else {
      throw FusionRouteError.badInput(
        "after \(summary.generatedTokens) tokens the grammar or schema allows no token of this model's vocabulary, nor the "
          + "text to end: loosen it")
    }
    return try await decide(try scorer(router: row, scale: scale, banned: forbidden))
  }

  private func scorer(router row: LogitsRow?, scale: Float, banned: [Token]) throws -> StepScorer {
    try measured {
      try StepScorer(
        router: row, complementScale: scale, parameters: request.sampling, history: history,
        outputIndex: summary.generatedTokens, choice: request.choice, vocabulary: vocabulary, banned: banned)
    }
  }

  private func probabilities(
    of choice: Choice, router row: LogitsRow?, scale: Float, expert: LogitsRow?
  ) throws -> LogProbabilities? {
    guard let count = request.alternatives else { return nil }
    return try measured {
      try LogProbabilities(
        router: row, complementScale: scale, expert: expert, chosen: choice.token, top: count,
        vocabulary: vocabulary)
    }
  }

  // MARK: Rows

  /// What has been fetched of an expert's row for the token under way.
  private struct AskedRows {
    /// Whether the full row is wanted whatever decides.
    var isWhole: Bool
    var partials: [PartialRow] = []
    var full: LogitsRow?
  }

  /// Asks an expert for as much of its row as the decision takes: a partial row, longer ones, at last the full one.
  private func ask(_ link: ExpertLink, _ scorer: StepScorer, _ asked: inout AskedRows) async throws -> Choice {
    if let full = asked.full { return try measured { try scorer.decide(full: full) } }
    let first = asked.isWhole ? Verdict.needsFullRow : .needs(topK: settings.topK)
    var verdict = first
    while true {
      let want = want(for: verdict, scorer: scorer)
      let (result, replica) = try await link.step(chain, wants: [want], trace: trace)
      note(result)
      guard let answer = result.rows.first else { throw FusionRouteError.internal("a reply without its row") }
      switch answer {
      case .full(let full):
        asked.full = full
        return try measured { try scorer.decide(full: full) }
      case .partial(let partial):
        asked.partials.append(partial)
        do {
          verdict = try measured { try scorer.decide(partial) }
        } catch let error as FusionRouteError where error.code == .contradictoryRow {
          await link.quarantine(replica, reason: error.message)
          (verdict, asked.partials) = (first, [])
          continue
        }
        guard case .chosen(let choice) = verdict else { continue }
        if isAudited, try await !audit(partial, link: link, replica: replica) {
          (verdict, asked.partials) = (first, [])
          continue
        }
        return choice
      }
    }
  }

  private func want(for verdict: Verdict, scorer: StepScorer) -> Step.Want {
    let position = chain.count - 1
    switch verdict {
    case .needs(let topK):
      return .row(at: position, topK: topK) { measured { scorer.candidates(limit: topK) } }
    case .needsFullRow, .chosen:
      return Step.Want(position: position, fullRow: true)
    }
  }

  // MARK: Audit

  /// Drawn from the system's generator: whatever a worker is told, it cannot foresee which step is audited.
  private var isAudited: Bool { settings.auditRate > 0 && Double.random(in: 0..<1) < settings.auditRate }

  /// Fetches the full row and compares; false when the worker was caught and is out.
  private func audit(_ partial: PartialRow, link: ExpertLink, replica: ReplicaID) async throws -> Bool {
    let want = Step.Want(position: chain.count - 1, fullRow: true)
    let answer: (result: StepResult, replica: ReplicaID)
    do {
      answer = try await link.step(chain, wants: [want], trace: trace)
    } catch is ExpertLink.Unavailable {
      // Nobody is left to be checked; the token was certain before.
      return true
    }
    guard answer.replica == replica, case .full(let full)? = answer.result.rows.first else { return true }
    guard let finding = try RowAudit.check(partial: partial, full: full, vocabulary: vocabulary) else { return true }
    await link.quarantine(replica, reason: "its partial row contradicts its full row: \(finding)")
    return false
  }
}

extension Step.Want {
  /// The largest logits of a row and those of some names; all of it where that is more than a message may ask for.
  static func row(
    at position: Int, topK: Int, limits: WireLimits = WireLimits(), named: () -> [Token]
  ) -> Step.Want {
    guard topK <= limits.topK else { return Step.Want(position: position, fullRow: true) }
    let tokens = named()
    guard tokens.count <= limits.named else { return Step.Want(position: position, fullRow: true) }
    return Step.Want(position: position, topK: topK, named: tokens)
  }
}
