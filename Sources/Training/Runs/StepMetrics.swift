internal import Core
internal import Foundation

/// What happened in a step or an evaluation, as sums, so that they can be added up.
public struct StepMetrics: Sendable, Equatable {
  // Samples.
  public var responseTokens = 0
  public var languageLoss = 0.0
  /// Judged tokens that the router alone would have chosen.
  public var correct = 0
  // Routing, over S.
  public var disagreements = 0
  public var routingLoss = 0.0
  public var routingFloor = 0.0
  public var routedRight = 0
  /// Entropy of softmax(w), over all response tokens.
  public var entropy = 0.0
  /// Response tokens per selected expert.
  public var selected: [Int] = []
  /// Over S: [selected expert][best expert].
  public var confusion: [Int] = []
  // Pairs.
  public var pairs = 0
  public var preferenceLoss = 0.0
  public var marginSum = 0.0
  public var preferred = 0
  /// Pairs with a task, by that.
  public var byTask: [String: TaskPairs] = [:]
  public var biases: [Double] = []
  /// Largest |ℓ|.
  public var largestMargin = 0.0
  /// Pairs with σ(−ℓ − bias) < 0.05, which teach nothing any more.
  public var settled = 0
  /// Positions of pairs, and of them those whose selected expert is another than at the start.
  public var pairPositions = 0
  public var reselected = 0
  /// Tokens that passes computed, without padding.
  public var tokens = 0
  /// Tokens that passes computed, with padding.
  public var paddedTokens = 0

  /// Pairs of one task, and those of them in the right order.
  public struct TaskPairs: Sendable, Equatable {
    public var pairs = 0
    public var preferred = 0
  }

  public init() {}

  /// Counts a pair.
  mutating func add(task: String?, isPreferred: Bool) {
    pairs += 1
    if isPreferred { preferred += 1 }
    guard let task else { return }
    byTask[task, default: .init()].pairs += 1
    if isPreferred { byTask[task, default: .init()].preferred += 1 }
  }

  public static func += (a: inout StepMetrics, b: StepMetrics) {
    a.responseTokens += b.responseTokens
    a.languageLoss += b.languageLoss
    a.correct += b.correct
    a.disagreements += b.disagreements
    a.routingLoss += b.routingLoss
    a.routingFloor += b.routingFloor
    a.routedRight += b.routedRight
    a.entropy += b.entropy
    a.selected = added(a.selected, b.selected)
    a.confusion = added(a.confusion, b.confusion)
    a.pairs += b.pairs
    a.preferenceLoss += b.preferenceLoss
    a.marginSum += b.marginSum
    a.preferred += b.preferred
    a.byTask.merge(b.byTask) { .init(pairs: $0.pairs + $1.pairs, preferred: $0.preferred + $1.preferred) }
    a.biases += b.biases
    a.largestMargin = max(a.largestMargin, b.largestMargin)
    a.settled += b.settled
    a.pairPositions += b.pairPositions
    a.reselected += b.reselected
    a.tokens += b.tokens
    a.paddedTokens += b.paddedTokens
  }

  private static func added(_ a: [Int], _ b: [Int]) -> [Int] {
    if a.isEmpty { return b }
    if b.isEmpty { return a }
    return zip(a, b).map { $0 + $1 }
  }

  private func mean(_ sum: Double, _ count: Int) -> Double? { count > 0 ? sum / Double(count) : nil }

  /// L_LM: the mean over all response tokens.
  public var meanLanguageLoss: Double? { mean(languageLoss, responseTokens) }
  /// L_route: the mean over S.
  public var meanRoutingLoss: Double? { mean(routingLoss, disagreements) }
  /// What L_route would be if the best expert had all the weight at every position of S.
  public var meanRoutingFloor: Double? { mean(routingFloor, disagreements) }
  /// Share of S where the head picks the expert that gives the true token the highest probability.
  public var routingAccuracy: Double? { mean(Double(routedRight), disagreements) }
  public var meanEntropy: Double? { selected.isEmpty ? nil : mean(entropy, responseTokens) }
  /// Share of computed tokens that fill up shorter sequences.
  public var padding: Double? { mean(Double(paddedTokens - tokens), paddedTokens) }
  public var tokenAccuracy: Double? { mean(Double(correct), responseTokens) }
  public var meanPreferenceLoss: Double? { mean(preferenceLoss, pairs) }
  /// Share of pairs with ℓ + bias > 0.
  public var preferenceAccuracy: Double? { mean(Double(preferred), pairs) }

