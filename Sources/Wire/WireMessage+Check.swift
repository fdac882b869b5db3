internal import Core

extension WireMessage {
  /// Throws unless every field keeps its rule and its limit. A decoded message has passed this.
  func check(_ limits: WireLimits) throws(WireError) {
    let check = FieldCheck(kind: kind, limits: limits)
    switch self {
    case .register(let value): try check.register(value)
    case .registered(let value): try check.registered(value)
    case .refused(let value): try check.name(value.code.rawValue, "code")
    case .vocabularyQuery(let value): try check.vocabularyQuery(value)
    case .vocabularyPage(let value): try check.vocabularyPage(value)
    case .heartbeat(let value): try check.heartbeat(value)
    case .step(let value): try check.step(value)
    case .stepReply(let value): try check.stepReply(value)
    case .prefixMissing(let value): try check.range(value.haveLength, 0...limits.context, "have_length")
    case .rowChunk(let value): try check.rowChunk(value)
    case .score(let value): try check.score(value)
    case .scoreReply(let value): try check.scoreReply(value)
    case .failure(let value): try check.name(value.code.rawValue, "code")
    case .credit(let value): try check.range(value.bytes, 1...(1 << 40), "bytes")
    case .registerAgain, .cancel, .release, .drain, .goodbye: break
    }
  }
}

/// The rules of the fields.
struct FieldCheck {
  let kind: MessageKind
  let limits: WireLimits

  func fail(_ field: String, _ why: String) -> WireError { WireError(.field, "\(kind.name).\(field) \(why).") }

  func range(_ value: Int, _ allowed: ClosedRange<Int>, _ field: String) throws(WireError) {
    guard allowed.contains(value) else {
      throw fail(field, "is \(value), outside \(allowed.lowerBound) to \(allowed.upperBound)")
    }
  }

  func name(_ value: String, _ field: String) throws(WireError) {
    guard !value.isEmpty, value.utf8.count <= limits.nameBytes, !value.unicodeScalars.contains(where: { $0 < " " })
    else {
      throw fail(field, "must be one line of 1 to \(limits.nameBytes) bytes")
    }
  }

  /// Finite or -inf.
  func logits(_ values: [Float], _ field: String) throws(WireError) {
    // `x < .infinity` is false for NaN and +inf alike.
    guard all(values, SIMD16.init(repeating: .infinity), { $0 .< $1 }, { $0 < .infinity }) else {
      throw fail(field, "holds NaN or +inf")
    }
  }

  func tokens(_ values: [Token], _ field: String) throws(WireError) {
    let bound = UInt32(clamping: limits.vocabulary)
    // As unsigned numbers negative ids are large ones.
    let good = all(
      values, SIMD16(repeating: bound), { SIMD16<UInt32>(truncatingIfNeeded: $0) .< $1 },
      { UInt32(bitPattern: $0) < bound })
    guard good else { throw fail(field, "holds an id that is not below \(limits.vocabulary)") }
  }

  /// Whether all elements pass, sixteen at a time: full rows make this the hot part of decoding.
  @inline(__always)
  private func all<T: SIMDScalar, B: SIMDScalar>(
    _ values: [T], _ bound: SIMD16<B>, _ vector: (SIMD16<T>, SIMD16<B>) -> SIMDMask<SIMD16<Int32>>,
    _ scalar: (T) -> Bool
  ) -> Bool {
    values.withUnsafeBytes { bytes in
      let whole = values.count & ~15
      var good = SIMDMask<SIMD16<Int32>>(repeating: true)
      for i in stride(from: 0, to: whole, by: 16) {
        let lanes = bytes.loadUnaligned(fromByteOffset: i * MemoryLayout<T>.stride, as: SIMD16<T>.self)
        good .&= vector(lanes, bound)
      }
      return Swift.all(good) && values[whole...].allSatisfy(scalar)
    }
  }

