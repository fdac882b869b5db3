/// Step 2 of the method: the expert with the largest routing weight.
public enum ExpertSelection {
  /// Index of the largest weight, the lowest on ties; nil if there is none or one is NaN.
  public static func select(_ weights: [Float]) -> Int? {
    guard var best = weights.indices.first else { return nil }
    for i in weights.indices {
      if weights[i].isNaN { return nil }
      if weights[i] > weights[best] { best = i }
    }
    return best
  }
}
