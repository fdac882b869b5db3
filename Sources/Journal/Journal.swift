public import Core
internal import Foundation
internal import GRDB
public import Logging

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// What a coordinator has accepted, in a file: clients' files, batches with the results of their items, and requests with an
/// idempotency key. What a method has returned is on disk, and outlives the process and the machine's power.
///
/// One process at a time uses a journal. All methods wait for the disk, on a queue of the journal's own.
public final class Journal: Sendable {
  /// Marks the file as ours: "FRJ1".
  private static let applicationID: Int32 = 0x4652_4A31

  public let path: String
  public let limits: JournalLimits
  let logger: Logger
  let queue: DatabaseQueue

  /// Opens or makes the file, which its owner alone can read.
  ///
  /// - Throws: `.badInput` if it cannot be written, others can read it, or it is no journal; `.unavailable` if another
  ///   process uses it.
  public init(path: String, limits: JournalLimits = JournalLimits(), logger: Logger) throws {
    self.path = path
    self.limits = limits
    self.logger = logger
    try Self.prepare(path)
    var configuration = Configuration()
    configuration.label = "journal"
    configuration.prepareDatabase { db in
      // The lock is held until the process ends, however it ends.
      try db.execute(sql: "PRAGMA locking_mode = EXCLUSIVE")
      try db.execute(sql: "PRAGMA journal_mode = WAL")
      try db.execute(sql: "PRAGMA synchronous = FULL")
      try db.execute(sql: "PRAGMA foreign_keys = ON")
    }
    do {
      queue = try DatabaseQueue(path: path, configuration: configuration)
      try queue.write { db in try Self.claim(db, path: path) }
      try Self.migrator.migrate(queue)
    } catch let error as DatabaseError {
      throw Self.told(error, path: path)
    }
  }

  /// Bytes of the file that hold something, which is what ``JournalLimits/bytes`` bounds. The file itself does not
  /// shrink: what was deleted leaves room in it.
  public func usedBytes() async throws -> Int { try await queue.read { db in try Self.usedBytes(db) } }

  private static func prepare(_ path: String) throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw FusionRouteError.badInput("cannot write the journal \(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 == 0 else {
      throw FusionRouteError.badInput(
        "the journal \(path) is no regular file that its owner alone can read: run `chmod 600 \(path)`")
    }
  }

  private static func claim(_ db: Database, path: String) throws {
    let found = try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0
    if found == applicationID { return }
    guard try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM sqlite_master") == 0 else {
      throw FusionRouteError.badInput("\(path) is a database of another program: name another file as gateway.journal")
    }
    try db.execute(sql: "PRAGMA application_id = \(applicationID)")
  }

  private static func told(_ error: DatabaseError, path: String) -> FusionRouteError {
    switch error.resultCode {
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      .unavailable("the journal \(path) is in use by another process: each coordinator needs one of its own")
    case .SQLITE_NOTADB, .SQLITE_CORRUPT:
      .badInput("\(path) is no journal, or a damaged one: \(error.message ?? "it cannot be read")")
    default: .badInput("cannot use the journal \(path): \(error.message ?? "\(error.resultCode)")")
    }
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { db in
      try db.execute(
        sql: """
          CREATE TABLE file (
            id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL,
            bytes INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER, serial INTEGER NOT NULL UNIQUE
          ) WITHOUT ROWID;
          CREATE INDEX file_owner ON file (owner, serial);
          CREATE TABLE part (
            file TEXT NOT NULL REFERENCES file (id) ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (file, number)
          );
          CREATE TABLE batch (
            id TEXT PRIMARY KEY, owner TEXT NOT NULL, endpoint TEXT NOT NULL, input TEXT NOT NULL, output TEXT,
            error TEXT, metadata TEXT, lifetime INTEGER, problems TEXT NOT NULL, life TEXT NOT NULL,
            final INTEGER NOT NULL, serial INTEGER NOT NULL UNIQUE
          ) WITHOUT ROWID;
          CREATE INDEX batch_owner ON batch (owner, serial);
          CREATE INDEX batch_final ON batch (final, serial);
          CREATE TABLE item (
            batch TEXT NOT NULL REFERENCES batch (id) ON DELETE CASCADE, number INTEGER NOT NULL,
            custom_id TEXT NOT NULL, state INTEGER NOT NULL, body BLOB NOT NULL, line BLOB,
            PRIMARY KEY (batch, number)
          );
          CREATE INDEX item_state ON item (batch, state, number);
          CREATE TABLE request (
            owner TEXT NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL,
            client TEXT NOT NULL, status INTEGER, answer BLOB, created INTEGER NOT NULL,
            PRIMARY KEY (owner, key)
          );
          CREATE INDEX request_status ON request (status, created);
          """)
    }
    return migrator
  }

  // MARK: Common

  static func newID(_ prefix: String) -> String {
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    var random = SystemRandomNumberGenerator()
    return prefix + String((0..<24).map { _ in letters[Int.random(in: 0..<letters.count, using: &random)] })
  }

  static func nextSerial(_ db: Database, of table: String) throws -> Int64 {
    (try Int64.fetchOne(db, sql: "SELECT MAX(serial) FROM \(table)") ?? 0) + 1
  }

  private static func usedBytes(_ db: Database) throws -> Int {
    let pages = try Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0
    let free = try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0
    let size = try Int.fetchOne(db, sql: "PRAGMA page_size") ?? 4_096
    return (pages - free) * size
  }

  /// Throws `.storageFull` where there is no room for `bytes` more.
  func checkRoom(_ db: Database, for bytes: Int) throws {
    guard try Self.usedBytes(db) + bytes <= limits.bytes else {
      throw FusionRouteError(
        .storageFull,
        "the journal has no room for \(bytes) bytes more: delete files, or raise gateway.journal_size")
    }
  }

  /// Forgets what has been kept long enough. Batches and requests that have not ended stay.
  public func sweep(now: Int) async throws {
    let oldest = now - limits.retention
    try await queue.write { db in
      // Not the input of a batch that still needs it.
      try db.execute(
        sql: """
          DELETE FROM file WHERE (expires IS NOT NULL AND expires <= ? OR created <= ?)
            AND id NOT IN (SELECT input FROM batch WHERE final IS 0)
          """, arguments: [now, oldest])
      try db.execute(
        sql: "DELETE FROM request WHERE status IS NOT NULL AND created <= ?", arguments: [oldest])
      try db.execute(sql: "DELETE FROM batch WHERE final <> 0 AND final <= ?", arguments: [oldest])
    }
  }
}

extension FusionRouteError.Code {
  /// The journal has reached its size.
  public static let storageFull = Self(rawValue: "storage-full")
}
