internal import Core

/// An example of the data by its index.
enum Item: Hashable, Sendable {
  case sample(Int)
  case pair(Int)
}

/// Which examples each step sees: a function of the counts, lengths and the seed alone.
struct StepPlan: Sendable {
  /// Steps whose examples are sorted by length together, so that a step's examples are of similar length.
  static let window = 16

  private let items: [Item]
  private let lengths: [Int]
  private let batch: Int
  private let seed: UInt64
  /// Steps of one pass over the data.
  let stepsPerEpoch: Int

  /// - Parameters:
  ///   - lengths: of each item, in tokens.
  ///   - batch: items of a step.
  init(items: [Item], lengths: [Int], batch: Int, seed: UInt64) {
    self.items = items
    self.lengths = lengths
    self.batch = max(1, batch)
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
      for first in stride(from: 0, to: window.count, by: batch) {
        steps.append(window[first..<min(window.count, first + batch)].map { items[$0] })
      }
    }
    return steps.shuffled(using: &generator)
  }
}
