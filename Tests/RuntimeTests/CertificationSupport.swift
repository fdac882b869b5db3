import Core
import Foundation
import Fusion
import Inference
import Logging
import Messaging
import Wire

/// A worker that speaks the protocol and computes honestly, but changes the partial rows it sends.
///
/// Made of the parts alone (socket, codec, decoder, reducer), so that it can do what the product's worker never would.
final class LyingWorker: Sendable {
  /// Changes a partial row; returns whether it is now a lie that only the full row can expose.
  typealias Lie = @Sendable (inout PartialRow, LogitsRow) -> Bool

  private struct State {
    var registered: Registered?
    var sequences: [UInt64: [Token]] = [:]
    var lies: Set<[UInt64]> = []
    var answered: Set<[UInt64]> = []
    var requests: UInt64 = 0
    var hasLeft = false
    var lastBeat = ContinuousClock.now
  }

  private let decoder: BatchingDecoder
  private let offer: Register
  private let lie: Lie
  private let showsFullRows: Bool
  private let state = LockedBox(State())
  private let client = LockedBox<MessageClient?>(nil)

  /// - Parameter showsFullRows: otherwise it leaves for good when it is asked for one.
  init(
    _ cluster: InProcessCluster, expert: String, model path: String, showsFullRows: Bool = true, lie: @escaping Lie
  ) throws {
    self.lie = lie
    self.showsFullRows = showsFullRows
    let model = try Model.load(path: path)
    decoder = try BatchingDecoder(
      model: model, configuration: DecoderConfiguration(slots: cluster.slots, contextPerSequence: cluster.context))
    let numerics = try decoder.numericsClass()
    // The identity of an honest replica of the same files, on a host of its own: one with a bad name is avoided.
    let incarnation = UInt64.random(in: 1...UInt64.max)
    offer = Register(
      expert: expert, incarnation: incarnation,
      modelFingerprint: try ModelFingerprint.compute(
        model: path, adapters: [], settings: ["kv": "auto", "reproducible": "true"]),
      vocabularyFingerprint: model.vocabulary.fingerprint, vocabularySize: model.vocabulary.size,
      numerics: Numerics(
        label: numerics.label, probeHash: numerics.probeHash, batchInvariant: numerics.batchInvariant),
      slots: cluster.slots, context: cluster.context, maximumPositions: 16, host: "host-\(incarnation)", pid: 1,
      software: "test")
    var options = MessagingOptions()
    options.logger.logLevel = .critical
    _ = try MessageClient(endpoint: cluster.endpoint, options: options, handler: self)
  }

  /// Decisions (sequence and position) that got a lie, and those that got any partial row.
  var lies: Int { state.withValue { $0.lies.count } }
  var answered: Int { state.withValue { $0.answered.count } }

  func waitUntilRegistered() async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while state.withValue({ $0.registered == nil }) {
      guard ContinuousClock.now < deadline else {
        throw FusionRouteError.unavailable("the coordinator did not register the test's worker within 30 s")
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  func stop() {
    transmit(.goodbye(Goodbye(sender: offer.incarnation, reason: "done")))
    let client = client.withValue { client in
      defer { client = nil }
      return client
    }
    client?.shutdown(flushing: .milliseconds(200))
    decoder.shutdown()
  }

  private func transmit(_ message: WireMessage) { client.withValue { $0 }?.send(WireCodec.encode(message)) }

  private func answer(_ step: Step) {
    if !showsFullRows, step.wants.contains(where: \.fullRow) {
      state.withValue { $0.hasLeft = true }
      return transmit(.goodbye(Goodbye(sender: offer.incarnation, reason: "no full rows here")))
    }
    let tokens: [Token]? = state.withValue { state in
      let held = state.sequences[step.sequence] ?? []
      guard held.count >= step.baseLength else { return nil }
      let tokens = held[..<step.baseLength] + step.append
      state.sequences[step.sequence] = Array(tokens)
      state.requests += 1
      return Array(tokens)
    }
    guard let tokens else {
      transmit(
        .prefixMissing(
          PrefixMissing(
            request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch,
            haveLength: 0, haveHash: .empty)))
      return
    }
    let rows = LockedBox<[Int: LogitsRow]>([:])
    decoder.submit(
      DecodeRequest(
        id: step.request, sequence: step.sequence, tokens: tokens, wanted: step.wants.map(\.position),
        wantsHidden: false, deliver: { row in rows.withValue { $0[row.position] = row.logits } },
        completion: { [self] result in
          if case .success(let summary) = result {
            reply(to: step, rows: rows.withValue { $0 }, evaluated: summary.evaluatedTokens)
          }
        }))
  }

  private func reply(to step: Step, rows: [Int: LogitsRow], evaluated: Int) {
    let vocabulary = state.withValue { $0.registered?.commonVocabulary } ?? offer.vocabularySize
    var answers: [StepReply.Row] = []
    for want in step.wants where want.topK > 0 || !want.named.isEmpty || want.fullRow {
      guard let row = rows[want.position] else { return }
      if want.fullRow {
        let values = Array(row.buffer[..<vocabulary])
        for start in stride(from: 0, to: vocabulary, by: 16_000) {
          transmit(
            .rowChunk(
              RowChunk(
                request: step.request, coordinator: step.coordinator, position: want.position, offset: start,
                total: vocabulary, values: Array(values[start..<min(vocabulary, start + 16_000)]))))
        }
        answers.append(StepReply.Row(position: want.position, fullCount: vocabulary))
        continue
      }
      guard
        var partial = try? RowReducer.reduce(
          row, vocabulary: vocabulary, topK: want.topK, named: want.named, logSumExp: want.logSumExp)
      else { return }
      let decision = [step.sequence, UInt64(want.position)]
      let lied = lie(&partial, row)
      state.withValue { state in
        state.answered.insert(decision)
        if lied { state.lies.insert(decision) }
      }
      answers.append(
        StepReply.Row(
          position: want.position, topIDs: partial.topIDs, topLogits: partial.topLogits,
          namedLogits: partial.namedLogits, floor: partial.floor, logSumExp: partial.logSumExp))
    }
    transmit(
      .stepReply(
        StepReply(
          request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch,
          length: step.baseLength + step.append.count, rows: answers, evaluated: evaluated, queueMicroseconds: 0,
          computeMicroseconds: 0)))
  }
}

extension LyingWorker: ClientHandler {
  func started(_ client: MessageClient) { self.client.withValue { $0 = client } }

  func connected() { transmit(.register(offer)) }

  func received(_ frames: [[UInt8]]) {
    guard let message = try? WireCodec.decode(frames, from: .coordinator) else { return }
    switch message {
    case .registered(let registered): state.withValue { $0.registered = registered }
    case .registerAgain: if !state.withValue({ $0.hasLeft }) { transmit(.register(offer)) }
    case .step(let step): answer(step)
    case .release(let release):
      _ = state.withValue { $0.sequences.removeValue(forKey: release.sequence) }
      decoder.release(sequence: release.sequence)
    case .cancel(let cancel): decoder.cancel(request: cancel.request)
    default: break
    }
  }

  func tick() {
    let due = state.withValue { state in
      guard !state.hasLeft, ContinuousClock.now - state.lastBeat > .milliseconds(300) else { return false }
      state.lastBeat = .now
      return true
    }
    if due {
      transmit(
        .heartbeat(Heartbeat(sender: offer.incarnation, count: 1, progress: UInt64(decoder.statistics.progress))))
    }
  }
}
