internal import Synchronization

/// One row of logits, [vocabulary] float32, immutable once made; shared across threads without copying.
public final class LogitsRow: @unchecked Sendable {
  // Unchecked: the storage is written only before `init` returns.
  private let storage: UnsafeMutablePointer<Float>
  public let count: Int

  /// Copies `logits`.
  public init(copying logits: UnsafeBufferPointer<Float>) {
    count = logits.count
    storage = RowMemory.take(logits.count)
    if let base = logits.baseAddress { storage.update(from: base, count: logits.count) }
  }

  /// Fills a new row in place; `initializer` must write every element, and reads nothing before.
  public init(count: Int, initializer: (UnsafeMutableBufferPointer<Float>) throws -> Void) rethrows {
    self.count = count
    storage = RowMemory.take(count)
    do { try initializer(UnsafeMutableBufferPointer(start: storage, count: count)) } catch {
      RowMemory.give(storage, count: count)
      throw error
    }
  }

  public convenience init(_ logits: [Float]) {
    self.init(count: logits.count) { row in _ = row.update(fromContentsOf: logits) }
  }

  deinit { RowMemory.give(storage, count: count) }

  /// Valid as long as the row is held: keep the row in a variable that outlives the use.
  public var buffer: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: storage, count: count) }

  public subscript(_ token: Token) -> Float { buffer[Int(token)] }
}

/// Memory of rows that were let go, for the next ones: the pages of a fresh 192 KB block cost more than filling it.
private enum RowMemory {
  /// A block that nobody uses; only the pool holds it.
  private struct Block: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<Float>
    let capacity: Int
  }

  /// Floats kept at most: 32 MB.
  private static let limit = 8 << 20
  private static let free = Mutex<[Block]>([])

  static func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    let capacity = max(1, count)
    let block = free.withLock { blocks -> Block? in
      // All rows of a process have one or two lengths, so the last one put back nearly always fits.
      guard let index = blocks.lastIndex(where: { $0.capacity == capacity }) else { return nil }
      return blocks.remove(at: index)
    }
    if let block { return block.pointer }
    let pointer = UnsafeMutablePointer<Float>.allocate(capacity: capacity)
    pointer.initialize(repeating: 0, count: capacity)
    return pointer
  }

  static func give(_ pointer: UnsafeMutablePointer<Float>, count: Int) {
    let block = Block(pointer: pointer, capacity: max(1, count))
    let dropped = free.withLock { blocks -> [Block] in
      blocks.append(block)
      var total = blocks.reduce(0) { $0 + $1.capacity }
      var index = 0
      while total > limit, index < blocks.count {
        total -= blocks[index].capacity
        index += 1
      }
      defer { blocks.removeFirst(index) }
      return Array(blocks[..<index])
    }
    for block in dropped { block.pointer.deallocate() }
  }
}
