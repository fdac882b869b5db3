import Core
import Foundation
import Inference
import Testing
import Wire

@testable import Worker

/// A scoring request that waits for credit when its coordinator goes: nobody would ever end it.
@Suite struct ScoringLinkTests {
  private func engine(base: Duration = .zero) -> StubEngine {
    StubEngine(StubModel(base: base, perSequence: .zero, vocabularySize: LinkSupport.vocabulary), slots: 2)
  }

  /// A worker's link with so much credit that the first row of a block uses it up.
  private func link(_ service: ExpertService) -> CoordinatorLink {
    let link = LinkSupport.link(service)
    link.welcome(credit: 1)
    return link
  }

  private func wait(_ condition: () -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(30)
    while !condition(), ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(2)) }
    return condition()
  }

  @Test("a scoring request that waits for credit ends when its coordinator goes", arguments: Parting.allCases)
  func endsWhileWaiting(parting: Parting) async throws {
    let engine = engine()
    defer { engine.shutdown() }
    let service = LinkSupport.service(engine)
    let link = link(service)
    link.receive(LinkSupport.score(3, fullRows: true))
    // The first of its blocks is computed; the second waits for credit.
    #expect(try await wait { engine.load.progress == 1 })
    #expect(service.pending == 1)
    parting.happen(to: link)
    #expect(try await wait { service.pending == 0 })
    #expect(engine.load.progress == 1)
    #expect(engine.load.residentSequences == 0)
  }

  @Test("a scoring request whose coordinator goes while a block is computed ends with that block")
  func endsWhileComputing() async throws {
    let engine = engine(base: .milliseconds(200))
    defer { engine.shutdown() }
    let service = LinkSupport.service(engine)
    let link = link(service)
    link.receive(LinkSupport.score(3, fullRows: true))
    link.disconnected()
    #expect(try await wait { service.pending == 0 })
    #expect(engine.load.progress <= 1)
  }

  @Test("with credit it goes on to its end")
  func goesOn() async throws {
    let engine = engine()
    defer { engine.shutdown() }
    let service = LinkSupport.service(engine)
    let link = link(service)
    link.receive(LinkSupport.score(3, fullRows: true))
    #expect(try await wait { engine.load.progress == 1 })
    link.receive(.credit(Credit(bytes: 1 << 24)))
    // 99 rows in blocks of 32.
    #expect(try await wait { service.pending == 0 && engine.load.progress == 4 })
  }
}
