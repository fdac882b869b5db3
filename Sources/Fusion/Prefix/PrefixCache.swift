public import Core

/// The worker's record of the tokens of every sequence it serves, and the judge of each step.
///
/// A sequence is only ever addressed by content: the chained hash at the step's base must be the one held, and what is
/// appended is compared with what is there. So a step that was lost, doubled, reordered or overtaken by a roll-back is
/// answered with `missing` or `stale`, or it is computed on exactly the prefix it names; it never yields the logits of
/// another prefix.
public struct PrefixCache<Key: Hashable & Sendable>: Sendable {
  public enum Answer: Sendable, Equatable {
    /// Evaluate (or look up) these tokens: base and appended ones.
    case evaluate([Token], hash: PrefixHash)
    /// The base is not held here.
    case missing(HeldPrefix)
    /// The step belongs to an epoch that has been given up.
    case stale
    /// The prefix would be longer than the context.
    case tooLong(length: Int)
  }

  private struct Entry {
    var chain: TokenChain
    var epoch: UInt32
    var lastUse: UInt64
  }

  private var entries: [Key: Entry] = [:]
  private var clock: UInt64 = 0
  /// Sequences remembered at most; the least recently used goes first.
  public let capacity: Int
  /// Tokens per sequence at most.
  public let context: Int

  public init(capacity: Int, context: Int) {
    self.capacity = max(1, capacity)
    self.context = context
  }

  public var count: Int { entries.count }

  public var keys: [Key] { Array(entries.keys) }

  /// Tokens held of a sequence, 0 for an unknown one.
  public func length(of key: Key) -> Int { entries[key]?.chain.count ?? 0 }

  /// Judges a step and, when its base is held, takes its tokens up.
  public mutating func receive(_ step: PrefixStep, for key: Key) -> Answer {
    clock &+= 1
    guard step.length <= context else { return .tooLong(length: step.length) }
    var entry = entries[key] ?? Entry(chain: TokenChain(), epoch: step.epoch, lastUse: clock)
    guard step.epoch >= entry.epoch else { return .stale }
    entry.epoch = step.epoch
    entry.lastUse = clock
    defer {
      entries[key] = entry
      evictIfNeeded()
    }
    guard entry.chain.hash(at: step.baseLength) == step.baseHash else {
      return .missing(HeldPrefix(length: entry.chain.count, hash: entry.chain.hash(at: entry.chain.count) ?? .empty))
    }
    // Compare before cutting: a doubled or late step must not throw away what later steps brought.
    var position = step.baseLength
    for token in step.append {
      if position < entry.chain.count {
        if entry.chain.tokens[position] != token { entry.chain.truncate(to: position) }
      }
      if position >= entry.chain.count { entry.chain.append(token) }
      position += 1
    }
    let tokens = Array(entry.chain.tokens[..<step.length])
    return .evaluate(tokens, hash: entry.chain.hash(at: step.length) ?? .empty)
  }

  /// Hash of the first `length` tokens held of a sequence.
  public func hash(of key: Key, at length: Int) -> PrefixHash? { entries[key]?.chain.hash(at: length) }

  public mutating func release(_ key: Key) { entries[key] = nil }

  public mutating func removeAll(where condition: (Key) -> Bool) {
    entries = entries.filter { !condition($0.key) }
  }

  private mutating func evictIfNeeded() {
    while entries.count > capacity, let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse })?.key {
      entries[oldest] = nil
    }
  }
}
