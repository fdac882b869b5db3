internal import CWire
internal import Core

/// Values into C structs in an arena, and those into bytes.
struct Packer {
  /// The envelope of `message`, packed.
  static func pack(_ message: WireMessage, version: UInt32) -> [UInt8] {
    Arena.with(quota: .max) { arena in
      var packer = Packer(arena: arena)
      defer { arena = packer.arena }
      var envelope = Fusionroute__V1__Envelope()
      fusionroute__v1__envelope__init(&envelope)
      envelope.protocol = version
      envelope.body_case = Fusionroute__V1__Envelope__BodyCase(rawValue: message.kind.rawValue)
      packer.fill(&envelope, message)
      return withUnsafePointer(to: envelope) { envelope in
        let size = fusionroute__v1__envelope__get_packed_size(envelope)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
          initialized = fusionroute__v1__envelope__pack(envelope, buffer.baseAddress)
        }
      }
    }
  }

  private var arena: Arena

  private mutating func fill(_ envelope: inout Fusionroute__V1__Envelope, _ message: WireMessage) {
    switch message {
    case .register(let value): envelope.register_worker = register(value)
    case .registered(let value): envelope.registered = registered(value)
    case .registerAgain: envelope.register_again = make(fusionroute__v1__register_again__init) { _ in }
    case .refused(let value): envelope.refused = refused(value)
    case .vocabularyQuery(let value): envelope.vocabulary_query = vocabularyQuery(value)
    case .vocabularyPage(let value): envelope.vocabulary_page = vocabularyPage(value)
    case .heartbeat(let value): envelope.heartbeat = heartbeat(value)
    case .step(let value): envelope.step = step(value)
    case .stepReply(let value): envelope.step_reply = stepReply(value)
    case .prefixMissing(let value): envelope.prefix_missing = prefixMissing(value)
    case .rowChunk(let value): envelope.row_chunk = rowChunk(value)
    case .score(let value): envelope.score = score(value)
    case .scoreReply(let value): envelope.score_reply = scoreReply(value)
    case .failure(let value): envelope.failure = failure(value)
    case .credit(let value):
      envelope.credit = make(fusionroute__v1__credit__init) { $0.bytes = UInt64(clamping: value.bytes) }
    case .cancel(let value): envelope.cancel = make(fusionroute__v1__cancel__init) { $0.request = value.request }
    case .release(let value): envelope.release = make(fusionroute__v1__release__init) { $0.sequence = value.sequence }
    case .drain: envelope.drain = make(fusionroute__v1__drain__init) { _ in }
    case .goodbye(let value): envelope.goodbye = goodbye(value)
    }
  }
}

// MARK: - Memory

extension Packer {
  /// An initialised C struct in the arena.
  private mutating func make<T>(
    _ initialise: (UnsafeMutablePointer<T>) -> Void, _ fill: (inout T) -> Void
  ) -> UnsafeMutablePointer<T>? {
    let pointer = room(for: T.self, count: 1)
    guard let pointer else { return nil }
    initialise(pointer)
    fill(&pointer.pointee)
    return pointer
  }

  private mutating func room<T>(for type: T.Type, count: Int) -> UnsafeMutablePointer<T>? {
    arena.allocate(count * MemoryLayout<T>.stride)?.bindMemory(to: T.self, capacity: count)
  }

