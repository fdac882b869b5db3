import Core
import Testing

@testable import Wire

@Suite struct SmokeTests {
  @Test func stepRoundTrip() throws {
    let step = Step(
      request: 7, coordinator: 9, sequence: 3, epoch: 1, baseLength: 2, baseHash: .empty, append: [5, 6],
      wants: [.init(position: 3, topK: 32, named: [1, 2])], deadlineMilliseconds: 1000)
    let frames = WireCodec.encode(.step(step))
    #expect(try WireCodec.decode(frames, from: .coordinator) == .step(step))
    let reply = StepReply(
      request: 7, coordinator: 9, sequence: 3, epoch: 1, length: 4,
      rows: [.init(position: 3, topIDs: [4, 2], topLogits: [3, 2.5], namedLogits: [1, -.infinity], floor: 2)],
      evaluated: 2, queueMicroseconds: 1, computeMicroseconds: 2)
    #expect(try WireCodec.decode(WireCodec.encode(.stepReply(reply)), from: .worker) == .stepReply(reply))
  }
}
