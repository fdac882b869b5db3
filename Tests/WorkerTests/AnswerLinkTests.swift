import Core
import Foundation
import Testing
import Wire

@testable import Worker

/// Which answers leave, for whom and in which order.
@Suite struct AnswerLinkTests {
  private let engine = HeldEngine()
  private let sent = Sent()
  private let service: ExpertService
  private let link: CoordinatorLink

  init() {
    service = LinkSupport.service(engine)
    link = LinkSupport.link(service) { [sent] in sent.append($0) }
  }

  // MARK: Coordinators

  @Test("rows computed for a coordinator that has restarted neither leave nor spend its successor's credit")
  func staleRows() {
    link.welcome(by: 7, credit: 1)
    link.receive(LinkSupport.step(1, of: 7))
    link.welcome(by: 8, credit: 1)
    engine.finish()
    #expect(service.pending == 0)
    #expect(sent.answers.isEmpty)
    link.receive(LinkSupport.step(2, of: 8))
    engine.finish()
    #expect(sent.answers == ["row of 8/2", "reply to 8/2"])
  }

  @Test("a scoring request of a coordinator that has restarted ends with the block under way")
  func staleScoring() {
    link.welcome(by: 7, credit: 1 << 20)
    link.receive(LinkSupport.score(3, of: 7, fullRows: false))
    link.welcome(by: 8, credit: 1 << 20)
    engine.finish()
    #expect(service.pending == 0)
    #expect(engine.waiting == 0)
    #expect(sent.answers.isEmpty)
  }

  // MARK: Registering again

  /// Answers a first step, whose row uses the credit up, and a second, which is held back.
  private func exhaust() {
    link.welcome(credit: 1)
    for request in 1...2 as ClosedRange<UInt64> {
      link.receive(LinkSupport.step(request))
      engine.finish()
    }
    #expect(sent.answers == ["row of 7/1", "reply to 7/1"])
  }

  @Test("an answer without credit leaves everything as it was, though the worker was told to register again before")
  func known() {
    exhaust()
    link.receive(.registerAgain)
    #expect(!link.isRegistered)
    link.welcome(credit: 0)
    #expect(link.isRegistered)
    #expect(service.openSequences == 2)
    #expect(sent.answers.count == 2)
    link.receive(.credit(Credit(bytes: 1 << 20)))
    #expect(sent.answers.dropFirst(2) == ["row of 7/2", "reply to 7/2"])
  }

  @Test("an answer with credit starts its count anew, and ends what was before")
  func anew() {
    exhaust()
    link.receive(.registerAgain)
    link.welcome(credit: 1)
    #expect(service.openSequences == 0)
    link.receive(LinkSupport.step(3))
    engine.finish()
    #expect(sent.answers.dropFirst(2) == ["row of 7/3", "reply to 7/3"])
  }

  @Test("a reply that is done while the worker registers again comes with its row")
  func meanwhile() {
    link.welcome(credit: 1 << 20)
    link.receive(LinkSupport.step(1))
    link.receive(.registerAgain)
    engine.finish()
    #expect(sent.answers == ["row of 7/1", "reply to 7/1"])
  }

  // MARK: Order

  /// The positions of one request's rows in the order they leave in, where the one of position 1 is held up on its way
  /// out while another thread does something.
  ///
  /// - Parameters:
  ///   - first: has row 1 leave.
  ///   - meanwhile: would have row 2 leave.
  private func order(
    _ first: (CoordinatorLink) -> Void, meanwhile: @escaping @Sendable (CoordinatorLink) -> Void
  ) -> [Int] {
    let onItsWay = DispatchSemaphore(value: 0)
    let overtaken = DispatchSemaphore(value: 0)
    let done = DispatchSemaphore(value: 0)
    let link = LinkSupport.link(service) { [sent] message in
      if case .rowChunk(let chunk) = message, chunk.position == 1 {
        onItsWay.signal()
        // Nothing overtakes it, so this is waited for in vain.
        _ = overtaken.wait(timeout: .now() + .milliseconds(300))
      }
      sent.append(message)
    }
    link.welcome(credit: 1)
    Thread.detachNewThread {
      _ = onItsWay.wait(timeout: .now() + .seconds(30))
      meanwhile(link)
      overtaken.signal()
      done.signal()
    }
    first(link)
    #expect(done.wait(timeout: .now() + .seconds(60)) == .success)
    return sent.all.compactMap { if case .rowChunk(let chunk) = $0 { chunk.position } else { nil } }
  }

  private static func row(_ position: Int) -> WireMessage {
    .rowChunk(RowChunk(request: 5, coordinator: 7, position: position, offset: 0, total: 4, values: [0, 0, 0, 0]))
  }

  @Test("a row that credit sets free is not overtaken by one that comes meanwhile")
  func releasedFirst() {
    let positions = order { link in
      link.send(Self.row(0))
      link.send(Self.row(1))
      link.receive(.credit(Credit(bytes: 1 << 20)))
    } meanwhile: { link in
      link.send(Self.row(2))
    }
    #expect(positions == [0, 1, 2])
  }

  @Test("a row that leaves at once is not overtaken by one that credit sets free meanwhile")
  func sentFirst() {
    let positions = order { link in
      link.send(Self.row(1))
    } meanwhile: { link in
      link.send(Self.row(2))
      link.receive(.credit(Credit(bytes: 1 << 20)))
    }
    #expect(positions == [1, 2])
  }
}
