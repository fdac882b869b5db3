/// Bounds of a journal.
public struct JournalLimits: Sendable, Hashable {
  /// Bytes of the file, beyond which nothing new is taken in; what is under way is finished.
  public var bytes = 4 << 30
  /// Seconds that files, batches that have ended and answers to idempotent requests are kept.
  public var retention = 30 * 86_400
  /// Files of one owner.
  public var filesPerOwner = 10_000
  /// Batches of one owner that have not ended.
  public var openBatchesPerOwner = 100
  /// Requests with an idempotency key of one owner that are kept.
  public var requestsPerOwner = 100_000

  public init() {}

  /// Bytes of one part of a file's contents.
  static let part = 1 << 20
}
