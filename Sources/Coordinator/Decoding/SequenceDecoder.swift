internal import Core
internal import Fusion
internal import Inference
internal import Logging
internal import Wire

/// Decodes one sequence: router forward, expert choice, expert rows, decision, token by token.
///
/// Everything that decides is pure and lives in Fusion; this is the order of events and the waiting.
final class SequenceDecoder {
  typealias Emit = @Sendable (GenerationEvent) -> Void

  struct Settings: Sendable {
    /// Logits asked for at first.
    var topK: Int
    /// Share of steps whose full row is fetched and compared.
    var auditRate: Double
    var link: ExpertLink.Settings
    /// Whether experts may read the prompt while the router does (``WarmPolicy/auto``).
    var warmsAtArrival: Bool
  }

  let id: UInt64
  let request: GenerationRequest
  let router: RouterHost
  let pool: ExpertPool
  let settings: Settings
  let logger: Logger
  private let emit: Emit
  private let experts: [String]
  private let vocabulary: Int
  private var links: [String: ExpertLink] = [:]
  private var chain: TokenChain
  private var history: History
  private var text: GeneratedText
  private var summary: GenerationSummary
  private var routerEvaluated = 0
  /// Tokens that went through a model for the token under way.
  private var evaluatedByRouter = 0
  private var evaluatedByExpert = 0
  private var predictor: ExpertPredictor

  init(
    id: UInt64, request: GenerationRequest, router: RouterHost, pool: ExpertPool, settings: Settings, logger: Logger,
    emit: @escaping Emit
  ) throws {
    self.id = id
    self.request = request
    self.router = router
    self.pool = pool
    self.settings = settings
    self.logger = logger
    self.emit = emit
    experts = router.head.experts
    vocabulary = router.model.vocabulary.size
    chain = TokenChain(request.prompt)
    history = History(prompt: request.prompt)
    text = try GeneratedText(vocabulary: router.model.vocabulary, stop: request.stop)
    predictor = ExpertPredictor(experts: router.head.experts.count)
    summary = GenerationSummary(
      text: "", trailingText: "", finishReason: .length, promptTokens: request.prompt.count, cachedTokens: 0,
      generatedTokens: 0, tokensPerExpert: [:], evaluatedTokens: [:], queued: .zero, prefill: .zero, decode: .zero,
      latency: LatencySplit(),
      prefillLatency: LatencySplit(),
      certification: CertificationStatistics(), failovers: 0)
    for expert in Self.involved(request.mode, of: experts) {
      links[expert] = ExpertLink(expert: expert, sequence: id, pool: pool, settings: settings.link, logger: logger)
    }
  }

  /// Experts that a mode may ask.
  static func involved(_ mode: DecodingMode, of experts: [String]) -> [String] {
    switch mode {
    case .fusion, .noComplement: experts
    case .expert(let name): [name]
    case .router: []
    }
  }

  /// Decodes to the end. The caller has checked the request against ``CoordinatorRuntime/validate``.
  func run(contextLimit: Int) async throws {
    let began = ContinuousClock.now
    var firstToken: ContinuousClock.Instant?
    do {
      await warm()
      while summary.generatedTokens < request.maximumTokens, chain.count <= contextLimit {
        let decision = try await decideNext()
        let now = ContinuousClock.now
        if firstToken == nil {
          firstToken = now
          summary.prefillLatency = summary.latency
        }
        if take(decision) {
          summary.finishReason = .stop
          break
        }
      }
    } catch {
      await finish()
      throw error
    }
    let end = ContinuousClock.now
    if request.fanout == .all { await settle() }
    await finish()
    summary.prefill = (firstToken ?? end) - began
    summary.decode = end - (firstToken ?? end)
    summary.trailingText = text.finish()
    summary.text = text.emitted
    emit(.finished(summary))
  }

