internal import Core
internal import Foundation
internal import GRDB

extension Journal {
  /// - Parameters:
  ///   - window: seconds within which it is to be done.
  ///   - outputLifetime: seconds that its output is kept.
  /// - Throws: `.badInput` if there is no such input file of the owner's; `.storageFull` at the limit of open batches,
  ///   or where the journal has no room for the requests.
  public func addBatch(
    owner: String, endpoint: String, inputFile: String, metadata: String?, window: Int, outputLifetime: Int?, now: Int
  ) async throws -> StoredBatch {
    try await queue.write { [self] db in
      guard
        let file = try Row.fetchOne(
          db, sql: "SELECT purpose, bytes FROM file WHERE id = ? AND owner = ?", arguments: [inputFile, owner])
      else { throw FusionRouteError.badInput("there is no file \"\(inputFile)\"") }
      guard file["purpose"] as String == "batch" else {
        throw FusionRouteError.badInput("the file \"\(inputFile)\" has another purpose than batch")
      }
      let open =
        try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM batch WHERE owner = ? AND final IS 0", arguments: [owner]) ?? 0
      guard open < limits.openBatchesPerOwner else {
        throw FusionRouteError(.storageFull, "\(open) batches have not ended yet: wait for them, or cancel some")
      }
      // Its requests are written down a second time, once they have been read.
      try checkRoom(db, for: file["bytes"])
      let batch = StoredBatch(
        id: Self.newID("batch_"), owner: owner, endpoint: endpoint, inputFile: inputFile, metadata: metadata,
        outputLifetime: outputLifetime, life: BatchLife(created: now, window: window))
      try db.execute(
        sql: """
          INSERT INTO batch (id, owner, endpoint, input, metadata, lifetime, problems, life, final, serial)
          VALUES (?, ?, ?, ?, ?, ?, '[]', ?, 0, ?)
          """,
        arguments: [
          batch.id, owner, endpoint, inputFile, metadata, outputLifetime, try Self.json(batch.life),
          try Self.nextSerial(db, of: "batch"),
        ])
      return batch
    }
  }

  public func batch(_ id: String, owner: String) async throws -> StoredBatch? {
    try await queue.read { db in
      try Row.fetchOne(db, sql: "SELECT * FROM batch WHERE id = ? AND owner = ?", arguments: [id, owner])
        .map(Self.batch)
    }
  }

  /// A page of an owner's batches, newest first, and whether there are more.
  ///
  /// - Throws: `.badInput` if there is no batch `after`.
  public func batches(owner: String, after: String?, limit: Int) async throws -> (
    batches: [StoredBatch], hasMore: Bool
  ) {
    try await queue.read { db in
      let (rows, hasMore) = try Self.page(db, "batch", owner: owner, after: after, limit: limit, ascending: false)
      return (try rows.map(Self.batch), hasMore)
    }
  }

  /// Batches that have not ended, oldest first.
  public func openBatches() async throws -> [StoredBatch] {
    try await queue.read { db in
      try Row.fetchAll(db, sql: "SELECT * FROM batch WHERE final IS 0 ORDER BY serial").map(Self.batch)
    }
  }

  /// Applies an event; the batch as it is then, nil if there is none.
  @discardableResult
  public func apply(_ event: BatchLife.Event, to id: String, now: Int) async throws -> StoredBatch? {
    try await queue.write { db in
      guard var batch = try Self.fetch(id, db) else { return nil }
      if batch.life.apply(event, now: now) { try Self.update(batch, db) }
      return batch
    }
  }

  // MARK: Items

  /// The input is good: its items are written down and may run.
  public func begin(_ id: String, items: [BatchItem], now: Int) async throws {
    try await queue.write { [self] db in
      guard var batch = try Self.fetch(id, db), batch.life.apply(.validated(items: items.count), now: now) else {
        return
      }
      try checkRoom(db, for: items.reduce(0) { $0 + $1.body.count })
      let statement = try db.makeStatement(
        sql: "INSERT INTO item (batch, number, custom_id, state, body) VALUES (?, ?, ?, 0, ?)")
      for item in items {
        try statement.execute(arguments: [id, item.number, item.customID, Data(item.body)])
      }
      try Self.update(batch, db)
    }
  }

  /// The input cannot be used.
  public func refuse(_ id: String, problems: [StoredBatch.Problem], now: Int) async throws {
    try await queue.write { db in
      guard var batch = try Self.fetch(id, db), batch.life.apply(.refused, now: now) else { return }
      batch.problems = problems
      try Self.update(batch, db)
    }
  }

