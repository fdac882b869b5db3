internal import Dispatch

/// A pointer that several threads use for disjoint parts.
struct SendableBuffer<Pointer>: @unchecked Sendable {
  // Unchecked: every user takes the rows of its own chunk only.
  let base: Pointer?

  init(_ base: Pointer?) { self.base = base }
}

/// Work on a tensor's rows, divided over the machine's cores.
enum Rows {
  /// Elements that are worth a chunk of their own.
  private static let leastElements = 1 << 16

  /// Chunks of consecutive rows; a function of the shape alone, so that results that are combined per chunk do not
  /// depend on the machine.
  static func chunks(of rows: Int, rowLength: Int) -> [Range<Int>] {
    let perChunk = max(1, leastElements / max(1, rowLength))
    return stride(from: 0, to: rows, by: perChunk).map { $0..<min(rows, $0 + perChunk) }
  }

  static func forEachChunk(of rows: Int, rowLength: Int, _ body: @Sendable (Range<Int>) -> Void) {
    let chunks = chunks(of: rows, rowLength: rowLength)
    if chunks.count == 1 {
      body(chunks[0])
    } else {
      DispatchQueue.concurrentPerform(iterations: chunks.count) { body(chunks[$0]) }
    }
  }
}