  func ascending(_ values: [Token], _ field: String) throws(WireError) {
    for (a, b) in zip(values, values.dropFirst()) where a >= b {
      throw fail(field, "is not strictly ascending")
    }
  }

  /// Descending logits, ties by ascending id, no id twice.
  func top(_ ids: ArraySlice<Token>, _ logits: ArraySlice<Float>, _ field: String) throws(WireError) {
    guard ids.count == logits.count else { throw fail(field, "and their logits differ in number") }
    for i in ids.indices.dropLast() {
      guard logits[i] > logits[i + 1] || (logits[i] == logits[i + 1] && ids[i] < ids[i + 1]) else {
        throw fail(field, "are not in descending order of logit and ascending order of id")
      }
    }
    let sorted = ids.sorted()
    for i in sorted.indices.dropLast() where sorted[i] == sorted[i + 1] { throw fail(field, "hold an id twice") }
  }
}

// MARK: - Registration and life

extension FieldCheck {
  func register(_ value: Register) throws(WireError) {
    try name(value.expert, "expert")
    try name(value.host, "host")
    try name(value.software, "software")
    try range(value.vocabularySize, 1...limits.vocabulary, "vocabulary_size")
    try range(value.slots, 0...limits.slots, "slots")
    try range(value.context, 1...limits.context, "context")
    try range(value.maximumPositions, 1...limits.context, "max_positions")
    try range(Int(value.pid), 1...Int(Int32.max), "pid")
  }

  func registered(_ value: Registered) throws(WireError) {
    try range(value.leasedSlots, 0...limits.slots, "leased_slots")
    try range(value.heartbeatMilliseconds, 1...limits.milliseconds, "heartbeat_ms")
    try range(value.creditBytes, 0...(1 << 40), "credit_bytes")
    try range(value.commonVocabulary, 1...limits.vocabulary, "common_vocabulary")
  }

  func vocabularyQuery(_ value: VocabularyQuery) throws(WireError) {
    try range(value.first, 0...limits.vocabulary, "first")
    try range(value.count, 1...limits.pageTokens, "count")
  }

  func vocabularyPage(_ value: VocabularyPage) throws(WireError) {
    try range(value.total, 1...limits.vocabulary, "total")
    try range(value.first, 0...value.total, "first")
    try range(value.texts.count, 0...min(limits.pageTokens, value.total - value.first), "texts' number")
    guard value.attributes.count == value.texts.count else { throw fail("attributes", "and texts differ in number") }
    guard !value.texts.isEmpty || value.first == value.total else { throw fail("texts", "are missing") }
  }

  func heartbeat(_ value: Heartbeat) throws(WireError) {
    if let budget = value.batchBudgetMilliseconds { try range(budget, 0...limits.milliseconds, "batch_budget_ms") }
    // The other counts are of 32 bits.
    for (tokens, field) in [(value.kvTokens, "kv_tokens"), (value.evaluatedTokens, "evaluated_tokens")] {
      if let tokens { try range(Int(clamping: tokens), 0...limits.countedTokens, field) }
    }
  }
}

// MARK: - Decoding and scoring

extension FieldCheck {
  func step(_ value: Step) throws(WireError) {
    try range(value.baseLength, 0...limits.context, "base_length")
    try range(value.append.count, 0...(limits.context - value.baseLength), "append's number")
    try tokens(value.append, "append")
    try range(value.deadlineMilliseconds, 1...limits.milliseconds, "deadline_ms")
    guard value.wants.count <= limits.positions else {
      throw fail("wants", "asks for more than \(limits.positions) positions")
    }
    var next = 0
    for want in value.wants {
      guard want.position >= next, want.position < value.baseLength + value.append.count else {
        throw fail("wants", "holds a position that is out of order or beyond the last token")
      }
      next = want.position + 1
      try range(want.topK, 0...limits.topK, "wants.top_k")
      try range(want.named.count, 0...limits.named, "wants.named's number")
      try tokens(want.named, "wants.named")
      try ascending(want.named, "wants.named")
      guard !want.fullRow || (want.topK == 0 && want.named.isEmpty) else {
        throw fail("wants", "asks for a full row together with top_k or names")
      }
    }
  }

