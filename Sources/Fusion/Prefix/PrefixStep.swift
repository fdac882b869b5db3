public import Core

/// What one step says about a sequence, the transport left aside: on exactly this base, append these tokens.
public struct PrefixStep: Sendable, Equatable {
  /// Rises with every roll-back and every resend; replies of an older epoch are void.
  public var epoch: UInt32
  /// Tokens the worker must already hold.
  public var baseLength: Int
  /// Chained hash of those tokens.
  public var baseHash: PrefixHash
  public var append: [Token]

  public init(epoch: UInt32, baseLength: Int, baseHash: PrefixHash, append: [Token]) {
    self.epoch = epoch
    self.baseLength = baseLength
    self.baseHash = baseHash
    self.append = append
  }

  /// Length of the prefix the step is about.
  public var length: Int { baseLength + append.count }
}

/// A worker's answer when it lacks a step's base: what it does hold.
public struct HeldPrefix: Sendable, Equatable {
  public var length: Int
  public var hash: PrefixHash

  public init(length: Int, hash: PrefixHash) {
    self.length = length
    self.hash = hash
  }

  public static let nothing = HeldPrefix(length: 0, hash: .empty)
}
