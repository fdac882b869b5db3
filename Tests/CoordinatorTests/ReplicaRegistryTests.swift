import Core
import Testing

@testable import Coordinator

@Suite struct ReplicaRegistryTests {
  static let vocabulary = SHA256Digest(hashing: [1])
  static let model = SHA256Digest(hashing: [2])
  static let bits = SHA256Digest(hashing: [3])

  static func registry(reproducible: Bool = true) -> ReplicaRegistry<String> {
    ReplicaRegistry(
      requirements: .init(
        experts: ["math", "code"], vocabularyFingerprint: vocabulary, vocabularySize: 100, protocolRange: 2...3,
        reproducible: reproducible))
  }

  static func offer(
    _ expert: String = "math", incarnation: UInt64, model: SHA256Digest = model, bits: SHA256Digest = bits,
    protocols: ClosedRange<UInt32> = 3...3, vocabulary: SHA256Digest = vocabulary, slots: Int = 2
  ) -> ReplicaOffer {
    ReplicaOffer(
      expert: expert, incarnation: incarnation, protocolRange: protocols, modelFingerprint: model,
      vocabularyFingerprint: vocabulary, vocabularySize: 100, numericsLabel: "cpu", numericsHash: bits,
      batchInvariant: true, slots: slots, context: 512, maximumPositions: 8, host: "here", pid: Int32(incarnation))
  }

  private func accepted(_ decision: ReplicaRegistry<String>.Decision) throws -> ReplicaID {
    guard case .accepted(let id) = decision else {
      Issue.record("\(decision)")
      throw FusionRouteError.internal("not accepted")
    }
    return id
  }

  @Test("versions N and N-1 are served, others are refused with both ranges named")
  func protocolVersions() throws {
    var registry = Self.registry()
    _ = try accepted(registry.register(Self.offer(incarnation: 1, protocols: 1...2), from: "a", now: 0).0)
    guard
      case .refused(let code, let message) = registry.register(
        Self.offer(incarnation: 2, protocols: 1...1), from: "b", now: 0
      ).0
    else {
      Issue.record("accepted")
      return
    }
    #expect(code == "protocol")
    #expect(message.contains("2 to 3") && message.contains("1 to 1"))
  }

  @Test("a replica that is not the same expert is refused; other numerics only in reproducible mode")
  func sameExpert() throws {
    for reproducible in [true, false] {
      var registry = Self.registry(reproducible: reproducible)
      _ = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
      let otherModel = registry.register(Self.offer(incarnation: 2, model: Self.bits), from: "b", now: 0).0
      guard case .refused("model", _) = otherModel else {
        Issue.record("\(otherModel)")
        return
      }
      let otherBits = registry.register(Self.offer(incarnation: 3, bits: Self.model), from: "c", now: 0).0
      if reproducible {
        guard case .refused("numerics", _) = otherBits else {
          Issue.record("\(otherBits)")
          return
        }
      } else {
        _ = try accepted(otherBits)
      }
    }
  }

  @Test("an unknown expert is refused with the known names; another vocabulary is compared first")
  func unknownExpertAndVocabulary() {
    var registry = Self.registry()
    guard
      case .refused("expert", let message) = registry.register(
        Self.offer("maths", incarnation: 1), from: "a", now: 0
      ).0
    else {
      Issue.record("accepted")
      return
    }
    #expect(message.contains("code, math"))
    guard
      case .compareVocabulary(let id) = registry.register(
        Self.offer(incarnation: 2, vocabulary: Self.bits), from: "b", now: 0
      ).0
    else {
      Issue.record("not compared")
      return
    }
    #expect(registry.serving("math").isEmpty)
    registry.verified(id)
    #expect(registry.serving("math").map(\.id) == [id])
  }

  @Test("a worker that comes again while its vocabulary is compared stays who it is; on another connection it does not")
  func repeatedWhileCompared() throws {
    var registry = Self.registry()
    var offer = Self.offer(incarnation: 1, vocabulary: Self.bits, slots: 4)
    let first = registry.register(offer, from: "a", now: 0).0
    guard case .compareVocabulary(let id) = first else {
      Issue.record("\(first)")
      return
    }
    offer.slots = 1
    let (decision, lost) = registry.register(offer, from: "a", now: 5)
    #expect(decision == .compareVocabulary(id) && lost == nil)
    #expect(registry.replicas[id]?.lastFrame == 5 && registry.serving("math").isEmpty)
    registry.verified(id)
    #expect(registry.serving("math").map(\.id) == [id] && registry.capacity("math") == 1)
    let (again, _) = registry.register(offer, from: "a", now: 6)
    #expect(again == .renewed(id))
    let (other, former) = registry.register(offer, from: "a2", now: 7)
    #expect(former == id && other != .compareVocabulary(id))
  }

