internal import Foundation

/// −log σ(ℓ + bias) of one pair: DPO (arXiv 2305.18290) with bias 0, CDPO (arXiv 2601.05106, stage 2) with the bias of the
/// selected experts, through which no gradient flows.
public struct PreferenceLoss: Sendable, Equatable {
  public var beta: Double

  public init(beta: Double = 0.1) { self.beta = beta }

  /// Sums of log-probabilities over a response's tokens.
  public struct Sums: Sendable, Equatable {
    public var policy: Double
    public var reference: Double

    public init(policy: Double, reference: Double) {
      self.policy = policy
      self.reference = reference
    }
  }

  public struct Result: Sendable, Equatable {
    public var loss: Double
    /// ℓ = β (log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l)).
    public var margin: Double
    public var bias: Double
    /// ∂loss/∂ log π(y_t) of every chosen token; of every rejected token it is the opposite.
    public var slope: Double
    /// σ(−ℓ − bias): how strongly the pair still teaches.
    public var weight: Double
  }

  public func evaluate(chosen: Sums, rejected: Sums, bias: Double = 0) -> Result {
    let margin = beta * ((chosen.policy - chosen.reference) - (rejected.policy - rejected.reference))
    let z = margin + bias
    let weight = 1 / (1 + exp(z))
    // softplus(−z), without overflow.
    let loss = max(-z, 0) + log1p(exp(-abs(z)))
    return Result(loss: loss, margin: margin, bias: bias, slope: -beta * weight, weight: weight)
  }

  /// β (Σ log π_{i*}(y_w,t) − Σ log π_{i*}(y_l,t)), the selected expert's at each position.
  ///
  /// - Parameters:
  ///   - chosen, rejected: the experts' log-probabilities, [positions][experts].
  ///   - routing: the head's outputs of both, [positions][experts].
  ///   - clamp: as in ``RoutingLoss/clamp``.
  public func bias(
    chosen: [Float], chosenRouting: ArraySlice<Float>, rejected: [Float], rejectedRouting: ArraySlice<Float>,
    experts: Int, clamp: Float? = nil
  ) -> Double {
    func sum(_ opinions: [Float], _ routing: ArraySlice<Float>) -> Double {
      stride(from: 0, to: opinions.count, by: experts).reduce(0) { sum, at in
        let weights = routing[(routing.startIndex + at)..<(routing.startIndex + at + experts)]
        let opinion = opinions[at + indexOfLargest(weights)]
        return sum + Double(max(opinion, clamp ?? -.infinity))
      }
    }
    return beta * (sum(chosen, chosenRouting) - sum(rejected, rejectedRouting))
  }
}
