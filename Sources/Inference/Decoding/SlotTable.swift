internal import Core

/// Which sequence's tokens are where in the KV cache. Pure bookkeeping: decides, and leaves the acting to the decoder.
///
/// Invariant kept with the decoder's help: `tokens(of:)` is exactly what the KV cache holds for that slot.
struct SlotTable {
  /// What to do before a request's remaining tokens can be evaluated.
  enum Placement: Equatable {
    /// Use `slot`, keeping its first `keep` tokens; `rollBack`: what lies beyond them must be removed.
    case inPlace(slot: Int, keep: Int, rollBack: Bool)
    /// Copy slot `from` over slot `to` as a whole, then keep the first `keep` tokens of it.
    case copy(from: Int, to: Int, keep: Int)
  }

  private struct Slot {
    /// Nil: released; its tokens may still serve as a prefix for others.
    var owner: UInt64?
    var tokens: [Token] = []
    var lastUse: UInt64 = 0
  }

  private var slots: [Slot]
  private var slotOf: [UInt64: Int] = [:]
  /// Sequences with queued work, with the number of their requests.
  private var pins: [UInt64: Int] = [:]
  private var clock: UInt64 = 0
  private(set) var evictions: UInt64 = 0

  init(count: Int) { slots = Array(repeating: Slot(), count: count) }

  var count: Int { slots.count }
  var resident: Int { slots.count { !$0.tokens.isEmpty } }
  /// Sequences that have a slot and are not released: each may bring a step at any time.
  var owners: Int { slotOf.count }
  var residentTokens: Int { slots.reduce(0) { $0 + $1.tokens.count } }

  func tokens(of slot: Int) -> [Token] { slots[slot].tokens }
  func tokenCount(of slot: Int) -> Int { slots[slot].tokens.count }
  func lastToken(of slot: Int) -> Token? { slots[slot].tokens.last }
  func owner(of slot: Int) -> UInt64? { slots[slot].owner }
  func slot(of sequence: UInt64) -> Int? { slotOf[sequence] }
  func isPinned(_ sequence: UInt64) -> Bool { pins[sequence] != nil }

  /// A request of `sequence` is queued: its slot, if it has one, is not given away until `unpin`.
  mutating func pin(_ sequence: UInt64) { pins[sequence, default: 0] += 1 }

  mutating func unpin(_ sequence: UInt64) {
    guard let count = pins[sequence] else { return }
    pins[sequence] = count > 1 ? count - 1 : nil
  }

  /// Finds a place for `tokens` of `sequence`; nil if every slot is pinned by others.
  ///
  /// - Parameters:
  ///   - reusable: at most this many leading tokens may be kept (the logits of later ones are wanted again).
  ///   - copyCost: tokens that could be evaluated in the time of one copy; `Int.max` forbids copying.
  /// The table is changed as if the placement had been carried out.
  mutating func place(_ sequence: UInt64, tokens: [Token], reusable: Int, copyCost: Int) -> Placement? {
    clock += 1
    let own = slotOf[sequence]
    let ownPrefix = own.map { commonPrefix(slots[$0].tokens, tokens) } ?? 0
    // The step path: too little is missing for any copy to pay.
    if let own, reusable - min(ownPrefix, reusable) <= copyCost {
      return keep(min(ownPrefix, reusable), of: own, for: sequence, needed: tokens.count)
    }
    let target = own ?? freeSlot(for: tokens)
    guard let target else { return nil }
    let targetPrefix = own == nil ? commonPrefix(slots[target].tokens, tokens) : ownPrefix
    if copyCost < Int.max, let (source, prefix) = bestPrefix(of: tokens, except: target),
      min(prefix, reusable) > min(targetPrefix, reusable) + copyCost
    {
      take(target, sequence)
      slots[target].tokens = Array(slots[source].tokens.prefix(min(prefix, reusable)))
      slots[source].lastUse = clock
      return .copy(from: source, to: target, keep: slots[target].tokens.count)
    }
    return keep(min(targetPrefix, reusable), of: target, for: sequence, needed: tokens.count)
  }