  /// Under ``FanoutPolicy/all`` every expert has read the whole prefix at the end, also those that lagged behind.
  private func settle() async {
    var prefix = chain
    prefix.truncate(to: chain.count - 1)
    await withTaskGroup(of: Void.self) { group in
      for link in links.values { group.addTask { [prefix] in await link.settle(prefix) } }
    }
  }

  private func finish() async {
    for (expert, link) in links {
      await link.end()
      summary.evaluatedTokens[expert] = await link.evaluatedTokens
      summary.failovers += await link.failovers
    }
    summary.evaluatedTokens["router"] = routerEvaluated
    if request.mode.usesRouter { router.release(id) }
  }

  /// Lets experts read the prompt, its last token left out, since its logits come with the first step.
  private func warm() async {
    let warms =
      switch request.warm {
      case .all: true
      case .selected: false
      case .auto: settings.warmsAtArrival
      }
    guard warms, chain.count > 1, request.maximumTokens > 0 else { return }
    var prompt = chain
    prompt.truncate(to: chain.count - 1)
    for link in links.values { await link.prepare(prompt) }
  }

  // MARK: One step

  private struct Decision {
    var choice: Choice
    var expert: String?
    var degraded = false
    var weights: [Float] = []
  }

  private func decideNext() async throws -> Decision {
    (evaluatedByRouter, evaluatedByExpert) = (0, 0)
    if request.fanout == .all {
      for link in links.values { await link.prepare(chain, keepingRowAt: chain.count - 1) }
    }
    guard request.mode.usesRouter else {
      guard case .expert(let name) = request.mode else { throw FusionRouteError.internal("a mode without a model") }
      do {
        return Decision(choice: try await decide(router: nil, expert: name), expert: name)
      } catch let error as ExpertLink.Unavailable {
        throw Self.unavailable(error)
      }
    }
    let output = try await router.evaluate(sequence: id, tokens: chain.tokens, routes: request.mode != .router)
    evaluatedByRouter = output.evaluatedTokens
    routerEvaluated += evaluatedByRouter
    summary.latency.routerQueue += output.queueNanoseconds
    summary.latency.routerCompute += output.computeNanoseconds
    if request.mode == .router {
      return Decision(choice: try measured { try scorer(router: output.logits).decideWithoutExpert() }, expert: nil)
    }
    guard let selected = ExpertSelection.select(output.weights) else {
      throw FusionRouteError.internal("the routing weights are not numbers: check the router's head")
    }
    predictor.observe(selected)
    let complement = request.mode == .fusion ? output.logits : nil
    var decision = try await decide(complement, weights: output.weights, selected: selected, fallback: output.logits)
    decision.weights = output.weights
    if request.fanout == .predicted, let next = predictor.likelyNext(after: selected) {
      await links[experts[next]]?.prepare(chain)
    }
    return decision
  }

  /// The selected expert decides, or, when it is lost, whom the request's policy names.
  private func decide(
    _ complement: LogitsRow?, weights: [Float], selected: Int, fallback: LogitsRow
  ) async throws -> Decision {
    let order =
      [selected] + weights.indices.filter { $0 != selected }.sorted { (-weights[$0], $0) < (-weights[$1], $1) }
    let tried = request.onExpertLoss == .nextBest ? order : [selected]
    var lost = ExpertLink.Unavailable(expert: experts[selected], reason: "it was not asked")
    for index in tried {
      do {
        let choice = try await decide(router: complement, expert: experts[index])
        return Decision(choice: choice, expert: experts[index], degraded: index != selected)
      } catch let error as ExpertLink.Unavailable {
        lost = error
      }
    }
    if request.onExpertLoss == .router {
      return Decision(choice: try measured { try scorer(router: fallback).decideWithoutExpert() }, degraded: true)
    }
    throw Self.unavailable(lost)
  }

  private static func unavailable(_ lost: ExpertLink.Unavailable) -> FusionRouteError {
    .unavailable("expert \"\(lost.expert)\" cannot answer: \(lost.reason)")
  }

