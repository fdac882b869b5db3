internal import Fusion
internal import Synchronization

/// Counts what requests came to, for ``CoordinatorStatus`` and for the estimate of how long a refused one should wait.
final class RequestMeter: Sendable {
  enum Outcome: Sendable {
    case finished
    case failed
    case cancelled
    case refused
  }

  struct Counts: Sendable {
    var finished: UInt64 = 0
    var failed: UInt64 = 0
    var cancelled: UInt64 = 0
    var refused: UInt64 = 0
    var totals = CoordinatorStatus.Totals()
    var tokensPerExpert: [String: UInt64] = [:]
    var tokensPerSecond = 0.0
  }

  private struct State {
    var counts = Counts()
    var rate: RateWindow
    var durations = DurationEstimate()
    /// What running answers have been counted with so far.
    var running: [UInt64: GenerationSummary] = [:]

    mutating func note(_ summary: GenerationSummary, of request: UInt64) {
      let before = running.updateValue(summary, forKey: request)
      counts.totals.add(CoordinatorStatus.Totals(summary), instead: before.map { CoordinatorStatus.Totals($0) })
      for (expert, tokens) in summary.tokensPerExpert {
        counts.tokensPerExpert[expert, default: 0] += UInt64(max(0, tokens - (before?.tokensPerExpert[expert] ?? 0)))
      }
    }
  }

  private let state: Mutex<State>

  init(now: UInt64) { state = Mutex(State(rate: RateWindow(start: now))) }

  /// One token more was generated; `summary` is what the answer has come to with it.
  func generated(by request: UInt64, _ summary: GenerationSummary, now: UInt64) {
    state.withLock { state in
      state.rate.add(1, now: now)
      state.note(summary, of: request)
    }
  }

  func ended(_ outcome: Outcome) {
    state.withLock { state in
      switch outcome {
      case .finished: state.counts.finished += 1
      case .failed: state.counts.failed += 1
      case .cancelled: state.counts.cancelled += 1
      case .refused: state.counts.refused += 1
      }
    }
  }

  /// A slot was given back after so many nanoseconds.
  func ran(_ nanoseconds: UInt64) { state.withLock { $0.durations.add(nanoseconds) } }

  /// What an answer has come to at its end, whole or not.
  func generated(by request: UInt64, final summary: GenerationSummary) {
    state.withLock { state in
      state.note(summary, of: request)
      state.running[request] = nil
    }
  }

  func counts(now: UInt64) -> Counts {
    state.withLock { state in
      var counts = state.counts
      counts.tokensPerSecond = state.rate.perSecond(now: now)
      return counts
    }
  }

  /// How long a request that is refused now should wait, given those that wait and the slots there are.
  func retryAfter(waiting: Int, slots: Int) -> Duration {
    state.withLock { $0.durations.wait(behind: waiting, slots: slots) }
  }
}

extension CoordinatorStatus.Totals {
  init() {
    self.init(
      promptTokens: 0, cachedTokens: 0, generatedTokens: 0, failovers: 0, rowBytes: 0, routerQueueUs: 0,
      routerComputeUs: 0, wireUs: 0, expertQueueUs: 0, expertComputeUs: 0, mergeUs: 0)
  }

  init(_ summary: GenerationSummary) {
    let latency = summary.latency
    self.init(
      promptTokens: UInt64(summary.promptTokens), cachedTokens: UInt64(summary.cachedTokens),
      generatedTokens: UInt64(summary.generatedTokens), failovers: UInt64(summary.failovers),
      rowBytes: UInt64(summary.certification.bytes), routerQueueUs: latency.routerQueue / 1_000,
      routerComputeUs: latency.routerCompute / 1_000, wireUs: latency.wire / 1_000,
      expertQueueUs: latency.expertQueue / 1_000, expertComputeUs: latency.expertCompute / 1_000,
      mergeUs: latency.merge / 1_000)
  }

  private static let sums: [any WritableKeyPath<Self, UInt64> & Sendable] = [
    \.promptTokens, \.cachedTokens, \.generatedTokens, \.failovers, \.rowBytes, \.routerQueueUs, \.routerComputeUs,
    \.wireUs, \.expertQueueUs, \.expertComputeUs, \.mergeUs,
  ]

  /// Adds `new`, of which `old` was added before. A sum never falls.
  mutating func add(_ new: Self, instead old: Self?) {
    for sum in Self.sums {
      let before = old?[keyPath: sum] ?? 0
      self[keyPath: sum] += max(new[keyPath: sum], before) - before
    }
  }
}

/// Events per second over the last ten seconds. Times are nanoseconds of a clock that never goes back.
struct RateWindow: Sendable {
  static let seconds: UInt64 = 10
  private static let bucket: UInt64 = 100_000_000
  private static let buckets = Int(seconds * 1_000_000_000 / bucket)

  private let start: UInt64
  /// A ring by time; `latest` is the number of the newest bucket.
  private var counts = [Int](repeating: 0, count: buckets)
  private var latest: UInt64
  private var sum = 0

  init(start: UInt64) {
    self.start = start
    latest = start / Self.bucket
  }

  mutating func add(_ events: Int, now: UInt64) {
    advance(to: now)
    counts[Int(latest % UInt64(Self.buckets))] += events
    sum += events
  }

  /// Over the time since the start while that is shorter.
  mutating func perSecond(now: UInt64) -> Double {
    advance(to: now)
    let lived = Double(now > start ? now - start : 0) / 1e9
    return Double(sum) / min(max(lived, 1), Double(Self.seconds))
  }

  private mutating func advance(to now: UInt64) {
    let number = now / Self.bucket
    guard number > latest else { return }
    if number - latest >= UInt64(Self.buckets) {
      counts = [Int](repeating: 0, count: Self.buckets)
      sum = 0
    } else {
      for passed in (latest + 1)...number {
        let index = Int(passed % UInt64(Self.buckets))
        sum -= counts[index]
        counts[index] = 0
      }
    }
    latest = number
  }
}

/// How long requests hold their slots, as a moving average, and what follows for one that must wait.
struct DurationEstimate: Sendable {
  /// Bounds of the advice: nobody should ask again at once, and a minute later everything may be different.
  static let range: ClosedRange<Double> = 1...60
  private static let smoothing = 0.1

  /// Seconds; nil before the first request has ended.
  private var mean: Double?

  mutating func add(_ nanoseconds: UInt64) {
    let seconds = Double(nanoseconds) / 1e9
    mean = mean.map { $0 + Self.smoothing * (seconds - $0) } ?? seconds
  }

  /// Time until `waiting` requests and one more have got one of `slots`, in whole seconds.
  func wait(behind waiting: Int, slots: Int) -> Duration {
    let seconds = (mean ?? 0) * Double(waiting + 1) / Double(max(1, slots))
    return .seconds(Int(min(max(seconds, Self.range.lowerBound), Self.range.upperBound).rounded(.up)))
  }
}
