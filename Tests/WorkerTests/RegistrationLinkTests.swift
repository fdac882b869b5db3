import Core
import Testing
import Wire

@testable import Worker

/// When a worker registers, with whom it is registered, and what it forgets of those that have gone.
@Suite struct RegistrationLinkTests {
  private let engine = HeldEngine()
  private let sent = Sent()
  private let service: ExpertService
  private let link: CoordinatorLink

  init() {
    service = LinkSupport.service(engine)
    link = LinkSupport.link(service) { [sent] in sent.append($0) }
  }

  @Test("while the coordinator asks for the vocabulary, the worker does not register again; afterwards it does")
  func comparison() {
    link.connected()
    #expect(sent.registrations == 1)
    let before = ContinuousClock.now
    while ContinuousClock.now <= before {}
    link.receive(.vocabularyQuery(VocabularyQuery(first: 0, count: 10)))
    // A second after the registration, and less than one after the question.
    link.tick(now: before + .seconds(1))
    #expect(sent.registrations == 1)
    link.tick(now: .now + .seconds(1))
    #expect(sent.registrations == 2)
  }

  @Test("a refusal is forgotten once the coordinator has let the worker in")
  func refusalTakenBack() {
    link.receive(.refused(Refused(code: .model, message: "not the model of the others")))
    link.tick(now: .now + .seconds(1))
    #expect(sent.registrations == 0)
    link.welcome(credit: 1)
    link.receive(.registerAgain)
    #expect(sent.registrations == 1)
    // The answer was lost.
    link.tick(now: .now + .seconds(1))
    #expect(sent.registrations == 2)
  }

  @Test("the worker beats at once when it is let in with credit, and no more often when it is known already")
  func confirmation() {
    link.welcome(credit: 1)
    #expect(sent.beats == 1)
    link.welcome(credit: 0)
    #expect(sent.beats == 1)
  }

  @Test("a common vocabulary larger than the model's is not accepted, and changes nothing")
  func vocabulary() {
    link.welcome(credit: 1, vocabulary: LinkSupport.vocabulary + 1)
    #expect(!link.isRegistered)
    link.receive(LinkSupport.step(1))
    #expect(engine.waiting == 0)
    link.welcome(credit: 1 << 20)
    #expect(link.isRegistered)
    link.welcome(by: 8, credit: 1, vocabulary: LinkSupport.vocabulary + 1)
    link.receive(LinkSupport.step(2))
    engine.finish()
    #expect(sent.answers == ["row of 7/2", "reply to 7/2"])
  }

  @Test("no row is sent beyond its end")
  func shortRow() {
    let chunks = RowChunk.chunks(
      of: LogitsRow([1, 2, 3]), request: 1, coordinator: 7, position: 0, vocabulary: 20_000)
    #expect(chunks.map(\.values) == [[1, 2, 3]])
    #expect(chunks.map(\.total) == [3])
  }

  @Test("a coordinator that leaves takes its sequences along", arguments: Parting.allCases)
  func sequences(parting: Parting) {
    link.welcome(credit: 1 << 20)
    link.receive(LinkSupport.step(1))
    engine.finish()
    #expect(service.openSequences == 1)
    #expect(engine.released.isEmpty)
    parting.happen(to: link)
    #expect(service.openSequences == 0)
    #expect(engine.released == [SequenceKey(coordinator: 7, sequence: 1).decoderKey])
    #expect(link.isRegistered == (parting == .registeredAnew))
  }
}
