internal import Core
internal import TrainingKernels

/// AdamW with decoupled weight decay (Loshchilov, Hutter, arXiv 1711.05101).
public struct AdamWOptions: Sendable, Equatable {
  /// Of the matrices; norms and heads have none.
  public var weightDecay: Float = 0.01
  public var beta1: Float = 0.9
  public var beta2: Float = 0.999
  public var epsilon: Float = 1e-8
  /// Largest norm of the gradient of all parameters together; larger ones are scaled down. Infinite: no clipping.
  public var clipNorm: Float = 1

  public init() {}

  public func validate() throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      guard condition else { throw FusionRouteError.usage(message()) }
    }
    try require(
      weightDecay.isFinite && weightDecay >= 0, "the weight decay must be a number from 0, not \(weightDecay)")
    for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
      try require(beta >= 0 && beta < 1, "\(name) must be from 0 to below 1, not \(beta)")
    }
    try require(epsilon.isFinite && epsilon > 0, "epsilon must be a positive number, not \(epsilon)")
    try require(clipNorm > 0, "the clipping norm must be positive, not \(clipNorm)")
  }
}

/// What one step of the optimiser changes.
public struct UpdateRates: Sendable, Equatable {
  /// Learning rate of the model's parameters.
  public var model: Float
  /// Learning rate of the head; nil leaves the head and its moments as they are, which a zero gradient would not
  /// (momentum would move it).
  public var head: Float?

  public init(model: Float, head: Float?) {
    self.model = model
    self.head = head
  }
}

extension TrainingEngine {
  /// Norm of the gradient of what `rates` updates. A fixed order of summation: the same on any number of threads.
  func gradientNorm(withHead: Bool) -> Double {
    var sum = 0.0
    for parameter in trainables.parameters where parameter.kind != .head || withHead {
      sum += gradientSquares(of: parameter)
    }
    return sum.squareRoot()
  }

  private static let chunk = 1 << 16

  /// Sum of the squares of one parameter's gradient.
  func gradientSquares(of parameter: Parameter) -> Double {
    stride(from: 0, to: parameter.count, by: Self.chunk).reduce(0) { sum, first in
      sum + fr_sum_of_squares(parameter.gradients + first, Int64(min(Self.chunk, parameter.count - first)))
    }
  }

  /// One AdamW step on the gradients that backward passes added up. Returns their norm before clipping.
  ///
  /// - Parameters:
  ///   - steps: how often the model's parameters and the head have been updated before: they are counted apart, since
  ///     the head rests in some steps.
  /// - Throws: `.badInput` if the gradient is not finite; nothing is changed then.
  func update(_ options: AdamWOptions, rates: UpdateRates, steps: (model: Int, head: Int)) throws -> Double {
    let norm = gradientNorm(withHead: rates.head != nil)
    guard norm.isFinite else {
      throw FusionRouteError.badInput("the gradient is not a finite number: use a lower learning rate")
    }
    let scale = norm > Double(options.clipNorm) ? Float(Double(options.clipNorm) / norm) : 1
    for parameter in trainables.parameters {
      let isHead = parameter.kind == .head
      guard let rate = isHead ? rates.head : rates.model else { continue }
      let step = (isHead ? steps.head : steps.model) + 1
      let decay = parameter.kind == .matrix ? options.weightDecay : 0
      let corrections = (AdamWOptions.correction(options.beta1, step), AdamWOptions.correction(options.beta2, step))
      let (values, gradients) = (SendablePointer(parameter.values), SendablePointer(parameter.gradients))
      let (moment1, moment2) = (SendablePointer(parameter.moment1), SendablePointer(parameter.moment2))
      Parts.forEach(of: parameter.count, parts: parameter.count > Self.chunk ? threads : 1) { part in
        guard let values = values.base, let gradients = gradients.base, let moment1 = moment1.base,
          let moment2 = moment2.base
        else { return }
        let first = part.lowerBound
        fr_adamw(
          values + first, gradients + first, moment1 + first, moment2 + first, Int64(part.count), scale, rate, decay,
          options.beta1, options.beta2, options.epsilon, corrections.0, corrections.1)
      }
    }
    return norm
  }
}

extension AdamWOptions {
  /// 1 − βᵗ, what a moment of decay β lacks after t steps from zero. βᵗ in double, by squaring.
  static func correction(_ base: Float, _ exponent: Int) -> Float {
    var (result, factor, left) = (1.0, Double(base), exponent)
    while left > 0 {
      if left & 1 == 1 { result *= factor }
      factor *= factor
      left >>= 1
    }
    return 1 - Float(result)
  }
}