  func stepReply(_ value: StepReply) throws(WireError) {
    try range(value.length, 0...limits.context, "length")
    guard value.rows.count <= limits.positions else {
      throw fail("rows", "are more than \(limits.positions)")
    }
    var next = 0
    for row in value.rows {
      guard row.position >= next, row.position < value.length else {
        throw fail("rows", "hold a position that is out of order or beyond the sequence's length")
      }
      next = row.position + 1
      try check(row)
    }
  }

  private func check(_ row: StepReply.Row) throws(WireError) {
    if let sum = row.logSumExp { try logits([sum], "rows.log_sum_exp") }
    try range(row.fullCount, 0...limits.vocabulary, "rows.full_count")
    if row.fullCount > 0 {
      guard row.topIDs.isEmpty, row.namedLogits.isEmpty, row.floor == nil else {
        throw fail("rows", "hold a full row that also has top_ids, names or a floor")
      }
      return
    }
    guard let floor = row.floor else { throw fail("rows.floor", "is missing") }
    try logits([floor], "rows.floor")
    try range(row.topIDs.count, 0...limits.topK, "rows.top_ids' number")
    try range(row.namedLogits.count, 0...limits.named, "rows.named_count")
    try tokens(row.topIDs, "rows.top_ids")
    try logits(row.topLogits, "rows' top logits")
    try logits(row.namedLogits, "rows' named logits")
    try top(row.topIDs[...], row.topLogits[...], "rows.top_ids")
    if let least = row.topLogits.last, floor > least {
      throw fail("rows.floor", "is above the least of the top logits")
    }
  }

  func rowChunk(_ value: RowChunk) throws(WireError) {
    try range(value.position, 0...(limits.context - 1), "position")
    try range(value.total, 1...limits.vocabulary, "total")
    try range(value.values.count, 1...min(limits.rowChunkFloats, value.total), "count")
    try range(value.offset, 0...(value.total - value.values.count), "offset")
    try logits(value.values, "values")
  }

  func score(_ value: Score) throws(WireError) {
    // The last is scored and not read: it needs no place in the context.
    try range(value.tokens.count, 2...(limits.context + 1), "tokens' number")
    try tokens(value.tokens, "tokens")
    try range(value.first, 1...(value.tokens.count - 1), "first")
    try range(value.topK, 0...limits.topK, "top_k")
    try range(value.deadlineMilliseconds, 1...limits.milliseconds, "deadline_ms")
  }

  func scoreReply(_ value: ScoreReply) throws(WireError) {
    let count = value.logProbabilities.count
    try range(count, 1...limits.context, "count")
    try range(value.first, 1...limits.context, "first")
    try range(value.first + count, 2...(limits.context + 1), "first + count")
    try range(value.topK, 0...limits.topK, "top_k")
    guard value.argmaxes.count == count else { throw fail("argmaxes", "differ in number from the log-probabilities") }
    try logits(value.logProbabilities, "log-probabilities")
    try tokens(value.argmaxes, "argmaxes")
    guard value.topIDs.count == count * value.topK, value.topLogits.count == count * value.topK,
      value.logSumExps.count == (value.topK > 0 ? count : 0)
    else { throw fail("top_k", "does not match the arrays") }
    try tokens(value.topIDs, "top ids")
    try logits(value.topLogits, "top logits")
    try logits(value.logSumExps, "log-sum-exps")
    guard value.topK > 0 else { return }
    for i in 0..<count {
      let group = i * value.topK..<(i + 1) * value.topK
      try top(value.topIDs[group], value.topLogits[group], "top ids")
    }
  }
}

extension StepReply.Row {
  /// Whether the row has a payload frame of its own.
  var hasFrame: Bool { !topLogits.isEmpty || !namedLogits.isEmpty }
}