  private mutating func copy(_ bytes: UnsafeRawBufferPointer) -> ProtobufCBinaryData {
    guard let source = bytes.baseAddress, let target = room(for: UInt8.self, count: bytes.count) else {
      return ProtobufCBinaryData(len: 0, data: nil)
    }
    UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: bytes.count)
    return ProtobufCBinaryData(len: bytes.count, data: target)
  }

  private mutating func bytes(_ value: [UInt8]) -> ProtobufCBinaryData { value.withUnsafeBytes { copy($0) } }

  private mutating func bytes(_ value: SHA256Digest) -> ProtobufCBinaryData { value.withUnsafeBytes { copy($0) } }

  private mutating func name(_ value: String) -> ProtobufCBinaryData { bytes(Array(value.utf8)) }

  private mutating func sentence(_ value: String) -> ProtobufCBinaryData { bytes(Text.clean(value)) }

  /// Token ids and other 32-bit numbers; the bits are kept, so that a negative id is refused by the receiver.
  private mutating func numbers<T: BitwiseCopyable>(_ values: [T]) -> (Int, UnsafeMutablePointer<UInt32>?) {
    let data = values.withUnsafeBytes { copy($0) }.data
    let count = data == nil ? 0 : values.count
    return (count, data.map { UnsafeMutableRawPointer($0).bindMemory(to: UInt32.self, capacity: count) })
  }

  /// An array of pointers to `count` structs that lie side by side.
  private mutating func structs<T>(
    _ count: Int, _ fill: (inout Packer, Int, UnsafeMutablePointer<T>) -> Void
  ) -> (Int, UnsafeMutablePointer<UnsafeMutablePointer<T>?>?) {
    guard count > 0, let items = room(for: T.self, count: count),
      let pointers = room(for: UnsafeMutablePointer<T>?.self, count: count)
    else { return (0, nil) }
    for i in 0..<count {
      fill(&self, i, items + i)
      (pointers + i).initialize(to: items + i)
    }
    return (count, pointers)
  }
}

// MARK: - Registration

extension Packer {
  private mutating func register(_ value: Register) -> UnsafeMutablePointer<Fusionroute__V1__Register>? {
    let expert = name(value.expert)
    let model = bytes(value.modelFingerprint)
    let vocabulary = bytes(value.vocabularyFingerprint)
    let host = name(value.host)
    let software = name(value.software)
    let label = sentence(value.numerics.label)
    let probe = bytes(value.numerics.probeHash)
    let numerics = make(fusionroute__v1__numerics__init) {
      $0.label = label
      $0.probe_hash = probe
      $0.batch_invariant = value.numerics.batchInvariant ? 1 : 0
    }
    return make(fusionroute__v1__register__init) {
      $0.protocol_min = value.protocols.lowerBound
      $0.protocol_max = value.protocols.upperBound
      $0.expert = expert
      $0.incarnation = value.incarnation
      $0.model_fingerprint = model
      $0.vocabulary_fingerprint = vocabulary
      $0.vocabulary_size = UInt32(clamping: value.vocabularySize)
      $0.numerics = numerics
      $0.slots = UInt32(clamping: value.slots)
      $0.context = UInt32(clamping: value.context)
      $0.max_positions = UInt32(clamping: value.maximumPositions)
      $0.host = host
      $0.pid = UInt32(clamping: value.pid)
      $0.software = software
    }
  }

  private mutating func registered(_ value: Registered) -> UnsafeMutablePointer<Fusionroute__V1__Registered>? {
    make(fusionroute__v1__registered__init) {
      $0.coordinator = value.coordinator
      $0.leased_slots = UInt32(clamping: value.leasedSlots)
      $0.heartbeat_ms = UInt32(clamping: value.heartbeatMilliseconds)
      $0.credit_bytes = UInt64(clamping: value.creditBytes)
      $0.common_vocabulary = UInt32(clamping: value.commonVocabulary)
      $0.protocol = value.protocolVersion
    }
  }

  private mutating func refused(_ value: Refused) -> UnsafeMutablePointer<Fusionroute__V1__Refused>? {
    let code = name(value.code.rawValue)
    let message = sentence(value.message)
    return make(fusionroute__v1__refused__init) {
      $0.code = code
      $0.message = message
    }
  }

  private mutating func vocabularyQuery(
    _ value: VocabularyQuery
  ) -> UnsafeMutablePointer<Fusionroute__V1__VocabularyQuery>? {
    make(fusionroute__v1__vocabulary_query__init) {
      $0.first = UInt32(clamping: value.first)
      $0.count = UInt32(clamping: value.count)
    }
  }

