internal import Core
internal import Synchronization

extension DecoderCore {
  /// Tokens of `entry` that may be evaluated now together with other sequences; nil if it is prefill.
  func stepWidth(_ entry: Active) -> Int? {
    guard entry.remaining <= configuration.stepTokens else { return nil }
    if entry.request.wantsHidden, let wanted = entry.nextWanted, wanted - entry.next > Self.hiddenLead { return nil }
    return entry.remaining
  }

  /// Evaluates every step that waits now, in groups of slots with equally many tokens each. Steps that come meanwhile join the
  /// groups where they fit; they are not waited for.
  func runSteps() {
    var due = Set(active.filter { stepWidth($0) != nil }.map(\.serial))
    while !due.isEmpty {
      let entries = active.filter { stepWidth($0) != nil }
      let bySlot = Dictionary(uniqueKeysWithValues: entries.map { ($0.slot, $0.serial) })
      let groups = groups(bySlot.keys.sorted(), hasSingles: entries.contains { $0.remaining == 1 })
      // Who has waited longest goes first, so that what is due now is done after at most as many groups.
      guard let group = groups.min(by: { oldest(in: $0, bySlot) < oldest(in: $1, bySlot) }) else { return }
      // After a failure or a cancellation, look at the requests anew.
      guard decode(group: group, bySlot) else { return }
      due.formIntersection(active.map(\.serial))
      guard !due.isEmpty, absorb(mailbox.take(wait: false)) else { return }
      due.formIntersection(active.map(\.serial))
    }
  }

  /// What is evaluated in one call each: of a llama.cpp that takes only neighbours together, runs of slots with bridges.
  private func groups(_ slots: [Int], hasSingles: Bool) -> [[Int]] {
    let limit = min(context.batchLimit, context.outputLimit)
    guard !context.joinsDistantSlots else {
      return StepPlanner.groups(slots, maximumSteps: min(limit, groupLimit()))
    }
    let riders = Set(active.filter { stepWidth($0) == nil && ridesAlong($0) }.map(\.slot))
    let runs = StepPlanner.runs(
      slots, maximumRun: limit, maximumSteps: groupLimit(),
      // Where all have several tokens left, a bridge would have to be decoded again for each of them.
      fillable: { hasSingles && (riders.contains($0) || self.isRepeatable($0)) },
      cost: { self.costs.milliseconds(sequences: $0) })
    return runs.map(Array.init)
  }

  /// Most steps in one group, see ``StepCosts/groupSize(of:)``.
  func groupLimit() -> Int {
    let stepping = Set(active.filter { stepWidth($0) != nil }.map(\.request.sequence))
    let others = gathering.expected(besides: stepping, now: monotonicNanoseconds())
    return costs.groupSize(of: stepping.count + others)
  }

  private func oldest(in group: [Int], _ bySlot: [Int: UInt64]) -> UInt64 {
    group.compactMap { bySlot[$0] }.min() ?? 0
  }

  /// One call of llama.cpp over the slots of `group`, ascending. Of those without a step, the ones whose prompt is being read
  /// read a token of it, and the others decode their last token again. False if it did not succeed.
  private func decode(group: [Int], _ bySlot: [Int: UInt64]) -> Bool {
    let slots = Set(group)
    var members: [(index: Int, first: Int)] = []
    for index in active.indices where bySlot[active[index].slot] == active[index].serial {
      if slots.contains(active[index].slot) { members.append((index, 0)) }
    }
    guard !members.isEmpty else { return true }
    let steps = members.map(\.index)
    let available = steps.map { active[$0].remaining }.min() ?? 1
    let fits = min(context.batchLimit, context.outputLimit) / group.count
    let width = members.count == group.count ? max(1, min(available, fits)) : 1
    for index in active.indices where slots.contains(active[index].slot) && bySlot[active[index].slot] == nil {
      if ridesAlong(active[index]) { members.append((index, 0)) }
    }
    members.sort { active[$0.index].slot < active[$1.index].slot }
    let taken = Set(members.map { active[$0.index].slot })
    let holes = group.filter { !taken.contains($0) }
    let hidden = steps.contains { index in
      let entry = active[index]
      return entry.request.wantsHidden && (entry.nextWanted ?? Int.max) < entry.next + width
    }

    context.begin(hidden: hidden)
    var next = 0
    for slot in group {
      if next < members.count, active[members[next].index].slot == slot {
        members[next].first = context.tokensInBatch
        addTokens(of: active[members[next].index], count: width)
        next += 1
      } else if let token = table.lastToken(of: slot) {
        let position = table.tokenCount(of: slot) - 1
        _ = context.remove(slot: slot, from: position)
        monitor.refilledTokens.wrappingAdd(1, ordering: .relaxed)
        context.add(token, position: position, slot: slot, output: false)
      }
    }
    for index in steps { noteWait(of: active[index]) }
    let expected = costs.milliseconds(sequences: group.count) * Double(width)
    let (outcome, nanoseconds) = compute(expectedMilliseconds: expected, members: members.map(\.index))
    if width == 1, case .done = outcome {
      costs.record(sequences: group.count, milliseconds: Double(nanoseconds) / 1e6)
    }
    let now = monotonicNanoseconds()
    for index in steps { gathering.stepped(active[index].request.sequence, now: now) }
    settle(outcome, members: members, width: width, nanoseconds: nanoseconds, blamed: Set(steps), holes: holes)
    if case .done = outcome { return true } else { return false }
  }

  /// Whether a prompt that is being read may get on by a token in a run of steps over its slot.
  private func ridesAlong(_ entry: Active) -> Bool { entry.remaining > 1 && entry.nextWanted != entry.next }

