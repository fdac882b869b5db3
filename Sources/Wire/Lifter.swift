internal import CWire
internal import Core

/// C structs into values. Shapes are checked here (sizes, text, hashes, what must be there); values and limits in
/// `WireMessage.check`.
struct Lifter {
  let kind: MessageKind
  let limits: WireLimits

  func lift(_ envelope: Fusionroute__V1__Envelope, _ payload: inout PayloadReader) throws(WireError) -> WireMessage {
    switch kind {
    case .register: .register(try register(try body(envelope.register_worker)))
    case .registered: .registered(registered(try body(envelope.registered)))
    case .registerAgain: .registerAgain
    case .refused: .refused(try refused(try body(envelope.refused)))
    case .vocabularyQuery: .vocabularyQuery(vocabularyQuery(try body(envelope.vocabulary_query)))
    case .vocabularyPage: .vocabularyPage(vocabularyPage(try body(envelope.vocabulary_page)))
    case .heartbeat: .heartbeat(heartbeat(try body(envelope.heartbeat)))
    case .step: .step(try step(try body(envelope.step)))
    case .stepReply: .stepReply(try stepReply(try body(envelope.step_reply), &payload))
    case .prefixMissing: .prefixMissing(try prefixMissing(try body(envelope.prefix_missing)))
    case .rowChunk: .rowChunk(try rowChunk(try body(envelope.row_chunk), &payload))
    case .score: .score(try score(try body(envelope.score)))
    case .scoreReply: .scoreReply(try scoreReply(try body(envelope.score_reply), &payload))
    case .failure: .failure(try failure(try body(envelope.failure)))
    case .credit: .credit(Credit(bytes: Int(clamping: try body(envelope.credit).bytes)))
    case .cancel: .cancel(Cancel(request: try body(envelope.cancel).request))
    case .release: .release(Release(sequence: try body(envelope.release).sequence))
    case .drain: .drain
    case .goodbye: .goodbye(try goodbye(try body(envelope.goodbye)))
    }
  }
}

// MARK: - Fields

extension Lifter {
  private func body<T>(_ pointer: UnsafeMutablePointer<T>?) throws(WireError) -> T {
    guard let pointer else { throw WireError(.malformed, "\(kind.name) lacks its body.") }
    return pointer.pointee
  }

  private func text(_ data: ProtobufCBinaryData, _ field: String, limit: Int) throws(WireError) -> String {
    guard let text = Text.parse(UnsafeBufferPointer(start: data.data, count: data.len), limit: limit) else {
      throw WireError(
        .field, "\(kind.name).\(field) is not UTF-8 text of at most \(limit) bytes without control characters.")
    }
    return text
  }