  private mutating func vocabularyPage(
    _ value: VocabularyPage
  ) -> UnsafeMutablePointer<Fusionroute__V1__VocabularyPage>? {
    let attributes = numbers(value.attributes)
    let texts = room(for: ProtobufCBinaryData.self, count: max(1, value.texts.count))
    guard let texts else { return nil }
    for (i, text) in value.texts.enumerated() { (texts + i).initialize(to: bytes(text)) }
    return make(fusionroute__v1__vocabulary_page__init) {
      $0.first = UInt32(clamping: value.first)
      $0.total = UInt32(clamping: value.total)
      $0.n_texts = value.texts.count
      $0.texts = texts
      ($0.n_attributes, $0.attributes) = attributes
    }
  }
}

// MARK: - Decoding

extension Packer {
  private mutating func step(_ value: Step) -> UnsafeMutablePointer<Fusionroute__V1__Step>? {
    let baseHash = bytes(value.baseHash.digest)
    let append = numbers(value.append)
    let wants = structs(value.wants.count) { packer, i, item in
      let want = value.wants[i]
      fusionroute__v1__want__init(item)
      item.pointee.position = UInt32(clamping: want.position)
      item.pointee.top_k = UInt32(clamping: want.topK)
      (item.pointee.n_named, item.pointee.named) = packer.numbers(want.named)
      if want.fullRow { (item.pointee.has_full_row, item.pointee.full_row) = (1, 1) }
      if want.logSumExp { (item.pointee.has_log_sum_exp, item.pointee.log_sum_exp) = (1, 1) }
    }
    let trace = trace(value.trace)
    return make(fusionroute__v1__step__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.sequence = value.sequence
      $0.epoch = value.epoch
      $0.base_length = UInt32(clamping: value.baseLength)
      $0.base_hash = baseHash
      ($0.n_append, $0.append) = append
      ($0.n_wants, $0.wants) = wants
      $0.deadline_ms = UInt32(clamping: value.deadlineMilliseconds)
      if let trace {
        ($0.has_request_id, $0.request_id) = (1, trace.request)
        ($0.has_trace_parent, $0.trace_parent) = (1, trace.parent)
      }
    }
  }

  private mutating func trace(
    _ value: TraceContext?
  ) -> (request: ProtobufCBinaryData, parent: ProtobufCBinaryData)? {
    value.map { (name($0.requestID), name($0.traceparent)) }
  }

  private mutating func stepReply(_ value: StepReply) -> UnsafeMutablePointer<Fusionroute__V1__StepReply>? {
    let rows = structs(value.rows.count) { packer, i, item in
      let row = value.rows[i]
      fusionroute__v1__row__init(item)
      item.pointee.position = UInt32(clamping: row.position)
      (item.pointee.n_top_ids, item.pointee.top_ids) = packer.numbers(row.topIDs)
      item.pointee.named_count = UInt32(clamping: row.namedLogits.count)
      if let floor = row.floor { (item.pointee.has_floor, item.pointee.floor) = (1, floor) }
      if let sum = row.logSumExp { (item.pointee.has_log_sum_exp, item.pointee.log_sum_exp) = (1, sum) }
      if row.fullCount > 0 {
        (item.pointee.has_full_count, item.pointee.full_count) = (1, UInt32(clamping: row.fullCount))
      }
    }
    return make(fusionroute__v1__step_reply__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.sequence = value.sequence
      $0.epoch = value.epoch
      $0.length = UInt32(clamping: value.length)
      ($0.n_rows, $0.rows) = rows
      $0.evaluated = UInt32(clamping: value.evaluated)
      $0.queue_us = UInt32(clamping: value.queueMicroseconds)
      $0.compute_us = UInt32(clamping: value.computeMicroseconds)
    }
  }

