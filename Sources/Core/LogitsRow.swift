/// One row of logits, [vocabulary] float32, immutable once made; shared across threads without copying.
public final class LogitsRow: @unchecked Sendable {
  // Unchecked: the storage is written only before `init` returns.
  private let storage: UnsafeMutablePointer<Float>
  public let count: Int

  /// Copies `logits`.
  public init(copying logits: UnsafeBufferPointer<Float>) {
    count = logits.count
    storage = .allocate(capacity: max(1, logits.count))
    if let base = logits.baseAddress { storage.initialize(from: base, count: logits.count) }
  }

  /// Fills a new row in place; it starts as zeros.
  public init(count: Int, initializer: (UnsafeMutableBufferPointer<Float>) throws -> Void) rethrows {
    self.count = count
    storage = .allocate(capacity: max(1, count))
    storage.initialize(repeating: 0, count: count)
    do { try initializer(UnsafeMutableBufferPointer(start: storage, count: count)) } catch {
      storage.deallocate()
      throw error
    }
  }

  public convenience init(_ logits: [Float]) {
    self.init(count: logits.count) { row in _ = row.update(fromContentsOf: logits) }
  }

  deinit { storage.deallocate() }

  /// Valid as long as the row is held: keep the row in a variable that outlives the use.
  public var buffer: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: storage, count: count) }

  public subscript(_ token: Token) -> Float { buffer[Int(token)] }
}
