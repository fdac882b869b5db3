internal import Core

/// top-k, top-p and min-p of a request, as far as they do anything.
struct TokenFilters: Sendable {
  /// nil: off.
  let topK: Int?
  let topP: Double?
  /// T·log(min-p): how far below the best a token may score.
  let reach: Double?
  let inverseTemperature: Double

  init(_ parameters: SamplingParameters, vocabulary: Int) {
    // At T = 0 the argmax is in every filter's set.
    let active = parameters.temperature > 0
    topK = active && parameters.topK > 0 && parameters.topK < vocabulary ? parameters.topK : nil
    // Not 0, so that the best token, before which there is no mass, stays.
    topP = active && parameters.topP < 1 ? max(Double(parameters.topP), 1e-30) : nil
    reach =
      active && parameters.minP > 0
      ? Double(parameters.temperature) * RowKernels.best.log(Double(parameters.minP)) : nil
    inverseTemperature = active ? 1 / Double(parameters.temperature) : 1
  }

  var isEmpty: Bool { topK == nil && topP == nil && reach == nil }

  /// The least clean score that min-p keeps when the best is `best`.
  func threshold(best: Float) -> Double {
    reach.map { Double(best) + $0 } ?? -.infinity
  }

  /// Probability of a clean score relative to that of `reference`.
  func masses(_ scores: [Float], reference: Float) -> [Double] {
    RowKernels.best.exp(scores.map { (Double($0) - Double(reference)) * inverseTemperature })
  }
}