  private mutating func prefixMissing(_ value: PrefixMissing) -> UnsafeMutablePointer<Fusionroute__V1__PrefixMissing>? {
    let hash = bytes(value.haveHash.digest)
    return make(fusionroute__v1__prefix_missing__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.sequence = value.sequence
      $0.epoch = value.epoch
      $0.have_length = UInt32(clamping: value.haveLength)
      $0.have_hash = hash
    }
  }

  private mutating func rowChunk(_ value: RowChunk) -> UnsafeMutablePointer<Fusionroute__V1__RowChunk>? {
    make(fusionroute__v1__row_chunk__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.position = UInt32(clamping: value.position)
      $0.offset = UInt32(clamping: value.offset)
      $0.count = UInt32(clamping: value.values.count)
      $0.total = UInt32(clamping: value.total)
    }
  }

  private mutating func score(_ value: Score) -> UnsafeMutablePointer<Fusionroute__V1__Score>? {
    let tokens = numbers(value.tokens)
    let trace = trace(value.trace)
    return make(fusionroute__v1__score__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      ($0.n_tokens, $0.tokens) = tokens
      $0.first = UInt32(clamping: value.first)
      $0.top_k = UInt32(clamping: value.topK)
      if value.fullRows { ($0.has_full_rows, $0.full_rows) = (1, 1) }
      $0.deadline_ms = UInt32(clamping: value.deadlineMilliseconds)
      if let trace {
        ($0.has_request_id, $0.request_id) = (1, trace.request)
        ($0.has_trace_parent, $0.trace_parent) = (1, trace.parent)
      }
    }
  }

  private mutating func scoreReply(_ value: ScoreReply) -> UnsafeMutablePointer<Fusionroute__V1__ScoreReply>? {
    make(fusionroute__v1__score_reply__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.first = UInt32(clamping: value.first)
      $0.count = UInt32(clamping: value.logProbabilities.count)
      $0.top_k = UInt32(clamping: value.topK)
      $0.last = value.last ? 1 : 0
    }
  }
}

// MARK: - Life and control

extension Packer {
  private mutating func heartbeat(_ value: Heartbeat) -> UnsafeMutablePointer<Fusionroute__V1__Heartbeat>? {
    make(fusionroute__v1__heartbeat__init) {
      $0.sender = value.sender
      $0.count = value.count
      if let progress = value.progress { ($0.has_progress, $0.progress) = (1, progress) }
      if let budget = value.batchBudgetMilliseconds {
        ($0.has_batch_budget_ms, $0.batch_budget_ms) = (1, UInt32(clamping: budget))
      }
      if let queued = value.queued { ($0.has_queued, $0.queued) = (1, UInt32(clamping: queued)) }
      if let resident = value.residentSequences {
        ($0.has_resident_sequences, $0.resident_sequences) = (1, UInt32(clamping: resident))
      }
      if let tokens = value.kvTokens { ($0.has_kv_tokens, $0.kv_tokens) = (1, tokens) }
      if let tokens = value.evaluatedTokens { ($0.has_evaluated_tokens, $0.evaluated_tokens) = (1, tokens) }
      if value.draining { ($0.has_draining, $0.draining) = (1, 1) }
    }
  }

  private mutating func goodbye(_ value: Goodbye) -> UnsafeMutablePointer<Fusionroute__V1__Goodbye>? {
    let reason = sentence(value.reason)
    return make(fusionroute__v1__goodbye__init) {
      $0.sender = value.sender
      $0.reason = reason
    }
  }

  private mutating func failure(_ value: Failure) -> UnsafeMutablePointer<Fusionroute__V1__Failure>? {
    let code = name(value.code.rawValue)
    let message = sentence(value.message)
    return make(fusionroute__v1__failure__init) {
      $0.request = value.request
      $0.coordinator = value.coordinator
      $0.code = code
      $0.message = message
    }
  }
}
