internal import Coordinator
internal import Core
internal import Foundation
internal import Fusion
internal import Inference
internal import Launch
internal import ModelFiles

/// Streams decoded together, a first token and a long prompt, by the cluster and by plain llama.cpp calls in turns.
final class ServeBenchmark: Sendable {
  /// What is run: the given cluster with enough slots, and one of its router and first expert alone.
  struct Plan {
    let all: ClusterFile
    let single: ClusterFile
    let streams: Int
    let tokens: Int
    let longPrompt: Int
    private let folder: URL

    init(cluster: ClusterFile, streams: Int, tokens: Int, longPrompt: Int) throws {
      let context = max(longPrompt + 64, 512 + tokens)
      var all = cluster
      all.listen = .init()
      all.hosts = []
      all.keys = nil
      func roomy(_ engine: ClusterFile.Engine) -> ClusterFile.Engine {
        var engine = engine
        engine.slots = max(engine.slots, streams)
        engine.context = max(engine.context, context)
        return engine
      }
      all.router.engine = roomy(all.router.engine)
      all.experts = all.experts.map { expert in
        ClusterFile.Expert(name: expert.name, engine: roomy(expert.engine))
      }
      let head = try RoutingHead.read(cluster.router.head)
      guard let first = all.experts.first(where: { $0.name == head.experts.first }) else {
        throw FusionRouteError.badInput(
          "\(cluster.source) lacks the head's first expert \"\(head.experts.first ?? "")\"")
      }
      folder = FileManager.default.temporaryDirectory.appendingPathComponent("fusionroute-bench-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let path = folder.appendingPathComponent("head.gguf").path
      try RoutingHead(
        experts: [first.name], weight: Array(head.weight.prefix(head.embeddingWidth)),
        complementScale: head.complementScale, embeddingWidth: head.embeddingWidth
      ).write(path)
      var single = all
      single.experts = [first]
      single.router.head = path
      self.all = all
      self.single = single
      self.streams = streams
      self.tokens = tokens
      self.longPrompt = longPrompt
    }

    func removeFiles() { try? FileManager.default.removeItem(at: folder) }
  }

  /// Milliseconds and tokens per second of one round.
  struct Round {
    var streams: StreamFigures
    /// The router's, while the streams ran: how many went together, and how many of a step's tokens were only decoded
    /// again to keep a batch in one piece.
    var sequencesPerStep: Double
    var refilledPerStep: Double
    /// A step of half of the streams' sequences, each model alone.
    var routerStep: Double
    var expertStep: Double
    /// The slower of the two when both step at the same time.
    var sideBySideStep: Double
    var firstTokens: [Double]
    /// One for each first token, of the same prompt.
    var plainPrefills: [Double]
    var longestGap: Double
    /// The longest gap of the same streams without the long prompt.
    var usualGap: Double
    /// The time that one chunk of a prompt may take beside streams.
    var chunk: Double
  }

  private static let prefillsPerRound = 4

  private let plan: Plan
  private let session: ClusterSession
  private let prompt: [Token]
  private let banned: [Token: Float]
  private let plain: (router: PlainContext, expert: PlainContext)?

  init(plan: Plan, session: ClusterSession, withPlainCalls: Bool) throws {
    self.plan = plan
    self.session = session
    let vocabulary = session.coordinator.router.vocabulary
    var prompt: [Token] = []
    while prompt.count < plan.longPrompt {
      for passage in DemoText.passages {
        prompt += try vocabulary.tokenize(passage + "\n", addSpecial: false, parseSpecial: false)
      }
    }
    self.prompt = prompt
    // Streams of one length: none ends by itself.
    banned = Dictionary(
      uniqueKeysWithValues: (0..<Token(vocabulary.size)).filter { vocabulary.isEndOfGeneration($0) }
        .map { ($0, -Float.infinity) })
    guard withPlainCalls, let expert = plan.single.experts.first else {
      plain = nil
      return
    }
    func context(_ engine: ClusterFile.Engine, _ model: Model) throws -> PlainContext {
      var configuration = engine.decoder(slots: 1)
      configuration.reproducible = plan.single.decoding.reproducible
      return try PlainContext(model: model, configuration: configuration, sequences: plan.streams / 2)
    }
    let options = ModelLoadOptions(gpuLayers: expert.engine.gpuLayers, adapters: expert.engine.adapters)
    plain = (
      try context(plan.single.router.engine, session.coordinator.router),
      try context(expert.engine, Model.load(path: expert.engine.model, options: options))
    )
  }

