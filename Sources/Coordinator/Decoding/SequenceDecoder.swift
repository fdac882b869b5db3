internal import Core
internal import Fusion
internal import Inference
internal import Logging
internal import Wire

/// Decodes one sequence: router forward, expert choice, expert rows, decision, token by token.
///
/// Everything that decides is pure and lives in Fusion; this is the order of events and the waiting.
final class SequenceDecoder {
  /// Takes an event, and what the answer has come to with it.
  typealias Emit = @Sendable (GenerationEvent, GenerationSummary) -> Void

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
  let experts: [String]
  let vocabulary: Int
  private(set) var links: [String: ExpertLink] = [:]
  private(set) var chain: TokenChain
  private(set) var history: History
  private var text: GeneratedText
  /// What the answer has come to so far; complete when ``run(queued:)`` has ended, however it ended.
  var summary: GenerationSummary
  var constraint: (any TokenConstraint)?
  var predictor: ExpertPredictor
  private let spans: RequestTrace?
  /// Tokens the sequence may have, by the models that are known.
  private var contextLimit: Int
  /// Experts whose context is not known, since they have had no replica yet.
  private var unseen: Set<String>
  /// What workers are told of the request and of the part of it under way.
  private(set) var trace: TraceContext?
  /// Tokens that went through a model for the token under way.
  var evaluatedByRouter = 0
  var evaluatedByExpert = 0

