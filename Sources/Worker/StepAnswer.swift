internal import Core
internal import Fusion
internal import Synchronization
internal import Wire

/// Collects a step's rows as they are computed and turns them into the reply.
final class StepAnswer: Sendable {
  /// Floats per chunk of a full row: 64 KB, so that heartbeats pass between chunks.
  static let chunkFloats = 16_000

  private let step: Step
  private let vocabulary: Int
  private let rows: Mutex<[Int: LogitsRow]>

  init(step: Step, vocabulary: Int, kept: [LogitsRow?]) {
    self.step = step
    self.vocabulary = vocabulary
    var rows: [Int: LogitsRow] = [:]
    for (want, row) in zip(step.wants, kept) { rows[want.position] = row }
    self.rows = Mutex(rows)
  }

  func put(_ row: LogitsRow, at position: Int) { rows.withLock { $0[position] = row } }

  func finish(evaluated: Int, queue: UInt64, compute: UInt64, respond: ExpertService.Respond) {
    let rows = rows.withLock { $0 }
    var answers: [StepReply.Row] = []
    var full: [(position: Int, row: LogitsRow)] = []
    for want in step.wants where want.isAnswered {
      guard let row = rows[want.position] else {
        respond(.failure(Failure(step, .internal, "the decoder left out a row")))
        return
      }
      if want.fullRow {
        answers.append(StepReply.Row(position: want.position, fullCount: vocabulary))
        full.append((want.position, row))
        continue
      }
      do {
        let partial = try RowReducer.reduce(
          row, vocabulary: vocabulary, topK: want.topK, named: want.named, logSumExp: want.logSumExp)
        answers.append(StepReply.Row(position: want.position, partial))
      } catch {
        respond(.failure(Failure(step, .internal, "\(error)")))
        return
      }
    }
    for (position, row) in full {
      for chunk in RowChunk.chunks(
        of: row, request: step.request, coordinator: step.coordinator, position: position, vocabulary: vocabulary)
      { respond(.rowChunk(chunk)) }
    }
    respond(
      .stepReply(
        StepReply(
          request: step.request, coordinator: step.coordinator, sequence: step.sequence, epoch: step.epoch,
          length: step.baseLength + step.append.count, rows: answers, evaluated: evaluated,
          queueMicroseconds: Int(queue / 1_000), computeMicroseconds: Int(compute / 1_000))))
  }
}

extension StepReply.Row {
  init(position: Int, _ partial: PartialRow) {
    self.init(
      position: position, topIDs: partial.topIDs, topLogits: partial.topLogits, namedLogits: partial.namedLogits,
      floor: partial.floor, logSumExp: partial.logSumExp, fullCount: 0)
  }
}

extension RowChunk {
  /// The first `vocabulary` logits of a row, or all where it has fewer, in pieces of at most 64 KB.
  static func chunks(of row: LogitsRow, request: UInt64, coordinator: UInt64, position: Int, vocabulary: Int)
    -> [RowChunk]
  {
    // In release builds nothing else checks this: beyond the row lies somebody else's memory.
    let total = min(vocabulary, row.count)
    return stride(from: 0, to: total, by: StepAnswer.chunkFloats).map { offset in
      let end = min(total, offset + StepAnswer.chunkFloats)
      return RowChunk(
        request: request, coordinator: coordinator, position: position, offset: offset, total: total,
        values: Array(row.buffer[offset..<end]))
    }
  }
}
