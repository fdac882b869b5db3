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
  }

  private let state: Mutex<State>

  init(now: UInt64) { state = Mutex(State(rate: RateWindow(start: now))) }

  /// One token was generated.
  func generated(now: UInt64) { state.withLock { $0.rate.add(1, now: now) } }

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

  /// What an answer came to, whole or not.
  func add(_ summary: GenerationSummary) {
    state.withLock { state in
      state.counts.totals.add(summary)
      for (expert, tokens) in summary.tokensPerExpert {
        state.counts.tokensPerExpert[expert, default: 0] += UInt64(tokens)
      }
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

  mutating func add(_ summary: GenerationSummary) {
    promptTokens += UInt64(summary.promptTokens)
    cachedTokens += UInt64(summary.cachedTokens)
    generatedTokens += UInt64(summary.generatedTokens)
    failovers += UInt64(summary.failovers)
    rowBytes += UInt64(summary.certification.bytes)
    routerQueueUs += summary.latency.routerQueue / 1_000
    routerComputeUs += summary.latency.routerCompute / 1_000
    wireUs += summary.latency.wire / 1_000
    expertQueueUs += summary.latency.expertQueue / 1_000
    expertComputeUs += summary.latency.expertCompute / 1_000
    mergeUs += summary.latency.merge / 1_000
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
