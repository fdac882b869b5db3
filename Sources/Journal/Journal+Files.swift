internal import Core
internal import Foundation
internal import GRDB

extension Journal {
  /// - Parameter lifetime: seconds; nil: as long as the journal's retention says.
  /// - Throws: `.storageFull` when the journal, or the owner's number of files, is at its limit.
  public func addFile(
    owner: String, name: String, purpose: String, contents: [UInt8], lifetime: Int? = nil, now: Int
  ) async throws -> StoredFile {
    try await queue.write { [self] db in
      try checkRoom(db, for: contents.count)
      let count = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM file WHERE owner = ?", arguments: [owner]) ?? 0
      guard count < limits.filesPerOwner else {
        throw FusionRouteError(.storageFull, "there are \(count) files already: delete some")
      }
      let file = StoredFile(
        id: Self.newID("file-"), owner: owner, name: name, purpose: purpose, bytes: contents.count, created: now,
        expires: lifetime.map { now + $0 })
      var writer = FileWriter(db, file.id)
      try Self.insert(file, db)
      try writer.write(contents)
      try writer.end()
      return file
    }
  }

  public func file(_ id: String, owner: String) async throws -> StoredFile? {
    try await queue.read { db in
      try Row.fetchOne(db, sql: "SELECT * FROM file WHERE id = ? AND owner = ?", arguments: [id, owner]).map(Self.file)
    }
  }

  /// A page of an owner's files, and whether there are more.
  ///
  /// - Parameter after: the id of the last file of the page before.
  /// - Throws: `.badInput` if there is none with that id any more.
  public func files(
    owner: String, purpose: String? = nil, after: String? = nil, limit: Int, ascending: Bool = false
  ) async throws -> (files: [StoredFile], hasMore: Bool) {
    try await queue.read { db in
      let (rows, hasMore) = try Self.page(
        db, "file", owner: owner, filter: purpose.map { ("purpose", $0) }, after: after, limit: limit,
        ascending: ascending)
      return (rows.map(Self.file), hasMore)
    }
  }

  /// One part of a file's contents; nil after the last.
  public func part(_ number: Int, of file: String) async throws -> [UInt8]? {
    try await queue.read { db in
      try Data.fetchOne(
        db, sql: "SELECT data FROM part WHERE file = ? AND number = ?", arguments: [file, number]
      ).map { Array($0) }
    }
  }

  /// False if there is no such file.
  ///
  /// - Throws: `.badInput` while a batch that has not ended reads it.
  public func deleteFile(_ id: String, owner: String) async throws -> Bool {
    try await queue.write { db in
      if let batch = try String.fetchOne(
        db, sql: "SELECT id FROM batch WHERE input = ? AND final IS 0", arguments: [id])
      {
        throw FusionRouteError.badInput("the batch \(batch) still needs the file \(id): cancel it first")
      }
      try db.execute(sql: "DELETE FROM file WHERE id = ? AND owner = ?", arguments: [id, owner])
      return db.changesCount > 0
    }
  }

  static func insert(_ file: StoredFile, _ db: Database) throws {
    try db.execute(
      sql: """
        INSERT INTO file (id, owner, name, purpose, bytes, created, expires, serial) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
      arguments: [
        file.id, file.owner, file.name, file.purpose, file.bytes, file.created, file.expires,
        try nextSerial(db, of: "file"),
      ])
  }

  private static func file(_ row: Row) -> StoredFile {
    StoredFile(
      id: row["id"], owner: row["owner"], name: row["name"], purpose: row["purpose"], bytes: row["bytes"],
      created: row["created"], expires: row["expires"])
  }

  /// Rows of an owner's in order of their making, newest first unless `ascending`.
  static func page(
    _ db: Database, _ table: String, owner: String, filter: (column: String, value: String)? = nil, after: String?,
    limit: Int, ascending: Bool
  ) throws -> (rows: [Row], hasMore: Bool) {
    var sql = "SELECT * FROM \(table) WHERE owner = ?"
    var arguments: StatementArguments = [owner]
    if let filter {
      sql += " AND \(filter.column) = ?"
      arguments += [filter.value]
    }
    if let after {
      guard
        let serial = try Int64.fetchOne(
          db, sql: "SELECT serial FROM \(table) WHERE id = ? AND owner = ?", arguments: [after, owner])
      else {
        // Not an empty page: who deletes what they list would take it for the end.
        throw FusionRouteError.badInput(
          "there is no \(table) \"\(after.prefix(64))\" to go on after: list from the start")
      }
      sql += " AND serial \(ascending ? ">" : "<") ?"
      arguments += [serial]
    }
    sql += " ORDER BY serial \(ascending ? "ASC" : "DESC") LIMIT ?"
    arguments += [limit + 1]
    let rows = try Row.fetchAll(db, sql: sql, arguments: arguments)
    return (Array(rows.prefix(limit)), rows.count > limit)
  }
}

/// Writes a file's contents in parts.
struct FileWriter {
  private let db: Database
  private let file: String
  private var buffer: [UInt8] = []
  private var number = 0
  private(set) var bytes = 0

  init(_ db: Database, _ file: String) {
    self.db = db
    self.file = file
  }

  mutating func write(_ contents: [UInt8]) throws {
    buffer += contents
    bytes += contents.count
    while buffer.count >= JournalLimits.part {
      try insert(Array(buffer.prefix(JournalLimits.part)))
      buffer.removeFirst(JournalLimits.part)
    }
  }

  mutating func end() throws {
    if !buffer.isEmpty { try insert(buffer) }
    buffer = []
  }

  private mutating func insert(_ part: [UInt8]) throws {
    try db.execute(
      sql: "INSERT INTO part (file, number, data) VALUES (?, ?, ?)", arguments: [file, number, Data(part)])
    number += 1
  }
}
