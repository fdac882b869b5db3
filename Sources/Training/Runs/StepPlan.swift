internal import Core

/// An example of the data by its index.
enum Item: Hashable, Sendable {
  case sample(Int)
  case pair(Int)
}

/// The steps of a run: of one kind of examples or of two shuffled together, or with so many of another kind beside them in
/// every step.
struct StepStream: Sendable {
  private let main: StepPlan
  private let beside: StepPlan?

  init(_ main: StepPlan, beside: StepPlan? = nil) {
    self.main = main
    self.beside = beside
  }

  /// Steps of one pass over the main examples.
  var stepsPerEpoch: Int { main.stepsPerEpoch }

  /// The steps of that pass. What is beside goes round at its own pace.
  func epoch(_ number: Int) -> [[Item]] {
    let steps = main.epoch(number)
    guard let beside else { return steps }
    var round = (number: -1, steps: [[Item]]())
    return steps.enumerated().map { index, items in
      let step = number * main.stepsPerEpoch + index
      if step / beside.stepsPerEpoch != round.number {
        round.number = step / beside.stepsPerEpoch
        round.steps = beside.epoch(round.number)
      }
      return items + round.steps[step % beside.stepsPerEpoch]
    }
  }
}

/// Which examples each step sees: a function of the counts, lengths and the seed alone.
struct StepPlan: Sendable {
  /// Steps whose examples are sorted by length together and cut into groups of similar length, which are computed at once.
  static let window = 16

  private let items: [Item]
  private let lengths: [Int]
  private let batch: Int
  private let group: Int
  private let seed: UInt64
  /// Steps of one pass over the data.
  let stepsPerEpoch: Int

  /// - Parameters:
  ///   - lengths: of each item, in tokens.
  ///   - batch: items of a step.
  ///   - group: items that are computed at once. A step has groups of different lengths: what is equally long is often
  ///     alike in other ways too, and a step of one kind alone teaches worse.
  init(items: [Item], lengths: [Int], batch: Int, group: Int, seed: UInt64) {
    self.items = items
    self.lengths = lengths
    self.batch = max(1, batch)
    self.group = min(self.batch, max(1, group))
    self.seed = seed
    stepsPerEpoch = (items.count + self.batch - 1) / self.batch
  }

  /// The steps of one pass over the data, each item once.
  func epoch(_ number: Int) -> [[Item]] {
    var generator = SplitMix64(seed: SplitMix64.mix(seed) ^ UInt64(number))
    let order = Array(items.indices).shuffled(using: &generator)
    var steps: [[Item]] = []
    let width = batch * Self.window
    for start in stride(from: 0, to: order.count, by: width) {
      let window = order[start..<min(order.count, start + width)].sorted { (lengths[$0], $0) < (lengths[$1], $1) }
      var groups = stride(from: 0, to: window.count, by: group).map { window[$0..<min(window.count, $0 + group)] }
      // A group that is not full comes last, so that steps consist of whole ones.
      let rest = groups.last.map { $0.count < group } == true ? groups.removeLast() : []
      let mixed = groups.shuffled(using: &generator).joined() + rest
      let row = Array(mixed)
      for first in stride(from: 0, to: row.count, by: batch) {
        steps.append(row[first..<min(row.count, first + batch)].map { items[$0] })
      }
    }
    return steps.shuffled(using: &generator)
  }
}
