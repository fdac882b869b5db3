internal import Core

/// The rows computed last, kept so that asking for more of a row costs no forward pass.
///
/// A row is found by the chained hash of the prefix it follows, so it can never be taken for another prefix's. The least
/// recently used goes first.
struct RowStore {
  private var rows: [(prefix: PrefixHash, row: LogitsRow)] = []
  /// Rows kept at most.
  let capacity: Int

  init(capacity: Int) { self.capacity = max(1, capacity) }

  mutating func row(after prefix: PrefixHash) -> LogitsRow? {
    guard let index = rows.lastIndex(where: { $0.prefix == prefix }) else { return nil }
    let found = rows.remove(at: index)
    rows.append(found)
    return found.row
  }

  mutating func keep(_ row: LogitsRow, after prefix: PrefixHash) {
    rows.removeAll { $0.prefix == prefix }
    rows.append((prefix, row))
    if rows.count > capacity { rows.removeFirst(rows.count - capacity) }
  }
}
