public import Core

/// The coordinator's record of what one replica holds of one sequence.
///
/// It may be wrong (a message was lost, the worker evicted the sequence): the hash in each step is what makes a wrong
/// record cost a resend and never a wrong logit.
public struct PrefixLedger: Sendable, Equatable {
  public private(set) var epoch: UInt32 = 0
  /// Tokens of the chain that the replica is believed to hold.
  public private(set) var held = 0

  public init() {}

  /// The step that brings the replica to the first `length` tokens of `chain`.
  ///
  /// What it holds beyond `length` is left alone: the worker keeps it as long as the tokens agree.
  public mutating func plan(_ chain: TokenChain, through length: Int) -> PrefixStep {
    let end = min(max(0, length), chain.count)
    let base = min(held, end)
    held = max(held, end)
    return PrefixStep(
      epoch: epoch, baseLength: base, baseHash: chain.hash(at: base) ?? .empty, append: Array(chain.tokens[base..<end]))
  }

  /// The chain was cut to `length` tokens; steps under way are void.
  public mutating func rollBack(to length: Int) {
    held = min(held, max(0, length))
    epoch &+= 1
  }

  /// The worker lacked the base: resume from what it has, if that is a prefix of the chain, else from nothing.
  public mutating func missing(_ have: HeldPrefix, chain: TokenChain) {
    held = chain.hash(at: have.length) == have.hash ? have.length : 0
    epoch &+= 1
  }

  /// The sequence moves to another replica, which holds nothing of it.
  public mutating func moved() {
    held = 0
    epoch &+= 1
  }

  /// Whether a reply that carries `epoch` still counts.
  public func accepts(epoch: UInt32) -> Bool { epoch == self.epoch }
}