  @Test("the least loaded replica is chosen, and a sequence that has begun stays with identical weights")
  func placement() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1, slots: 4), from: "a", now: 0).0)
    let b = try accepted(registry.register(Self.offer(incarnation: 2, slots: 2), from: "b", now: 0).0)
    var counts: [ReplicaID: Int] = [:]
    for sequence in 0..<6 {
      let id = try #require(registry.place("math", fingerprint: nil, excluding: []))
      registry.assign(UInt64(sequence), to: id)
      counts[id, default: 0] += 1
    }
    #expect(counts == [a: 4, b: 2])
    #expect(registry.place("math", fingerprint: Self.vocabulary, excluding: []) == nil)
    #expect(registry.place("math", fingerprint: Self.model, excluding: [a]) == b)
    #expect(registry.place("code", fingerprint: nil, excluding: []) == nil)
    #expect(registry.missingExperts == ["code"])
  }

  @Test("silence makes a replica lost; heartbeats without progress make a working one hung, and an idle one not")
  func liveness() throws {
    var registry = Self.registry()
    let second: UInt64 = 1_000_000_000
    let a = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
    #expect(registry.overdue(now: 2 * second).isEmpty)
    #expect(registry.overdue(now: 4 * second).map(\.0) == [a])
    // The coordinator itself was suspended: their silence counts from its return.
    registry.resumed(now: 100 * second)
    #expect(registry.overdue(now: 102 * second).isEmpty && registry.overdue(now: 104 * second).map(\.0) == [a])
    for time in 1...30 {
      registry.heartbeat(from: a, progress: 5, batchBudget: 0, draining: false, now: UInt64(time) * second)
    }
    #expect(registry.overdue(now: 30 * second).isEmpty)
    registry.callStarted(a, now: 30 * second)
    for time in 31...39 {
      registry.heartbeat(from: a, progress: 5, batchBudget: 0, draining: false, now: UInt64(time) * second)
      #expect(registry.overdue(now: UInt64(time) * second).isEmpty)
    }
    registry.heartbeat(from: a, progress: 5, batchBudget: 0, draining: false, now: 41 * second)
    #expect(registry.overdue(now: 41 * second).map(\.0) == [a])
    registry.heartbeat(from: a, progress: 6, batchBudget: 0, draining: false, now: 41 * second)
    #expect(registry.overdue(now: 41 * second).isEmpty)
    // A long batch announces itself.
    registry.heartbeat(from: a, progress: 6, batchBudget: 10 * second, draining: false, now: 60 * second)
    #expect(registry.overdue(now: 61 * second).isEmpty)
  }

  @Test("draining and quarantined replicas get no new sequences; a process that registers anew replaces itself")
  func states() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
    registry.heartbeat(from: a, progress: 0, batchBudget: 0, draining: true, now: 1)
    #expect(registry.serving("math").isEmpty)
    let (decision, lost) = registry.register(Self.offer(incarnation: 1), from: "a2", now: 2)
    #expect(lost == a)
    let again = try accepted(decision)
    #expect(registry.peer(of: a) == nil && registry.peer(of: again) == "a2")
    registry.quarantine(again)
    #expect(registry.place("math", fingerprint: nil, excluding: []) == nil)
  }

  @Test("an idle replica shows no queue although its last heartbeat told of our request; others' requests stay")
  func queue() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
    func queued() -> Int? { registry.replicas[a]?.queued }
    func beat(_ count: Int) {
      registry.heartbeat(
        from: a, progress: 0, batchBudget: 0, draining: false, report: .init(queued: count), now: 1)
    }
    #expect(queued() == 0)
    registry.callStarted(a, now: 1)
    registry.callStarted(a, now: 1)
    #expect(queued() == 0, "it has not said so yet")
    beat(2)
    #expect(queued() == 2)
    registry.callEnded(a)
    #expect(queued() == 1)
    registry.callEnded(a)
    #expect(queued() == 0)
    // Of five, two are ours.
    registry.callStarted(a, now: 2)
    registry.callStarted(a, now: 2)
    beat(5)
    registry.callEnded(a)
    registry.callEnded(a)
    #expect(queued() == 3)
    beat(0)
    #expect(queued() == 0)
  }

  @Test(
    "a worker that offers other slots stays who it is, with its work; the sequences in excess move to one with room")
  func renewal() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1, slots: 4), from: "a", now: 0).0)
    for sequence in 1...4 as ClosedRange<UInt64> { registry.assign(sequence, to: a) }
    registry.callStarted(a, now: 0)
    let (decision, lost) = registry.register(Self.offer(incarnation: 1, slots: 2), from: "a", now: 5)
    #expect(decision == .renewed(a) && lost == nil)
    #expect(registry.replicas[a]?.pending == 1 && registry.replicas[a]?.assigned.count == 4)
    #expect(registry.capacity("math") == 2)
    #expect(!registry.isCrowded(a, pin: nil))
    let b = try accepted(registry.register(Self.offer(incarnation: 2, slots: 2), from: "b", now: 6).0)
    for sequence in 1...4 as ClosedRange<UInt64> where registry.isCrowded(a, pin: nil) {
      registry.unassign(sequence, from: a)
      #expect(registry.place("math", pin: nil, excluding: []) == b)
      registry.assign(sequence, to: b)
    }
    #expect(registry.replicas[a]?.assigned.count == 2 && registry.replicas[b]?.assigned.count == 2)
    // Without any slots it serves nobody here, and is not gone.
    _ = registry.register(Self.offer(incarnation: 1, slots: 0), from: "a", now: 7)
    #expect(registry.serving("math").map(\.id) == [b] && registry.replicas[a] != nil)
    // Anything else that has changed makes it another.
    let (other, former) = registry.register(Self.offer(incarnation: 9, slots: 2), from: "a", now: 8)
    #expect(former == a)
    #expect(try accepted(other) != a)
  }

  @Test("where answers are to be reproducible a sequence goes on only with the same model and the same bits")
  func pinned() throws {
    for reproducible in [true, false] {
      var registry = Self.registry(reproducible: reproducible)
      let first = Self.offer(incarnation: 1)
      let a = try accepted(registry.register(first, from: "a", now: 0).0)
      let pin = registry.pin(of: first)
      registry.remove(a)
      // Nobody else is there, so another class may begin; what began before is not for it.
      let b = try accepted(registry.register(Self.offer(incarnation: 2, bits: Self.model), from: "b", now: 0).0)
      #expect(registry.place("math", pin: nil, excluding: []) == b)
      #expect(registry.place("math", pin: pin, excluding: []) == (reproducible ? nil : b))
    }
  }

  @Test("a worker caught with wrong numbers is refused when it comes back on a new connection")
  func banned() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
    registry.quarantine(a)
    guard
      case .refused("quarantined", let message) = registry.register(Self.offer(incarnation: 1), from: "a2", now: 1).0
    else {
      Issue.record("let in again")
      return
    }
    #expect(message.contains("wrong numbers"))
    _ = try accepted(registry.register(Self.offer(incarnation: 2), from: "a3", now: 2).0)
  }

  @Test("an expert's context is the least of its replicas that take steps; what others offer limits nobody")
  func contexts() throws {
    var registry = Self.registry()
    var offer = Self.offer(incarnation: 1)
    offer.context = 1024
    _ = try accepted(registry.register(offer, from: "a", now: 0).0)
    #expect(registry.contexts(of: ["math", "code"]) == ["math": 1024])
    offer = Self.offer(incarnation: 2, vocabulary: Self.bits)
    offer.context = 256
    let decision = registry.register(offer, from: "b", now: 0).0
    guard case .compareVocabulary(let b) = decision else {
      Issue.record("\(decision)")
      return
    }
    #expect(registry.contexts(of: ["math", "code"]) == ["math": 1024])
    registry.verified(b)
    #expect(registry.contexts(of: ["math"]) == ["math": 256])
    registry.drain(b)
    #expect(registry.contexts(of: ["math"]) == ["math": 256])
    registry.quarantine(b)
    #expect(registry.contexts(of: ["math"]) == ["math": 1024])
    #expect(registry.contexts(of: ["code"]) == [:])
  }

  @Test("draining names the experts that it would leave without a replica")
  func abandoned() throws {
    var registry = Self.registry()
    let a = try accepted(registry.register(Self.offer(incarnation: 1), from: "a", now: 0).0)
    let b = try accepted(registry.register(Self.offer(incarnation: 2), from: "b", now: 0).0)
    let c = try accepted(registry.register(Self.offer("code", incarnation: 3), from: "c", now: 0).0)
    #expect(registry.abandoned(without: [a]) == [])
    #expect(registry.abandoned(without: [a, b, c]) == ["code", "math"])
    registry.drain(a)
    #expect(registry.place("math", fingerprint: nil, excluding: []) == b)
    #expect(registry.abandoned(without: [a]) == [] && registry.abandoned(without: [b]) == ["math"])
  }
}
