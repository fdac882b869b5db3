internal import Core
internal import Foundation
internal import GRDB

extension Journal {
  /// Looks an idempotency key up, and writes the request down if it is new.
  ///
  /// - Parameters:
  ///   - key: chosen by the client, one for each request.
  ///   - client: where its client takes its turn.
  /// - Throws: `.storageFull`.
  public func claim(
    owner: String, key: String, route: String, body: [UInt8], client: String, now: Int
  ) async throws -> RequestClaim {
    let digest = SHA256Digest(hashing: Array(route.utf8) + [0] + body).withUnsafeBytes { Data($0) }
    return try await queue.write { [self] db in
      if let row = try Row.fetchOne(
        db, sql: "SELECT digest, status, answer FROM request WHERE owner = ? AND key = ?", arguments: [owner, key])
      {
        guard row["digest"] as Data == digest else { return .mismatch }
        guard let status: Int = row["status"], let answer: Data = row["answer"] else { return .pending }
        return .answered(status: status, body: Array(answer))
      }
      try checkRoom(db, for: body.count)
      let count = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM request WHERE owner = ?", arguments: [owner]) ?? 0
      guard count < limits.requestsPerOwner else {
        throw FusionRouteError(.storageFull, "\(count) idempotency keys are in use already: send requests without")
      }
      try db.execute(
        sql: """
          INSERT INTO request (owner, key, route, digest, body, client, created) VALUES (?, ?, ?, ?, ?, ?, ?)
          """, arguments: [owner, key, route, digest, Data(body), client, now])
      return .run
    }
  }

  /// Writes the answer down, unless there is one.
  ///
  /// - Returns: whether it was this answer that counts.
  public func settle(owner: String, key: String, status: Int, answer: [UInt8]) async throws -> Bool {
    try await queue.write { db in
      try db.execute(
        sql: """
          UPDATE request SET status = ?, answer = ?, body = x'' WHERE owner = ? AND key = ? AND status IS NULL
          """, arguments: [status, Data(answer), owner, key])
      return db.changesCount > 0
    }
  }

  /// The request could not be answered now: the key may be used anew.
  public func forget(owner: String, key: String) async throws {
    try await queue.write { db in
      try db.execute(
        sql: "DELETE FROM request WHERE owner = ? AND key = ? AND status IS NULL", arguments: [owner, key])
    }
  }

  /// Requests that were accepted and not answered, oldest first.
  public func unansweredRequests() async throws -> [StoredRequest] {
    try await queue.read { db in
      try Row.fetchAll(
        db, sql: "SELECT owner, key, route, body, client FROM request WHERE status IS NULL ORDER BY created, key"
      ).map { row in
        StoredRequest(
          owner: row["owner"], key: row["key"], route: row["route"], body: Array(row["body"] as Data),
          client: row["client"])
      }
    }
  }
}