  private mutating func keep(_ count: Int, of slot: Int, for sequence: UInt64, needed: Int) -> Placement {
    take(slot, sequence)
    // With nothing left to evaluate, what lies beyond the prefix may stay.
    let rollBack = count < needed && count < slots[slot].tokens.count
    if rollBack { slots[slot].tokens.removeSubrange(count...) }
    return .inPlace(slot: slot, keep: count, rollBack: rollBack)
  }

  private mutating func take(_ slot: Int, _ sequence: UInt64) {
    if let owner = slots[slot].owner, owner != sequence {
      slotOf[owner] = nil
      evictions += 1
    }
    slots[slot].owner = sequence
    slots[slot].lastUse = clock
    slotOf[sequence] = slot
  }

  /// The slot a new sequence gets: a released one that already holds most of its prefix, else the lowest empty one (so
  /// that busy slots stay consecutive), else the least recently used one, released ones first.
  private func freeSlot(for tokens: [Token]) -> Int? {
    var bestReleased: (slot: Int, prefix: Int)?
    var empty: Int?
    var oldest: (slot: Int, key: (Int, UInt64))?
    for (index, slot) in slots.enumerated() {
      if let owner = slot.owner, pins[owner] != nil { continue }
      if slot.tokens.isEmpty {
        empty = empty ?? index
      } else if slot.owner == nil {
        let prefix = commonPrefix(slot.tokens, tokens)
        // Only if no more is thrown away than kept: else the tokens stay where they are, for others to copy.
        if 2 * prefix >= slot.tokens.count, prefix > bestReleased?.prefix ?? 0 { bestReleased = (index, prefix) }
      }
      let key = (slot.owner == nil ? 0 : 1, slot.lastUse)
      if oldest == nil || key < oldest!.key { oldest = (index, key) }
    }
    return bestReleased?.slot ?? empty ?? oldest?.slot
  }

  /// Most leading tokens of `tokens` that any slot holds.
  func longestPrefix(of tokens: [Token]) -> Int { bestPrefix(of: tokens, except: nil)?.prefix ?? 0 }

  private func bestPrefix(of tokens: [Token], except target: Int?) -> (slot: Int, prefix: Int)? {
    var best: (slot: Int, prefix: Int)?
    for (index, slot) in slots.enumerated() where index != target {
      let prefix = commonPrefix(slot.tokens, tokens)
      if prefix > best?.prefix ?? 0 { best = (index, prefix) }
    }
    return best
  }

  /// `tokens` of `slot` were evaluated.
  mutating func append(_ tokens: ArraySlice<Token>, to slot: Int) {
    slots[slot].tokens.append(contentsOf: tokens)
  }

  /// The slot's KV could not be kept that long, or is lost altogether.
  mutating func truncate(_ slot: Int, to count: Int) {
    guard count < slots[slot].tokens.count else { return }
    slots[slot].tokens.removeSubrange(max(0, count)...)
  }

  /// The caller is done with `sequence`; its tokens stay as a prefix for others until the slot is needed.
  mutating func release(_ sequence: UInt64) {
    guard let slot = slotOf.removeValue(forKey: sequence) else { return }
    slots[slot].owner = nil
  }

  /// For tests: every relation that must hold between the fields.
  func checkInvariants() -> Bool {
    for (sequence, slot) in slotOf where slots[slot].owner != sequence { return false }
    for (index, slot) in slots.enumerated() {
      if let owner = slot.owner, slotOf[owner] != index { return false }
    }
    return pins.values.allSatisfy { $0 > 0 }
  }
}

/// Number of leading tokens that `a` and `b` share.
func commonPrefix(_ a: [Token], _ b: [Token]) -> Int {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeBufferPointer { b in
      let count = min(a.count, b.count)
      var index = 0
      while index < count, a[index] == b[index] { index += 1 }
      return index
    }
  }
}