  func round(_ round: Int) async throws -> Round {
    guard let plain else { throw FusionRouteError.internal("a round without plain calls") }
    let steps = try await plainSteps(plain)
    let before = session.coordinator.routerStatistics
    let streams = try await streamFigures(round: round)
    let after = session.coordinator.routerStatistics
    let calls = Double(max(1, (after.batches - before.batches) - (after.prefillChunks - before.prefillChunks)))
    let (first, prefill) = try await prefills(plain, round: round)
    let (usual, longest) = try await gaps(round: round)
    return Round(
      streams: streams, sequencesPerStep: Double(plan.streams * plan.tokens) / calls,
      refilledPerStep: Double(after.refilledTokens - before.refilledTokens) / calls, routerStep: steps.router,
      expertStep: steps.expert, sideBySideStep: steps.together,
      firstTokens: first, plainPrefills: prefill, longestGap: longest, usualGap: usual,
      chunk: plan.single.router.engine.decoder(slots: 1).prefillMilliseconds)
  }

  // MARK: The cluster

  private func request(_ prompt: [Token], tokens: Int) -> GenerationRequest {
    var request = GenerationRequest(prompt: prompt, maximumTokens: tokens)
    request.sampling.logitBias = banned
    return request
  }

  /// Times of a stream's tokens, in seconds.
  private func times(_ request: GenerationRequest) async throws -> [Double] { try await answer(request).times }

  /// The same, and where the time after the first token went.
  private func answer(_ request: GenerationRequest) async throws -> (times: [Double], spent: LatencySplit) {
    var times: [Double] = []
    var spent = LatencySplit()
    for try await event in session.coordinator.generate(request) {
      switch event {
      case .token: times.append(Self.now)
      case .finished(let summary): spent = summary.latency - summary.prefillLatency
      }
    }
    return (times, spent)
  }

  private func prompt(stream: Int, round: Int) -> [Token] {
    // Beginning differently, so that nothing is found in a cache.
    [Token(100 + stream), Token(100 + round)] + prompt[(37 * stream)..<(37 * stream + 32)]
  }

  /// Tokens per second of all streams together, while all of them run; and where a token waited, in milliseconds.
  struct StreamFigures {
    var rate: Double
    var routerQueue: Double
    var wire: Double
    var expertQueue: Double
  }