  init(
    id: UInt64, request: GenerationRequest, router: RouterHost, pool: ExpertPool, settings: Settings, logger: Logger,
    spans: RequestTrace?, emit: @escaping Emit
  ) throws {
    self.id = id
    self.request = request
    self.router = router
    self.pool = pool
    self.settings = settings
    self.logger = logger
    self.spans = spans
    self.emit = emit
    trace = request.trace
    experts = router.head.experts
    vocabulary = router.model.vocabulary.size
    chain = TokenChain(request.prompt)
    history = History(prompt: request.prompt)
    text = try GeneratedText(vocabulary: router.model.vocabulary, stop: request.stop)
    constraint = request.constraint
    predictor = ExpertPredictor(experts: router.head.experts.count)
    summary = GenerationSummary(
      text: "", trailingText: "", finishReason: .length, promptTokens: request.prompt.count, cachedTokens: 0,
      generatedTokens: 0, tokensPerExpert: [:], evaluatedTokens: ["router": 0], queued: .zero, prefill: .zero,
      decode: .zero,
      latency: LatencySplit(), prefillLatency: LatencySplit(), certification: CertificationStatistics(), failovers: 0)
    contextLimit = request.mode.usesRouter ? router.context : Int.max
    unseen = Set(Self.involved(request.mode, of: experts))
    for expert in unseen {
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
  ///
  /// - Parameter queued: how long the request has waited for its slot.
  func run(queued: Duration) async throws {
    summary.queued = queued
    let began = ContinuousClock.now
    var firstToken: ContinuousClock.Instant?
    do {
      await warm()
      if constraint?.isComplete == true { summary.finishReason = .stop }
      while summary.finishReason != .stop, summary.generatedTokens < request.maximumTokens, try hasRoom() {
        try Task.checkCancellation()
        let decision = try await decideTraced()
        let now = ContinuousClock.now
        if firstToken == nil {
          firstToken = now
          summary.prefillLatency = summary.latency
          await notePrefill()
        }
        if try take(decision) { summary.finishReason = .stop }
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
    emit(.finished(summary), summary)
  }

  /// Whether the sequence fits the context, as far as it is known now. An expert's counts from when it first has a
  /// replica, and does not shrink: of those that come later only one with room takes the sequence.
  ///
  /// - Throws: `.badInput` if not even the prompt fits.
  private func hasRoom() throws -> Bool {
    if !unseen.isEmpty {
      for (expert, context) in pool.contexts(of: unseen) {
        contextLimit = min(contextLimit, context)
        unseen.remove(expert)
      }
    }
    guard chain.count > contextLimit else { return true }
    guard summary.generatedTokens > 0 else {
      throw CoordinatorRuntime.promptTooLong(chain.count, limit: contextLimit)
    }
    return false
  }

  /// Under ``FanoutPolicy/all`` every expert has read the whole prefix at the end, also those that lagged behind.
  private func settle() async {
    var prefix = chain
    prefix.truncate(to: chain.count - 1)
    await withTaskGroup(of: Void.self) { group in
      for link in links.values { group.addTask { [prefix] in await link.settle(prefix) } }
    }
  }

  /// How much of the prompt the model that reads every token had in its cache.
  private func notePrefill() async {
    guard case .expert(let name) = request.mode, let link = links[name] else { return }
    summary.cachedTokens = max(0, request.prompt.count - (await link.evaluatedTokens))
  }

  private func finish() async {
    for (expert, link) in links {
      await link.end()
      summary.evaluatedTokens[expert] = await link.evaluatedTokens
      summary.failovers += await link.failovers
    }
    if request.mode.usesRouter { router.release(id) }
  }

  /// Lets experts read the prompt and keep the row after it: whichever is selected first has its answer ready.
  private func warm() async {
    let warms =
      switch request.warm {
      case .all: true
      case .selected: false
      case .auto: settings.warmsAtArrival
      }
    guard warms, request.maximumTokens > 0 else { return }
    for link in links.values { await link.prepare(chain, keepingRowAt: chain.count - 1, trace: trace) }
  }

  // MARK: Bookkeeping

  /// One token, as a span of its own where the request is traced; the first one's is the prefill.
  private func decideTraced() async throws -> Decision {
    guard let spans else { return try await decideNext() }
    let (part, before) = (spans.begin(), summary.latency)
    trace = part.context
    defer { trace = request.trace }
    let decision = try await decideNext()
    let spent = summary.latency - before
    var attributes: [String: TraceValue] = [
      "token": .integer(Int(decision.choice.token)), "index": .integer(summary.generatedTokens),
      "evaluated_by_router": .integer(evaluatedByRouter), "evaluated_by_expert": .integer(evaluatedByExpert),
    ]
    if let expert = decision.expert { attributes["expert"] = .string(expert) }
    if decision.degraded { attributes["degraded"] = .flag(true) }
    for (name, nanoseconds) in [
      ("router_queue_us", spent.routerQueue), ("router_compute_us", spent.routerCompute), ("wire_us", spent.wire),
      ("expert_queue_us", spent.expertQueue), ("expert_compute_us", spent.expertCompute), ("merge_us", spent.merge),
    ] { attributes[name] = .integer(Int(nanoseconds / 1_000)) }
    spans.end(part, summary.generatedTokens == 0 ? "prefill" : "token", attributes)
    return decision
  }

  func note(_ output: RouterOutput) {
    if summary.generatedTokens == 0 { summary.cachedTokens = min(output.reusedTokens, request.prompt.count) }
    evaluatedByRouter += output.evaluatedTokens
    summary.evaluatedTokens["router", default: 0] += output.evaluatedTokens
    summary.latency.routerQueue += output.queueNanoseconds
    summary.latency.routerCompute += output.computeNanoseconds
  }

  func note(_ result: StepResult) {
    evaluatedByExpert += result.evaluatedTokens
    summary.latency.expertQueue += result.queueNanoseconds
    summary.latency.expertCompute += result.computeNanoseconds
    let inside = result.queueNanoseconds + result.computeNanoseconds
    summary.latency.wire += result.roundTripNanoseconds > inside ? result.roundTripNanoseconds - inside : 0
  }

  func measured<R>(_ body: () throws -> R) rethrows -> R {
    let began = MonotonicClock.now
    defer { summary.latency.merge += MonotonicClock.now - began }
    return try body()
  }

  /// Appends the token and emits it; true when the answer ends with it.
  private func take(_ decision: Decision) throws -> Bool {
    let choice = decision.choice
    chain.append(choice.token)
    history.append(choice.token)
    summary.generatedTokens += 1
    if let expert = decision.expert { summary.tokensPerExpert[expert, default: 0] += 1 }
    let ends = router.model.vocabulary.isEndOfGeneration(choice.token)
    let (piece, stopped) = ends ? ("", false) : text.append(choice.token)
    let isComplete = try measured {
      try constraint?.accept(choice.token)
      return constraint?.isComplete ?? false
    }
    emit(
      .token(
        GeneratedToken(
          id: choice.token, text: piece, expert: decision.expert, logit: choice.score, drafted: false,
          degraded: decision.degraded, routingWeights: decision.weights,
          routerLogit: choice.routerLogit ?? decision.routerRow?[choice.token], expertLogit: choice.expertLogit,
          logProbability: decision.probabilities?.chosen.logProbability, alternatives: decision.alternatives,
          evaluatedByRouter: evaluatedByRouter, evaluatedByExpert: evaluatedByExpert)), summary)
    return ends || stopped || isComplete
  }
}
