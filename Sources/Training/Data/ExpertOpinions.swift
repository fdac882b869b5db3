public import Core

/// What the experts think of a sequence's judged tokens.
public struct ExpertOpinions: Sendable, Equatable {
  public let experts: Int
  /// log π_i(true token), [positions][experts].
  public var logProbabilities: [Float]
  /// argmax π_i, [positions][experts].
  public var argmaxes: [Token]

  public init(experts: Int, logProbabilities: [Float], argmaxes: [Token]) {
    self.experts = experts
    self.logProbabilities = logProbabilities
    self.argmaxes = argmaxes
  }

  /// From each expert's scores, which have one entry per judged position.
  public init(_ scores: [ExpertScores]) {
    experts = scores.count
    let positions = scores.first?.logProbabilities.count ?? 0
    logProbabilities = (0..<positions).flatMap { position in scores.map { $0.logProbabilities[position] } }
    argmaxes = (0..<positions).flatMap { position in scores.map { $0.argmaxes[position] } }
  }

  public var positions: Int { experts > 0 ? logProbabilities.count / experts : 0 }

  /// The experts' log-probabilities at one position.
  public subscript(position: Int) -> ArraySlice<Float> {
    logProbabilities[position * experts..<(position + 1) * experts]
  }

  /// Whether the experts' predictions are not all the same there: a position of S, which teaches routing.
  public func disagree(at position: Int) -> Bool {
    let predictions = argmaxes[position * experts..<(position + 1) * experts]
    return predictions.contains { $0 != predictions.first }
  }
}

/// One expert's scores of a sequence's judged tokens.
public struct ExpertScores: Sendable, Equatable {
  public var logProbabilities: [Float]
  public var argmaxes: [Token]

  public init(logProbabilities: [Float], argmaxes: [Token]) {
    self.logProbabilities = logProbabilities
    self.argmaxes = argmaxes
  }
}
