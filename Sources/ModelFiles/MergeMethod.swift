internal import Core

/// How the differences between experts and the base that they were trained from become one model.
public struct MergeMethod: Sendable, Hashable, CustomStringConvertible {
  enum Kind: Sendable, Hashable {
    case taskArithmetic
    case dare(drop: Double, seed: UInt64)
    case ties(density: Double)
  }

  let kind: Kind

  /// base + λ · Σ (expert − base). Ilharco et al., *Editing Models with Task Arithmetic*, arXiv 2212.04089.
  public static let taskArithmetic = MergeMethod(kind: .taskArithmetic)

  /// Task arithmetic in which each element of each difference is dropped with probability `drop` and the others are
  /// multiplied by 1 / (1 − drop). Yu et al., *Language Models are Super Mario*, arXiv 2311.03099.
  ///
  /// - Parameter seed: with the expert's place in the list and the tensor's name it decides which are dropped.
  public static func dare(drop: Double, seed: UInt64) -> MergeMethod {
    MergeMethod(kind: .dare(drop: drop, seed: seed))
  }

  /// Of each difference the share `density` of each tensor's elements that are largest in magnitude is kept; for each
  /// element the sign of their sum is elected (plus if it is zero), and those of that sign are averaged. Yadav et al.,
  /// *TIES-Merging*, arXiv 2306.01708; trimming for each tensor, as mergekit does, not over the whole model.
  public static func ties(density: Double) -> MergeMethod { MergeMethod(kind: .ties(density: density)) }

  public var description: String {
    switch kind {
    case .taskArithmetic: "task arithmetic"
    case .dare(let drop, let seed): "DARE, drop \(drop), seed \(seed)"
    case .ties(let density): "TIES, density \(density)"
    }
  }

  /// Throws `.usage` naming the number that is out of range.
  func validate() throws(FusionRouteError) {
    switch kind {
    case .taskArithmetic: break
    case .dare(let drop, _):
      guard drop >= 0, drop < 1 else {
        throw .usage("the share that DARE drops must be from 0 to below 1, not \(drop)")
      }
    case .ties(let density):
      guard density > 0, density <= 1 else {
        throw .usage("the density of TIES must be above 0 and at most 1, not \(density)")
      }
    }
  }
}

/// Which elements of a difference DARE drops: a function of a counter, so that neither order nor threads matter.
struct DropMask {
  private static let step: UInt64 = 0x9E37_79B9_7F4A_7C15

  private let stream: UInt64
  /// Of 2⁵³.
  private let dropped: UInt64
  let scale: Float

  /// - Parameters:
  ///   - drop: probability, 0 ..< 1.
  ///   - expert: its place in the list.
  init(drop: Double, seed: UInt64, expert: Int, tensor: String) {
    stream = ModelMaker.noiseStream(seed: SplitMix64.mix(seed &+ UInt64(expert) &* Self.step), tensor: tensor)
    dropped = UInt64(drop * 0x1p53)
    scale = Float(1 / (1 - drop))
  }

  func keeps(_ index: Int) -> Bool {
    SplitMix64.mix(stream &+ (UInt64(index) &+ 1) &* Self.step) >> 11 >= dropped
  }

  /// Drops and rescales elements `first…` of a tensor.
  func apply(to values: UnsafeMutableBufferPointer<Float>, first: Int) {
    for index in values.indices { values[index] = keeps(first + index) ? values[index] * scale : 0 }
  }
}

/// Which elements of a difference TIES keeps: so many of the largest magnitude, and of equal ones those that come first.
///
/// Found by two passes over the values, whose magnitudes order like the bits of their floats.
struct MagnitudeTrim {
  private static let lowBits = 15
  private static let magnitude: UInt32 = 0x7FFF_FFFF

  /// The smallest magnitude that is kept, as bits, and how many of exactly it are.
  private let threshold: UInt32
  private var left: Int

  /// - Parameters:
  ///   - count: elements of the tensor.
  ///   - values: calls its argument with all of them, in pieces; called twice.
  init(density: Double, of count: Int, _ values: ((UnsafeBufferPointer<Float>) -> Void) throws -> Void) throws {
    let kept = min(count, max(1, Int(density * Double(count))))
    var counts = [Int](repeating: 0, count: 1 << 16)
    try values { piece in
      for value in piece { counts[Int(value.bitPattern & Self.magnitude) >> Self.lowBits] += 1 }
    }
    let high = Self.last(in: counts, kept)
    counts = [Int](repeating: 0, count: 1 << Self.lowBits)
    try values { piece in
      for value in piece {
        let bits = Int(value.bitPattern & Self.magnitude)
        if bits >> Self.lowBits == high.bin { counts[bits & (1 << Self.lowBits - 1)] += 1 }
      }
    }
    let low = Self.last(in: counts, high.kept)
    threshold = UInt32(high.bin << Self.lowBits | low.bin)
    left = low.kept
  }

  /// From the top: the bin in which the last one kept lies, and how many of that bin are kept.
  private static func last(in counts: [Int], _ wanted: Int) -> (bin: Int, kept: Int) {
    var wanted = wanted
    for bin in counts.indices.reversed() {
      if counts[bin] >= wanted { return (bin, wanted) }
      wanted -= counts[bin]
    }
    return (0, counts.first ?? 0)
  }

  /// Sets the other elements to zero; called with the pieces in their order.
  mutating func apply(to values: UnsafeMutableBufferPointer<Float>) {
    for index in values.indices {
      let bits = values[index].bitPattern & Self.magnitude
      if bits > threshold { continue }
      if bits == threshold, left > 0 { left -= 1 } else { values[index] = 0 }
    }
  }
}

/// Sums of the elements of both signs, from which the elected mean follows: memory does not grow with the experts.
struct SignElection {
  private var positive: [Float]
  private var negative: [Float]
  private var positives: [UInt16]
  private var negatives: [UInt16]

  init(count: Int) {
    positive = [Float](repeating: 0, count: count)
    negative = positive
    positives = [UInt16](repeating: 0, count: count)
    negatives = positives
  }

  mutating func add(_ values: UnsafeMutableBufferPointer<Float>) {
    for (index, value) in values.enumerated() {
      if value > 0 {
        positive[index] += value
        positives[index] += 1
      } else if value < 0 {
        negative[index] += value
        negatives[index] += 1
      }
    }
  }

  func mean(into out: UnsafeMutableBufferPointer<Float>) {
    for index in out.indices {
      let isPositive = positive[index] + negative[index] >= 0
      let (sum, count) = isPositive ? (positive[index], positives[index]) : (negative[index], negatives[index])
      out[index] = sum / Float(max(1, count))
    }
  }
}
