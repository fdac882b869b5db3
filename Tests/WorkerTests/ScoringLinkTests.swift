import Core
import Foundation
import Inference
import Logging
import Testing
import Wire

@testable import Worker

/// A scoring request that waits for credit when its coordinator goes: nobody would ever end it.
@Suite struct ScoringLinkTests {
  enum Parting: CaseIterable { case disconnected, goodbye, registeredAgain }

  private static let vocabulary = 256

  /// A worker's link with so much credit that the first row of a block uses it up.
  private func link(_ service: ExpertService) -> CoordinatorLink {
    let digest = SHA256Digest(hashing: Array("worker".utf8))
    let offer = Register(
      expert: "math", incarnation: 1, modelFingerprint: digest, vocabularyFingerprint: digest,
      vocabularySize: Self.vocabulary, numerics: Numerics(label: "x", probeHash: digest, batchInvariant: true),
      slots: 2, context: 256, maximumPositions: 4, host: "here", pid: 1, software: "test")
    let link = CoordinatorLink(
      endpoint: "ipc://nowhere", offer: offer, service: service,
      leases: SlotLeases(slots: 2, endpoints: ["ipc://nowhere"]),
      page: { VocabularyPage(first: $0.first, total: 0, texts: [], attributes: []) }, isDraining: { false },
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, notify: { _ in })
    welcome(link)
    return link
  }

  private func welcome(_ link: CoordinatorLink) {
    link.received(
      WireCodec.encode(
        .registered(
          Registered(
            coordinator: 7, leasedSlots: 2, heartbeatMilliseconds: 500, creditBytes: 1,
            commonVocabulary: Self.vocabulary))))
  }

  private func service(_ engine: StubEngine) -> ExpertService {
    ExpertService(
      engine: engine, slots: 2, context: 256, vocabularySize: Self.vocabulary, maximumPositions: 4,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  private func score(_ link: CoordinatorLink) {
    link.received(
      WireCodec.encode(
        .score(
          Score(
            request: 3, coordinator: 7, tokens: (0..<100).map { Token($0) }, first: 1, topK: 0, fullRows: true,
            deadlineMilliseconds: 60_000))))
  }

  private func wait(_ condition: () -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(30)
    while !condition(), ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(2)) }
    return condition()
  }

  @Test("a scoring request that waits for credit ends when its coordinator goes", arguments: Parting.allCases)
  func endsWhileWaiting(parting: Parting) async throws {
    let engine = StubEngine(StubModel(base: .zero, perSequence: .zero, vocabularySize: Self.vocabulary), slots: 2)
    defer { engine.shutdown() }
    let service = service(engine)
    let link = link(service)
    score(link)
    // The first of its blocks is computed; the second waits for credit.
    #expect(try await wait { engine.load.progress == 1 })
    #expect(service.pending == 1)
    switch parting {
    case .disconnected: link.disconnected()
    case .goodbye: link.received(WireCodec.encode(.goodbye(Goodbye(sender: 7, reason: "test"))))
    case .registeredAgain: welcome(link)
    }
    #expect(try await wait { service.pending == 0 })
    #expect(engine.load.progress == 1)
    #expect(engine.load.residentSequences == 0)
  }

  @Test("a scoring request whose coordinator goes while a block is computed ends with that block")
  func endsWhileComputing() async throws {
    let engine = StubEngine(
      StubModel(base: .milliseconds(200), perSequence: .zero, vocabularySize: Self.vocabulary), slots: 2)
    defer { engine.shutdown() }
    let service = service(engine)
    let link = link(service)
    score(link)
    link.disconnected()
    #expect(try await wait { service.pending == 0 })
    #expect(engine.load.progress <= 1)
  }

  @Test("with credit it goes on to its end")
  func goesOn() async throws {
    let engine = StubEngine(StubModel(base: .zero, perSequence: .zero, vocabularySize: Self.vocabulary), slots: 2)
    defer { engine.shutdown() }
    let service = service(engine)
    let link = link(service)
    score(link)
    #expect(try await wait { engine.load.progress == 1 })
    link.received(WireCodec.encode(.credit(Credit(bytes: 1 << 24))))
    // 99 rows in blocks of 32.
    #expect(try await wait { service.pending == 0 && engine.load.progress == 4 })
  }
}