  func streamFigures(round: Int) async throws -> StreamFigures {
    let answers = try await withThrowingTaskGroup(of: (times: [Double], spent: LatencySplit).self) { group in
      for stream in 0..<plan.streams {
        group.addTask { [self] in
          try await answer(request(prompt(stream: stream, round: round), tokens: plan.tokens))
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    let all = answers.map(\.times)
    func mean(_ part: (LatencySplit) -> UInt64) -> Double {
      answers.reduce(0) { $0 + Double(part($1.spent)) / 1e6 } / Double(plan.streams * max(1, plan.tokens - 1))
    }
    guard let start = all.compactMap(\.first).max(), let end = all.compactMap(\.last).min(), end > start else {
      throw FusionRouteError.unavailable("the streams did not run side by side: give more --tokens")
    }
    return StreamFigures(
      rate: Double(all.joined().count { $0 > start && $0 <= end }) / (end - start), routerQueue: mean(\.routerQueue),
      wire: mean(\.wire), expertQueue: mean(\.expertQueue))
  }

  /// A prompt is read by the cluster and by the plain contexts, a few times, each first in turns.
  private func prefills(
    _ plain: (router: PlainContext, expert: PlainContext), round: Int
  ) async throws -> (firstTokens: [Double], plain: [Double]) {
    var (firstTokens, plainPrefills) = ([Double](), [Double]())
    for repetition in 0..<Self.prefillsPerRound {
      let prompt = [Token(300 + repetition), Token(100 + round)] + prompt.prefix(plan.longPrompt / 4 - 1)
      if repetition % 2 == 0 { firstTokens.append(try await firstToken(prompt)) }
      plainPrefills.append(try await plainPrefill(plain, prompt))
      if repetition % 2 == 1 { firstTokens.append(try await firstToken(prompt)) }
    }
    return (firstTokens, plainPrefills)
  }

  private func firstToken(_ prompt: [Token]) async throws -> Double {
    let start = Self.now
    let first = try await times(request(prompt, tokens: 1)).first ?? start
    return (first - start) * 1_000
  }

  /// The longest gap between two tokens of half of the streams: undisturbed, and while the long prompt is read.
  private func gaps(round: Int) async throws -> (usual: Double, disturbed: Double) {
    let streams = plan.streams / 2
    func longest(disturbed: Bool) async throws -> Double {
      let (all, from) = try await withThrowingTaskGroup(of: (times: [Double], isLong: Bool).self) { group in
        for stream in 0..<streams {
          group.addTask { [self] in
            let own = prompt(stream: stream, round: 50 + 2 * round + (disturbed ? 1 : 0))
            return (try await times(request(own, tokens: plan.tokens)), false)
          }
        }
        if disturbed {
          group.addTask { [self] in
            // When the streams have all begun.
            try await Task.sleep(for: .seconds(2))
            let start = Self.now
            let long = [Token(400 + round)] + prompt.prefix(plan.longPrompt - 1)
            return ([start] + (try await times(request(long, tokens: 1))), true)
          }
        }
        var (all, from) = ([[Double]](), 0.0)
        for try await (times, isLong) in group {
          if isLong { from = times[0] } else { all.append(times) }
        }
        return (all, from)
      }
      // Among streams that are still reading their own prompts, gaps say nothing about the long one.
      let begun = max(from, all.compactMap { $0.dropFirst(3).first }.max() ?? 0)
      return all.flatMap { times in
        zip(times.dropFirst(), times).filter { $1 >= begun }.map { $0 - $1 }
      }.max().map { $0 * 1_000 } ?? 0
    }
    return (try await longest(disturbed: false), try await longest(disturbed: true))
  }

  // MARK: Plain calls

  private func plainSteps(
    _ plain: (router: PlainContext, expert: PlainContext)
  ) async throws -> (router: Double, expert: Double, together: Double) {
    let count = plan.streams / 2
    for context in [plain.router, plain.expert] {
      context.reset()
      for sequence in 0..<count { try context.evaluate(prompt(stream: sequence, round: 0), sequence: sequence) }
    }
    let tokens = Array(prompt.prefix(count))
    @Sendable func median(_ context: PlainContext, hidden: Bool) throws -> Double {
      var times: [Double] = []
      for _ in 0..<12 {
        let start = Self.now
        try context.step(tokens, hidden: hidden)
        times.append((Self.now - start) * 1_000)
      }
      return times.sorted()[times.count / 2]
    }
    let router = try await onThread { try median(plain.router, hidden: true) }
    let expert = try await onThread { try median(plain.expert, hidden: false) }
    async let first = onThread { try median(plain.router, hidden: true) }
    async let second = onThread { try median(plain.expert, hidden: false) }
    return (router, expert, max(try await first, try await second))
  }

  /// Router and expert read the same prompt at the same time; until both are done.
  private func plainPrefill(
    _ plain: (router: PlainContext, expert: PlainContext), _ prompt: [Token]
  ) async throws -> Double {
    plain.router.reset()
    plain.expert.reset()
    let start = Self.now
    async let first: Void = onThread { try plain.router.evaluate(prompt, hidden: true) }
    async let second: Void = onThread { try plain.expert.evaluate(prompt) }
    _ = try await (first, second)
    return (Self.now - start) * 1_000
  }

  private func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let thread = Thread { continuation.resume(with: Result(catching: body)) }
      thread.stackSize = 8 << 20
      thread.start()
    }
  }

  private static var now: Double { Double(DispatchTime.now().uptimeNanoseconds) / 1e9 }
}