  private func name(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> String {
    try text(data, field, limit: limits.nameBytes)
  }

  private func sentence(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> String {
    try text(data, field, limit: limits.sentenceBytes)
  }

  private func digest(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> SHA256Digest {
    guard let digest = SHA256Digest(UnsafeBufferPointer(start: data.data, count: data.len)) else {
      throw WireError(.field, "\(kind.name).\(field) has \(data.len) bytes instead of 32.")
    }
    return digest
  }

  /// Bits kept: an id of 2³¹ or more becomes negative and is refused by the check.
  private func tokens(_ start: UnsafeMutablePointer<UInt32>?, _ count: Int) -> [Token] {
    guard let start, count > 0 else { return [] }
    return [Token](unsafeUninitializedCapacity: count) { buffer, initialized in
      UnsafeMutableRawBufferPointer(buffer).copyMemory(from: UnsafeRawBufferPointer(start: start, count: 4 * count))
      initialized = count
    }
  }
}

// MARK: - Registration

extension Lifter {
  private func register(_ c: Fusionroute__V1__Register) throws(WireError) -> Register {
    guard c.protocol_min <= c.protocol_max else {
      throw WireError(.field, "Register.protocol_min is above protocol_max.")
    }
    guard let numerics = c.numerics?.pointee else { throw WireError(.malformed, "Register.numerics is missing.") }
    return Register(
      protocols: c.protocol_min...c.protocol_max, expert: try name(c.expert, "expert"), incarnation: c.incarnation,
      modelFingerprint: try digest(c.model_fingerprint, "model_fingerprint"),
      vocabularyFingerprint: try digest(c.vocabulary_fingerprint, "vocabulary_fingerprint"),
      vocabularySize: Int(c.vocabulary_size),
      numerics: Numerics(
        label: try sentence(numerics.label, "numerics.label"),
        probeHash: try digest(numerics.probe_hash, "numerics.probe_hash"),
        batchInvariant: numerics.batch_invariant != 0),
      slots: Int(c.slots), context: Int(c.context), maximumPositions: Int(c.max_positions),
      host: try name(c.host, "host"), pid: Int32(clamping: c.pid), software: try name(c.software, "software"))
  }

  private func registered(_ c: Fusionroute__V1__Registered) -> Registered {
    Registered(
      coordinator: c.coordinator, leasedSlots: Int(c.leased_slots), heartbeatMilliseconds: Int(c.heartbeat_ms),
      creditBytes: Int(clamping: c.credit_bytes), commonVocabulary: Int(c.common_vocabulary),
      protocolVersion: c.protocol)
  }

  private func refused(_ c: Fusionroute__V1__Refused) throws(WireError) -> Refused {
    Refused(
      code: Refused.Code(rawValue: try name(c.code, "code")), message: try sentence(c.message, "message"))
  }

  private func vocabularyQuery(_ c: Fusionroute__V1__VocabularyQuery) -> VocabularyQuery {
    VocabularyQuery(first: Int(c.first), count: Int(c.count))
  }

  private func vocabularyPage(_ c: Fusionroute__V1__VocabularyPage) -> VocabularyPage {
    VocabularyPage(
      first: Int(c.first), total: Int(c.total),
      texts: UnsafeBufferPointer(start: c.texts, count: c.n_texts).map {
        Array(UnsafeBufferPointer(start: $0.data, count: $0.len))
      },
      attributes: Array(UnsafeBufferPointer(start: c.attributes, count: c.n_attributes)))
  }
}

// MARK: - Decoding

extension Lifter {
  private func step(_ c: Fusionroute__V1__Step) throws(WireError) -> Step {
    let wants = UnsafeBufferPointer(start: c.wants, count: c.n_wants).compactMap { $0?.pointee }
    return Step(
      request: c.request, coordinator: c.coordinator, sequence: c.sequence, epoch: c.epoch,
      baseLength: Int(c.base_length), baseHash: PrefixHash(try digest(c.base_hash, "base_hash")),
      append: tokens(c.append, c.n_append),
      wants: wants.map { want in
        Step.Want(
          position: Int(want.position), topK: Int(want.top_k), named: tokens(want.named, want.n_named),
          fullRow: want.has_full_row != 0 && want.full_row != 0,
          logSumExp: want.has_log_sum_exp != 0 && want.log_sum_exp != 0)
      },
      deadlineMilliseconds: Int(c.deadline_ms),
      trace: try trace(
        c.has_request_id != 0 ? c.request_id : nil, c.has_trace_parent != 0 ? c.trace_parent : nil))
  }

  /// Both fields or none: an id without a trace, or the other way round, is nothing that we send.
  private func trace(
    _ request: ProtobufCBinaryData?, _ parent: ProtobufCBinaryData?
  ) throws(WireError) -> TraceContext? {
    guard let request, let parent else {
      guard request == nil, parent == nil else {
        throw WireError(.field, "\(kind.name).request_id and trace_parent do not come together.")
      }
      return nil
    }
    let context = TraceContext(
      requestID: try name(request, "request_id"), traceparent: try name(parent, "trace_parent"))
    guard let context else {
      throw WireError(
        .field,
        "\(kind.name).request_id is not a name of letters, digits, - and _, or its trace_parent is none of the W3C's.")
    }
    return context
  }

  private func stepReply(
    _ c: Fusionroute__V1__StepReply, _ payload: inout PayloadReader
  ) throws(WireError) -> StepReply {
    var rows = [StepReply.Row]()
    rows.reserveCapacity(c.n_rows)
    for pointer in UnsafeBufferPointer(start: c.rows, count: c.n_rows) {
      let c = try body(pointer)
      var row = StepReply.Row(
        position: Int(c.position), topIDs: tokens(c.top_ids, c.n_top_ids), floor: c.has_floor != 0 ? c.floor : nil,
        logSumExp: c.has_log_sum_exp != 0 ? c.log_sum_exp : nil,
        fullCount: c.has_full_count != 0 ? Int(c.full_count) : 0)
      let (top, named) = (row.topIDs.count, Int(c.named_count))
      if top + named > 0 {
        let frame = try payload.next(count: top + named)
        row.topLogits = Payload.numbers(frame, count: top)
        row.namedLogits = Payload.numbers(frame, from: top, count: named)
      }
      rows.append(row)
    }
    return StepReply(
      request: c.request, coordinator: c.coordinator, sequence: c.sequence, epoch: c.epoch, length: Int(c.length),
      rows: rows, evaluated: Int(c.evaluated), queueMicroseconds: Int(c.queue_us),
      computeMicroseconds: Int(c.compute_us))
  }

  private func prefixMissing(_ c: Fusionroute__V1__PrefixMissing) throws(WireError) -> PrefixMissing {
    PrefixMissing(
      request: c.request, coordinator: c.coordinator, sequence: c.sequence, epoch: c.epoch,
      haveLength: Int(c.have_length), haveHash: PrefixHash(try digest(c.have_hash, "have_hash")))
  }

  private func rowChunk(_ c: Fusionroute__V1__RowChunk, _ payload: inout PayloadReader) throws(WireError) -> RowChunk {
    RowChunk(
      request: c.request, coordinator: c.coordinator, position: Int(c.position), offset: Int(c.offset),
      total: Int(c.total), values: try payload.numbers(Int(c.count)))
  }

  private func score(_ c: Fusionroute__V1__Score) throws(WireError) -> Score {
    Score(
      request: c.request, coordinator: c.coordinator, tokens: tokens(c.tokens, c.n_tokens), first: Int(c.first),
      topK: Int(c.top_k), fullRows: c.has_full_rows != 0 && c.full_rows != 0,
      deadlineMilliseconds: Int(c.deadline_ms),
      trace: try trace(
        c.has_request_id != 0 ? c.request_id : nil, c.has_trace_parent != 0 ? c.trace_parent : nil))
  }

  private func scoreReply(
    _ c: Fusionroute__V1__ScoreReply, _ payload: inout PayloadReader
  ) throws(WireError) -> ScoreReply {
    let (count, topK) = (Int(c.count), Int(c.top_k))
    var reply = ScoreReply(
      request: c.request, coordinator: c.coordinator, first: Int(c.first), topK: topK, last: c.last != 0,
      logProbabilities: try payload.numbers(count), argmaxes: try payload.numbers(count))
    if topK > 0 {
      reply.topIDs = try payload.numbers(count * topK)
      reply.topLogits = try payload.numbers(count * topK)
      reply.logSumExps = try payload.numbers(count)
    }
    return reply
  }
}

// MARK: - Life and control

extension Lifter {
  private func heartbeat(_ c: Fusionroute__V1__Heartbeat) -> Heartbeat {
    Heartbeat(
      sender: c.sender, count: c.count, progress: c.has_progress != 0 ? c.progress : nil,
      batchBudgetMilliseconds: c.has_batch_budget_ms != 0 ? Int(c.batch_budget_ms) : nil,
      queued: c.has_queued != 0 ? Int(c.queued) : nil,
      residentSequences: c.has_resident_sequences != 0 ? Int(c.resident_sequences) : nil,
      kvTokens: c.has_kv_tokens != 0 ? c.kv_tokens : nil,
      evaluatedTokens: c.has_evaluated_tokens != 0 ? c.evaluated_tokens : nil,
      draining: c.has_draining != 0 && c.draining != 0)
  }

  private func goodbye(_ c: Fusionroute__V1__Goodbye) throws(WireError) -> Goodbye {
    Goodbye(sender: c.sender, reason: try sentence(c.reason, "reason"))
  }

  private func failure(_ c: Fusionroute__V1__Failure) throws(WireError) -> Failure {
    Failure(
      request: c.request, coordinator: c.coordinator, code: Failure.Code(rawValue: try name(c.code, "code")),
      message: try sentence(c.message, "message"))
  }
}
