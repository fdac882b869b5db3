// `@testable` exists in debug builds only.
#if DEBUG
  import Core
  import Foundation
  import Inference
  import Logging
  import ModelFiles
  import TestSupport

  @testable import Wire
  @testable import Worker

  /// A worker with a small model, and a coordinator that sends anything.
  package final class WorkerFuzz {
    private static let context = 256
    private static let slots = 2
    /// Requests under way, so that the decoder's queue stays short.
    private static let underWay = 64

    private let scratch: Scratch
    private let decoder: BatchingDecoder
    private let service: ExpertService
    private let link: CoordinatorLink
    private var generator: SplitMix64
    private var samples: Samples
    private var mutator: Mutator

    package init(seed: UInt64) throws {
      scratch = try Scratch("fuzz")
      var recipe = ModelRecipe()
      recipe.layers = 1
      recipe.width = 16
      recipe.heads = 2
      recipe.kvHeads = 2
      recipe.feedForward = 32
      let path = scratch.path("model.gguf")
      try ModelMaker.make(recipe, to: path)
      let model = try Model.load(path: path)
      decoder = try BatchingDecoder(
        model: model, configuration: DecoderConfiguration(slots: Self.slots, contextPerSequence: Self.context))
      var logger = Logger(label: "fuzz")
      logger.logLevel = .critical
      service = ExpertService(
        engine: decoder, slots: Self.slots, context: Self.context, vocabularySize: model.vocabulary.size,
        maximumPositions: WorkerRuntime.maximumPositions, logger: logger)
      let digest = SHA256Digest(hashing: Array("worker".utf8))
      let offer = Register(
        expert: "math", incarnation: 1, modelFingerprint: digest, vocabularyFingerprint: digest,
        vocabularySize: model.vocabulary.size, numerics: Numerics(label: "x", probeHash: digest, batchInvariant: true),
        slots: Self.slots, context: Self.context, maximumPositions: WorkerRuntime.maximumPositions, host: "here",
        pid: 1,
        software: "fuzz")
      link = CoordinatorLink(
        endpoint: "ipc://nowhere", offer: offer, service: service,
        leases: SlotLeases(slots: Self.slots, endpoints: ["ipc://nowhere"]), page: { model.vocabulary.page($0) },
        isDraining: { false }, logger: logger, notify: { _ in })
      generator = SplitMix64(seed: seed)
      mutator = Mutator(generator: SplitMix64(seed: seed ^ 0xF3))
      var limits = WireLimits()
      limits.vocabulary = model.vocabulary.size
      limits.context = Self.context
      limits.positions = 5
      limits.topK = 50
      limits.named = 50
      limits.slots = Self.slots
      samples = Samples(seed: seed ^ 0xF4, limits: limits)
    }

    private func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &generator) < percent }

    package func run(messages: Int) async throws -> FuzzReport {
      var report = FuzzReport()
      while report.messages < messages {
        if !link.isRegistered { welcome() }
        var frames = WireCodec.encode(next())
        if chance(60) {
          frames = mutator.mutate(frames)
          report.damaged += 1
        }
        report.messages += 1
        link.received(frames)
        if report.messages % 64 == 0 { link.tick() }
        if report.messages % 256 == 0 { link.received(WireCodec.encode(.credit(Credit(bytes: 1 << 24)))) }
        while service.pending > Self.underWay { try await Task.sleep(for: .milliseconds(1)) }
        report.require(service.openSequences <= 8 * Self.slots, "\(service.openSequences) sequences are held")
      }
      link.disconnected()
      let deadline = ContinuousClock.now + .seconds(60)
      while service.pending > 0, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(5)) }
      report.require(service.pending == 0, "\(service.pending) requests were never answered")
      report.count("tokens evaluated", Int(clamping: decoder.statistics.evaluatedTokens))
      decoder.shutdown()
      return report
    }

    private func welcome() {
      link.received(
        WireCodec.encode(
          .registered(
            Registered(
              coordinator: 7, leasedSlots: Self.slots, heartbeatMilliseconds: 500, creditBytes: 1 << 24,
              commonVocabulary: samples.limits.vocabulary))))
    }

    private func next() -> WireMessage {
      let kinds = MessageKind.allCases
      switch samples.message(kinds.randomElement(using: &generator) ?? .step) {
      case .step(var step):
        step.coordinator = 7
        step.sequence = UInt64.random(in: 0...20, using: &generator)
        // Most begin a sequence, so that something is computed.
        if chance(70) {
          step.baseLength = 0
          step.baseHash = .empty
          step.append = samples.tokens(Int.random(in: 1...12, using: &generator))
          step.wants = [.init(position: step.append.count - 1, topK: 8, named: samples.ascendingTokens(3))]
        }
        return .step(step)
      case .cancel: return .cancel(Cancel(request: UInt64.random(in: 0...1_000, using: &generator)))
      case .release: return .release(Release(sequence: UInt64.random(in: 0...20, using: &generator)))
      case let message: return message
      }
    }
  }
#endif