  /// Items without a result, in order, from `number` on.
  public func waitingItems(of id: String, from number: Int, limit: Int) async throws -> [BatchItem] {
    try await queue.read { db in
      try Row.fetchAll(
        db,
        sql: """
          SELECT number, custom_id, body FROM item WHERE batch = ? AND state = 0 AND number >= ? ORDER BY number LIMIT ?
          """, arguments: [id, number, limit]
      ).map { row in
        BatchItem(number: row["number"], customID: row["custom_id"], body: Array(row["body"] as Data))
      }
    }
  }

  /// Writes an item's result down, unless it has one or the batch takes no more.
  ///
  /// - Parameter line: the line of the output or error file.
  /// - Returns: whether it was this result that counts.
  public func record(_ number: Int, of id: String, succeeded: Bool, line: [UInt8], now: Int) async throws -> Bool {
    try await queue.write { db in
      guard var batch = try Self.fetch(id, db), batch.life.takesResults,
        let raw = try Int.fetchOne(
          db, sql: "SELECT state FROM item WHERE batch = ? AND number = ?", arguments: [id, number]),
        let next = ItemState(rawValue: raw)?.recording(succeeded: succeeded),
        batch.life.apply(.itemEnded(succeeded: succeeded), now: now)
      else { return false }
      try db.execute(
        sql: "UPDATE item SET state = ?, line = ?, body = x'' WHERE batch = ? AND number = ?",
        arguments: [next.rawValue, Data(line), id, number])
      try Self.update(batch, db)
      return true
    }
  }

  /// Puts the results into files and ends the batch, all at once. No item of it may be running.
  ///
  /// - Parameter unrun: the line for an item that has no result.
  public func finalize(
    _ id: String, now: Int, unrun: @escaping @Sendable (_ customID: String) -> [UInt8]
  ) async throws {
    try await queue.write { db in
      guard var batch = try Self.fetch(id, db), batch.life.awaitsFinalization else { return }
      batch.outputFile = try Self.write(
        db, batch, name: "\(id)_output.jsonl", now: now,
        rows: "SELECT line FROM item WHERE batch = ? AND state = 1 ORDER BY number"
      ) { Array($0["line"] as Data) }
      batch.errorFile = try Self.write(
        db, batch, name: "\(id)_error.jsonl", now: now,
        rows: "SELECT state, custom_id, line FROM item WHERE batch = ? AND state <> 1 ORDER BY number"
      ) { row in
        (row["line"] as Data?).map { Array($0) } ?? unrun(row["custom_id"])
      }
      _ = batch.life.apply(.finalized, now: now)
      try db.execute(sql: "DELETE FROM item WHERE batch = ?", arguments: [id])
      try Self.update(batch, db)
    }
  }

  /// A file of the lines; nil if there are none.
  private static func write(
    _ db: Database, _ batch: StoredBatch, name: String, now: Int, rows: String, line: (Row) -> [UInt8]
  ) throws -> String? {
    let cursor = try Row.fetchCursor(db, sql: rows, arguments: [batch.id])
    guard let first = try cursor.next() else { return nil }
    let id = newID("file-")
    var file = StoredFile(
      id: id, owner: batch.owner, name: name, purpose: "batch_output", bytes: 0, created: now,
      expires: batch.outputLifetime.map { now + $0 })
    try insert(file, db)
    var writer = FileWriter(db, id)
    try writer.write(line(first) + [0x0A])
    while let row = try cursor.next() { try writer.write(line(row) + [0x0A]) }
    try writer.end()
    file.bytes = writer.bytes
    try db.execute(sql: "UPDATE file SET bytes = ? WHERE id = ?", arguments: [file.bytes, id])
    return id
  }

  // MARK: Rows

  private static func fetch(_ id: String, _ db: Database) throws -> StoredBatch? {
    try Row.fetchOne(db, sql: "SELECT * FROM batch WHERE id = ?", arguments: [id]).map(batch)
  }

  private static func update(_ batch: StoredBatch, _ db: Database) throws {
    let ended = batch.life.status.isFinal ? batch.life.times[batch.life.status] ?? batch.life.created : 0
    try db.execute(
      sql: "UPDATE batch SET output = ?, error = ?, problems = ?, life = ?, final = ? WHERE id = ?",
      arguments: [
        batch.outputFile, batch.errorFile, try json(batch.problems), try json(batch.life), ended, batch.id,
      ])
  }

  private static func batch(_ row: Row) throws -> StoredBatch {
    StoredBatch(
      id: row["id"], owner: row["owner"], endpoint: row["endpoint"], inputFile: row["input"],
      outputFile: row["output"], errorFile: row["error"], metadata: row["metadata"], outputLifetime: row["lifetime"],
      problems: try JSONDecoder().decode([StoredBatch.Problem].self, from: Data((row["problems"] as String).utf8)),
      life: try JSONDecoder().decode(BatchLife.self, from: Data((row["life"] as String).utf8)))
  }

  private static func json(_ value: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
  }
}
