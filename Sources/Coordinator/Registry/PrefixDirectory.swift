internal import Core

/// A token prefix as placement sees it: a name for each whole block of tokens, which stands for all tokens before it too.
struct PrefixBlocks: Sendable, Equatable {
  static let tokensPerBlock = 32

  /// Of all tokens, whole blocks or not.
  let tokens: Int
  let names: [UInt64]

  static let none = PrefixBlocks(tokens: 0, names: [])

  init(tokens: Int, names: [UInt64]) {
    self.tokens = tokens
    self.names = names
  }

  init(_ chain: TokenChain) {
    let ends = stride(from: Self.tokensPerBlock, through: chain.count, by: Self.tokensPerBlock)
    // Eight bytes of the chained hash: a clash would cost speed only.
    self.init(
      tokens: chain.count,
      names: ends.compactMap { chain.hash(at: $0)?.digest.withUnsafeBytes { $0.load(as: UInt64.self) } })
  }
}

/// Which replica holds which prefixes: those of its running sequences, and of ended ones as long as its cache has likely
/// kept them.
///
/// It may be wrong, since a worker decides by itself what it keeps: then a prompt is read once more than needed.
struct PrefixDirectory: Sendable {
  private struct Shelf {
    /// Sequences, the one used last at the end; as many as the worker has slots.
    var order: [UInt64] = []
    var names: [UInt64: [UInt64]] = [:]
    /// How many of the sequences begin with a block.
    var counts: [UInt64: Int] = [:]

    mutating func drop(_ sequence: UInt64) {
      order.removeAll { $0 == sequence }
      for name in names.removeValue(forKey: sequence) ?? [] {
        let left = counts[name, default: 0] - 1
        counts[name] = left > 0 ? left : nil
      }
    }

    mutating func put(_ sequence: UInt64, _ blocks: [UInt64]) {
      drop(sequence)
      order.append(sequence)
      names[sequence] = blocks
      for name in blocks { counts[name, default: 0] += 1 }
    }
  }

  private var shelves: [ReplicaID: Shelf] = [:]

  /// The replica has just read this prefix of the sequence, and has room for so many sequences.
  mutating func note(_ sequence: UInt64, _ blocks: PrefixBlocks, at replica: ReplicaID, slots: Int) {
    shelves[replica, default: Shelf()].put(sequence, blocks.names)
    while let oldest = shelves[replica]?.order.first, shelves[replica]?.order.count ?? 0 > max(1, slots) {
      shelves[replica]?.drop(oldest)
    }
  }

  /// Leading tokens of the prefix that the replica holds, in whole blocks.
  func held(_ blocks: PrefixBlocks, at replica: ReplicaID) -> Int {
    guard let shelf = shelves[replica] else { return 0 }
    // Names are of whole prefixes: where one is held, all before it are.
    var (low, high) = (0, blocks.names.count)
    while low < high {
      let middle = (low + high + 1) / 2
      if shelf.counts[blocks.names[middle - 1]] != nil { low = middle } else { high = middle - 1 }
    }
    return low * PrefixBlocks.tokensPerBlock
  }

  mutating func remove(_ replica: ReplicaID) { shelves[replica] = nil }
}