  private func scorer(router row: LogitsRow?) throws -> StepScorer {
    try StepScorer(
      router: row, complementScale: request.mode == .fusion ? router.head.complementScale : 1,
      parameters: request.sampling, history: history, outputIndex: summary.generatedTokens, choice: request.choice,
      vocabulary: vocabulary)
  }

  /// Asks an expert for as much of its row as the decision takes: a partial row, longer ones, at last the full one.
  private func decide(router row: LogitsRow?, expert: String) async throws -> Choice {
    guard let link = links[expert] else { throw FusionRouteError.internal("no line to expert \"\(expert)\"") }
    let scorer = try measured { try self.scorer(router: row) }
    var verdict = Verdict.needs(topK: settings.topK)
    var partials: [PartialRow] = []
    while true {
      let want = want(for: verdict, scorer: scorer)
      let (result, replica) = try await link.step(chain, wants: [want])
      note(result)
      guard let answer = result.rows.first else { throw FusionRouteError.internal("a reply without its row") }
      switch answer {
      case .full(let full):
        summary.certification.record(partialRows: partials, fullRow: full.count)
        return try measured { try scorer.decide(full: full) }
      case .partial(let partial):
        partials.append(partial)
        do {
          verdict = try measured { try scorer.decide(partial) }
        } catch let error as FusionRouteError where error.code == .contradictoryRow {
          await link.quarantine(replica, reason: error.message)
          (verdict, partials) = (.needs(topK: settings.topK), [])
          continue
        }
        guard case .chosen(let choice) = verdict else { continue }
        if isAudited, try await !audit(partial, link: link, replica: replica) {
          (verdict, partials) = (.needs(topK: settings.topK), [])
          continue
        }
        summary.certification.record(partialRows: partials)
        return choice
      }
    }
  }

  private func want(for verdict: Verdict, scorer: StepScorer) -> Step.Want {
    let position = chain.count - 1
    switch verdict {
    case .needs(let topK):
      let named = measured { scorer.candidates(limit: topK) }
      return Step.Want(position: position, topK: topK, named: named)
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
    let (result, source) = try await link.step(chain, wants: [want])
    guard source == replica, case .full(let full)? = result.rows.first else { return true }
    guard let finding = try RowAudit.check(partial: partial, full: full, vocabulary: vocabulary) else { return true }
    await link.quarantine(replica, reason: "its partial row contradicts its full row: \(finding)")
    return false
  }

  // MARK: Bookkeeping

  private func note(_ result: StepResult) {
    evaluatedByExpert += result.evaluatedTokens
    summary.latency.expertQueue += result.queueNanoseconds
    summary.latency.expertCompute += result.computeNanoseconds
    let inside = result.queueNanoseconds + result.computeNanoseconds
    summary.latency.wire += result.roundTripNanoseconds > inside ? result.roundTripNanoseconds - inside : 0
  }

  private func measured<R>(_ body: () throws -> R) rethrows -> R {
    let began = MonotonicClock.now
    defer { summary.latency.merge += MonotonicClock.now - began }
    return try body()
  }

  /// Appends the token and emits it; true when the answer ends with it.
  private func take(_ decision: Decision) -> Bool {
    let token = decision.choice.token
    chain.append(token)
    history.append(token)
    summary.generatedTokens += 1
    if let expert = decision.expert { summary.tokensPerExpert[expert, default: 0] += 1 }
    let ends = router.model.vocabulary.isEndOfGeneration(token)
    let (piece, stopped) = ends ? ("", false) : text.append(token)
    emit(
      .token(
        GeneratedToken(
          id: token, text: piece, expert: decision.expert, logit: decision.choice.score, drafted: false,
          degraded: decision.degraded, routingWeights: decision.weights, routerLogit: decision.choice.routerLogit,
          expertLogit: decision.choice.expertLogit, logProbability: nil, alternatives: [],
          evaluatedByRouter: evaluatedByRouter,
          evaluatedByExpert: evaluatedByExpert)))
    return ends || stopped
  }
}
