internal import Journal

/// Which item runs next: batches take turns, so that a long one does not hold up those behind it, and no item runs twice at
/// once. Of inputs one is read at a time, since it is in memory as a whole. Decisions alone.
struct BatchSchedule: Sendable {
  enum Work: Sendable, Equatable {
    case validate
    case finalize
  }

  private struct Entry {
    var life: BatchLife
    /// Items below it have been started in this process.
    var next = 0
    var isExhausted = false
    var running: Set<Int> = []
    var isWorking = false
  }

  let concurrency: Int
  private var entries: [String: Entry] = [:]
  /// Whose turn it is, in order.
  private var turns: [String] = []
  /// The batch whose input is being read.
  private var reading: String?

  init(concurrency: Int) { self.concurrency = max(1, concurrency) }

  var running: Int { entries.values.reduce(0) { $0 + $1.running.count } }

  /// The batches that have not ended, as they are now.
  mutating func update(_ batches: [(id: String, life: BatchLife)]) {
    for (id, life) in batches {
      if entries[id] == nil {
        entries[id] = Entry(life: life)
        turns.append(id)
      }
      entries[id]?.life = life
    }
    let known = Set(batches.map(\.id))
    for (id, entry) in entries where !known.contains(id) && entry.running.isEmpty && !entry.isWorking {
      entries[id] = nil
      turns.removeAll { $0 == id }
    }
  }

  /// What is to be done on a batch besides running items; it counts as begun.
  mutating func work(on id: String) -> Work? {
    guard let entry = entries[id], !entry.isWorking else { return nil }
    var work: Work?
    if entry.life.status == .validating, reading == nil {
      work = .validate
      reading = id
    }
    if entry.life.awaitsFinalization, entry.running.isEmpty { work = .finalize }
    if work != nil { entries[id]?.isWorking = true }
    return work
  }

  /// Its input is in memory no more, well read or not: that of another may be.
  mutating func readingEnded(_ id: String) { if reading == id { reading = nil } }

  mutating func workEnded(_ id: String) {
    readingEnded(id)
    entries[id]?.isWorking = false
  }

  /// The batch whose turn it is, and from where on to look for a waiting item; nil when enough run or none waits.
  mutating func next() -> (batch: String, from: Int)? {
    guard running < concurrency,
      let index = turns.firstIndex(where: { id in
        entries[id].map { $0.life.startsItems && !$0.isExhausted } ?? false
      })
    else { return nil }
    let id = turns.remove(at: index)
    turns.append(id)
    return (id, entries[id]?.next ?? 0)
  }

  mutating func started(_ number: Int, of id: String) {
    entries[id]?.running.insert(number)
    entries[id]?.next = number + 1
  }

  /// No item of it waits beyond those that were started.
  mutating func exhausted(_ id: String) { entries[id]?.isExhausted = true }

  mutating func itemEnded(_ number: Int, of id: String) { entries[id]?.running.remove(number) }
}
