/// How a batch gets from its input file to its results: decisions alone, no storage and no clock. Times are Unix seconds
/// that the caller passes in.
///
///     validating ──▶ in_progress ──▶ finalizing ──▶ completed │ expired
///         │  │           │  └──(all items have ended, or the window has)
///         │  └───────────┴──▶ cancelling ──▶ cancelled
///         └──▶ failed
public struct BatchLife: Sendable, Hashable, Codable {
  /// As OpenAI names them.
  public enum Status: String, Sendable, Codable, CaseIterable {
    case validating, failed, finalizing, completed, expired, cancelling, cancelled
    case inProgress = "in_progress"

    /// Nothing happens any more.
    public var isFinal: Bool {
      switch self {
      case .failed, .completed, .expired, .cancelled: true
      case .validating, .inProgress, .finalizing, .cancelling: false
      }
    }
  }

  public enum Event: Sendable, Hashable {
    /// The input file is good and has so many items, at least one.
    case validated(items: Int)
    /// The input file cannot be used.
    case refused
    /// A result of an item that had none was recorded.
    case itemEnded(succeeded: Bool)
    /// Its owner wants no more of it.
    case cancel
    /// The time within which it was to be done is over.
    case windowEnded
    /// The results are in their files.
    case finalized
  }

  public private(set) var status = Status.validating
  public private(set) var total = 0
  public private(set) var completed = 0
  public private(set) var failed = 0
  /// When each status was reached.
  public private(set) var times: [Status: Int]
  /// When its window ends.
  public let expires: Int
  /// Whether the window ended before all items had.
  public private(set) var isLate = false

  public init(created: Int, window: Int) {
    times = [.validating: created]
    expires = created + window
  }

  public var created: Int { times[.validating] ?? 0 }
  public var ended: Int { completed + failed }

  /// Whether items may be started.
  public var startsItems: Bool { status == .inProgress }
  /// Whether results of items that were started still count.
  public var takesResults: Bool { status == .inProgress || status == .cancelling }
  /// Whether the results are to be put into files once no item runs any more.
  public var awaitsFinalization: Bool { status == .finalizing || status == .cancelling }

  /// False if the event changes nothing, because it comes too late or makes no sense now.
  public mutating func apply(_ event: Event, now: Int) -> Bool {
    switch (status, event) {
    case (.validating, .validated(let items)) where items > 0:
      total = items
      enter(.inProgress, now)
    case (.validating, .refused): enter(.failed, now)
    case (.validating, .cancel), (.inProgress, .cancel): enter(.cancelling, now)
    case (.validating, .windowEnded), (.inProgress, .windowEnded):
      isLate = true
      enter(.finalizing, now)
    case (.inProgress, .itemEnded(let succeeded)), (.cancelling, .itemEnded(let succeeded)):
      guard ended < total else { return false }
      if succeeded { completed += 1 } else { failed += 1 }
      if status == .inProgress, ended == total { enter(.finalizing, now) }
    case (.finalizing, .finalized): enter(isLate ? .expired : .completed, now)
    case (.cancelling, .finalized): enter(.cancelled, now)
    default: return false
    }
    return true
  }

  private mutating func enter(_ status: Status, _ now: Int) {
    self.status = status
    // Clocks may be set back; what came later does not look earlier.
    times[status] = max(now, times.values.max() ?? now)
  }
}

/// The life of one item: it waits, perhaps runs, and ends once. A run that a crash ended leaves no trace, so it runs again;
/// a result that comes second is not recorded.
public enum ItemState: Int, Sendable, Codable {
  case waiting = 0
  case succeeded = 1
  case failed = 2

  /// The state after a result came; nil if there is one already.
  public func recording(succeeded: Bool) -> ItemState? {
    self == .waiting ? (succeeded ? .succeeded : .failed) : nil
  }
}
