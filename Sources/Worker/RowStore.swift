internal import Core

/// Rows of the latest position of each sequence, kept so that asking for more of a row costs no forward pass.
///
/// A row is found by the chained hash of the prefix it follows, so it can never be taken for another prefix's.
struct RowStore<Key: Hashable> {
  private var rows: [Key: [(prefix: PrefixHash, row: LogitsRow)]] = [:]
  /// Rows kept per sequence.
  let perSequence: Int

  init(perSequence: Int) { self.perSequence = max(1, perSequence) }

  func row(of key: Key, after prefix: PrefixHash) -> LogitsRow? {
    rows[key]?.last { $0.prefix == prefix }?.row
  }

  mutating func keep(_ row: LogitsRow, of key: Key, after prefix: PrefixHash) {
    var kept = rows[key, default: []]
    kept.removeAll { $0.prefix == prefix }
    kept.append((prefix, row))
    if kept.count > perSequence { kept.removeFirst(kept.count - perSequence) }
    rows[key] = kept
  }

  mutating func release(_ key: Key) { rows[key] = nil }

  mutating func removeAll(where condition: (Key) -> Bool) { rows = rows.filter { !condition($0.key) } }
}
