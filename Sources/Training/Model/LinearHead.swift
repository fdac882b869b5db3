internal import Core
internal import Foundation

/// A linear map of the hidden state: W·h + b.
public struct LinearHead: Sendable, Equatable {
  /// [rows][width], row-major.
  public var weight: [Float]
  /// [rows].
  public var bias: [Float]

  public init(weight: [Float], bias: [Float]) {
    self.weight = weight
    self.bias = bias
  }
}

extension TrainingEngine {
  /// The head as a map of the hidden state that the output matrix multiplies.
  public var head: LinearHead {
    guard let tensors = trainables.head, let weight = trainables.parameter(Trainables.headName),
      let bias = trainables.parameter(Trainables.headBiasName)
    else { return LinearHead(weight: [], bias: []) }
    let rows = values(of: weight).map { $0 / tensors.scale }
    let offsets = values(of: bias).enumerated().map { index, value in
      Float(Double(value) - Self.product(rows, row: index, with: tensors.means, width: shape.width))
    }
    return LinearHead(weight: rows, bias: offsets)
  }

  private static func product(
    _ rows: [Float], row: Int, with vector: UnsafeMutablePointer<Float>, width: Int
  ) -> Double {
    (0..<width).reduce(0) { $0 + Double(rows[row * width + $1]) * Double(vector[$1]) }
  }

  /// Starts the head from `head`. Throws `.badInput` if it does not fit.
  public func setHead(_ head: LinearHead) throws {
    guard let tensors = trainables.head, let weight = trainables.parameter(Trainables.headName),
      let bias = trainables.parameter(Trainables.headBiasName), head.weight.count == weight.count,
      head.bias.count == bias.count
    else {
      throw FusionRouteError.badInput(
        "a head of \(head.weight.count) numbers does not fit \(headRows) rows of width \(shape.width)")
    }
    for index in 0..<weight.count { weight.values[index] = head.weight[index] * tensors.scale }
    for index in 0..<bias.count {
      bias.values[index] = Float(
        Double(head.bias[index])
          + Self.product(head.weight, row: index, with: tensors.means, width: shape.width))
    }
  }

  /// Lets the head see hidden states minus their mean over `sequences`, scaled to about 1, from now on. Call before
  /// ``setHead(_:)`` and before the first pass that learns.
  ///
  /// - Parameter shouldStop: is asked before each pass; when it says so, nothing is changed and `.interrupted` thrown.
  public func centreHead(
    on sequences: [TrainingSequence], sequencesPerPass: Int, shouldStop: () -> Bool = { false }
  ) throws {
    guard trainables.head != nil else { return }
    var sums = [Double](repeating: 0, count: shape.width)
    var squares = 0.0
    var count = 0
    for start in stride(from: 0, to: sequences.count, by: max(1, sequencesPerPass)) {
      let batch = PassBatch(Array(sequences[start..<min(sequences.count, start + max(1, sequencesPerPass))]))
      guard batch.rowCount > 0 else { continue }
      guard !shouldStop() else { throw FusionRouteError.interrupted("interrupted before training began") }
      _ = try forward(batch)
      let states = hiddenStates()
      for (index, value) in states.enumerated() {
        sums[index % shape.width] += Double(value)
        squares += Double(value) * Double(value)
      }
      count += batch.rowCount
    }
    guard count > 0 else { return }
    let mean = sums.map { $0 / Double(count) }
    let variance = squares / Double(count * shape.width) - mean.reduce(0) { $0 + $1 * $1 } / Double(shape.width)
    let deviation = max(variance, 1e-12).squareRoot()
    setCentre(mean: mean.map { Float($0) }, scale: Float(exp2(log2(deviation).rounded())))
  }
}