  /// More values of `task` than these tell records apart, not kinds of them.
  private static let maximumTasks = 20

  /// Shares of pairs in the right order, all and by task, for people: `92 % of 38 pairs (code 88 % of 8, math 93 % of 30)`.
  public var orderedPairs: String? {
    guard pairs > 0 else { return nil }
    func share(_ preferred: Int, _ pairs: Int) -> String {
      "\(Int((100 * Double(preferred) / Double(pairs)).rounded())) % of \(pairs)"
    }
    let all = "\(share(preferred, pairs)) pairs"
    guard (1...Self.maximumTasks).contains(byTask.count) else { return all }
    let tasks = byTask.sorted { $0.key < $1.key }.map { "\($0.key) \(share($0.value.preferred, $0.value.pairs))" }
    return "\(all) (\(tasks.joined(separator: ", ")))"
  }

  /// Quantiles of the bias at 0, 25, 50, 75 and 100 %.
  public var biasQuantiles: [Double]? {
    guard !biases.isEmpty else { return nil }
    let sorted = biases.sorted()
    return (0...4).map { sorted[$0 * (sorted.count - 1) / 4] }
  }

  /// The loss that is descended.
  public func total(_ objective: TrainingObjective) -> Double {
    let supervised = (meanLanguageLoss ?? 0) + objective.routingWeight * (meanRoutingLoss ?? 0)
    return objective.sampleWeight * supervised + (meanPreferenceLoss ?? 0)
  }

  /// Members of a line of the log.
  func members(_ objective: TrainingObjective) -> [(String, JSONValue)] {
    var list: [(String, JSONValue)] = [("loss", .number(total(objective)))]
    func add(_ key: String, _ value: Double?) { if let value { list.append((key, .number(value))) } }
    add("lm", meanLanguageLoss)
    add("token_accuracy", tokenAccuracy)
    if responseTokens > 0 { list.append(("response_tokens", .integer(Int64(responseTokens)))) }
    add("route", meanRoutingLoss)
    add("route_floor", meanRoutingFloor)
    add("routing_accuracy", routingAccuracy)
    add("routing_entropy", meanEntropy)
    if !selected.isEmpty {
      list.append(("disagreements", .integer(Int64(disagreements))))
      list.append(("selected", .array(selected.map { .integer(Int64($0)) })))
      list.append(("confusion", .array(confusion.map { .integer(Int64($0)) })))
    }
    if pairs > 0 {
      list.append(("pairs", .integer(Int64(pairs))))
      add("preference", meanPreferenceLoss)
      add("preference_accuracy", preferenceAccuracy)
      if (1...Self.maximumTasks).contains(byTask.count) {
        let counts = byTask.sorted { $0.key < $1.key }.map { name, counts -> (key: String, value: JSONValue) in
          let values = [("pairs", counts.pairs), ("preferred", counts.preferred)]
          return (name, .object(JSONObject(members: values.map { ($0, .integer(Int64($1))) })))
        }
        list.append(("pairs_by_task", .object(JSONObject(members: counts))))
      }
      add("margin", mean(marginSum, pairs))
      add("largest_margin", largestMargin)
      add("settled", mean(Double(settled), pairs))
      if let biasQuantiles { list.append(("bias_quantiles", .array(biasQuantiles.map { .number($0) }))) }
      if pairPositions > 0 { add("reselected", mean(Double(reselected), pairPositions)) }
    }
    add("padding", padding)
    return list
  }
}