  /// Whether the last token of a slot can be decoded again.
  private func isRepeatable(_ slot: Int) -> Bool { !model.information.isRecurrent && table.tokenCount(of: slot) > 0 }

  /// Turns of prefill that ended between a step's submission and its own computation.
  private func noteWait(of entry: Active) {
    guard entry.firstCompute == nil, !entry.wasHeldBack else { return }
    let turns = monitor.prefillTurns.load(ordering: .relaxed) - entry.submitted.prefillTurns
    _ = monitor.longestStepWait.max(turns, ordering: .relaxed)
  }

  // MARK: - Shared with prefill

  /// Appends the next `count` tokens of `entry` to the batch.
  func addTokens(of entry: Active, count: Int) {
    var wantedIndex = entry.wantedIndex
    for position in entry.next..<(entry.next + count) {
      let wanted = wantedIndex < entry.request.wanted.count && entry.request.wanted[wantedIndex] == position
      if wanted { wantedIndex += 1 }
      context.add(entry.request.tokens[position], position: position, slot: entry.slot, output: wanted)
    }
  }

  /// Runs the batch; other threads see what it may take and whether it gets on.
  func compute(expectedMilliseconds: Double, members: [Int]) -> (LlamaContext.Outcome, UInt64) {
    let start = monotonicNanoseconds()
    for index in members where active[index].firstCompute == nil { active[index].firstCompute = start }
    monitor.onlyRequest.store(members.count == 1 ? active[members[0]].request.id : 0, ordering: .relaxed)
    monitor.budgetMilliseconds.store(Self.budget(expectedMilliseconds), ordering: .relaxed)
    let outcome = context.decode()
    monitor.onlyRequest.store(0, ordering: .relaxed)
    monitor.budgetMilliseconds.store(0, ordering: .relaxed)
    return (outcome, monotonicNanoseconds() - start)
  }

  /// Far above what is expected: a machine may be busy, or the weights come from disk the first time.
  private static func budget(_ expectedMilliseconds: Double) -> UInt64 {
    UInt64(max(10_000, min(20 * expectedMilliseconds, 3_600_000)))
  }

  /// Books what a batch did: `members` are (index in `active`, index in the batch of its first token).
  ///
  /// - Parameter blamed: indices in `active` of those that the batch was for; the others rode along, and its failure is none
  ///   of theirs. Nil: all.
  func settle(
    _ outcome: LlamaContext.Outcome, members: [(index: Int, first: Int)], width: Int, nanoseconds: UInt64,
    blamed: Set<Int>? = nil, holes: [Int] = []
  ) {
    var done: [UInt64] = []
    var failed: [(serial: UInt64, error: FusionRouteError)] = []
    for (index, first) in members {
      let isBlamed = blamed?.contains(index) ?? true
      active[index].computeNanoseconds += nanoseconds
      switch outcome {
      case .done:
        let range = active[index].next..<(active[index].next + width)
        table.append(active[index].request.tokens[range], to: active[index].slot)
        active[index].next = range.upperBound
        active[index].evaluated += width
        monitor.evaluatedTokens.wrappingAdd(UInt64(width), ordering: .relaxed)
        if !deliverRows(of: index, range: range, first: first) {
          failed.append((active[index].serial, .internal("llama.cpp gave no logits for a position that was wanted")))
        } else if active[index].remaining == 0 {
          done.append(active[index].serial)
        }
      case .refused(let reason):
        guard isBlamed else { continue }
        failed.append((active[index].serial, .internal("a batch was refused: \(reason)")))
      case .lost(let reason, let aborted):
        recover(slot: active[index].slot, trusted: aborted)
        active[index].next = table.tokenCount(of: active[index].slot)
        if !aborted, isBlamed { active[index].failures += 1 }
        if active[index].failures >= Self.failureLimit {
          failed.append((active[index].serial, .unavailable("the computation failed (\(reason)); try again")))
        }
      }
    }
    if case .done = outcome {} else { for slot in holes { recover(hole: slot) } }
    publish()
    for serial in done {
      if let index = active.firstIndex(where: { $0.serial == serial }) { finish(at: index, success: ()) }
    }
    for (serial, error) in failed {
      if let index = active.firstIndex(where: { $0.serial == serial }) { finish(at: index, .failure(error)) }
    }
  }

  /// After a failed batch: makes table and KV cache agree again. An aborted micro-batch was undone by llama.cpp itself.
  private func recover(slot: Int, trusted: Bool) {
    let kept = min(table.tokenCount(of: slot), context.lastPosition(of: slot) + 1)
    if trusted, kept > 0, context.remove(slot: slot, from: kept) {
      table.truncate(slot, to: kept)
    } else {
      context.clear(slot: slot)
      table.truncate(slot, to: 0)
    }
  }

  /// The same for a bridged slot, which may be a prefill's: that took no part in the batch, but has to start anew.
  private func recover(hole slot: Int) {
    recover(slot: slot, trusted: false)
    for index in active.indices where active[index].slot == slot { active[index].next = table.tokenCount(of: slot) }
  }

  /// Hands over the wanted rows of `range`; its first token has index `first` in the batch. False if a row is missing.
  private func deliverRows(of index: Int, range: Range<Int>, first: Int) -> Bool {
    while let position = active[index].nextWanted, range.contains(position) {
      let place = first + position - range.lowerBound
      guard let logits = context.logits(at: place) else { return false }
      var hidden: [Float]?
      if active[index].request.wantsHidden {
        hidden = context.hidden(at: place)
        guard hidden != nil else { return false }
      }
      active[index].wantedIndex += 1
      active[index].request.deliver(DecodedRow(position: position, logits: logits, hidden: hidden))
    }
    return true
  }
}
