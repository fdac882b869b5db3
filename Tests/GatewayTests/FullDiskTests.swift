import Coordinator
import Core
import Foundation
import GRDB
import Logging
import TestSupport
import Testing

@testable import Gateway
@testable import Journal

/// What is accepted on a disk that has no room for a while.
@Suite(.serialized) struct FullDiskTests {
  /// Refuses one kind of change to a journal for as long as it is full.
  private final class FullDisk: Sendable {
    private let state = LockedBox((isFull: true, attempts: 0))

    /// - Parameter change: as a trigger names it, `UPDATE ON request`.
    init(_ journal: Journal, _ change: String) async throws {
      try await journal.queue.write { [state] db in
        db.add(
          function: DatabaseFunction("no_room", argumentCount: 0) { _ in
            let isFull = state.withValue { state in
              state.attempts += 1
              return state.isFull
            }
            if isFull { throw DatabaseError(message: "no room") }
            return nil
          })
        try db.execute(sql: "CREATE TEMP TRIGGER no_room BEFORE \(change) BEGIN SELECT no_room(); END")
      }
    }

    /// Changes that were tried, well or not.
    var attempts: Int { state.withValue { $0.attempts } }

    func makeRoom() { state.withValue { $0.isFull = false } }
  }

  private static func request(_ route: String = CompletionTests.path) -> StoredRequest {
    StoredRequest(owner: "", key: "k", route: route, body: Array(SecurityTests.completion.utf8), client: "c")
  }

  private static func claim(_ request: StoredRequest, _ journal: Journal) async throws -> RequestClaim {
    try await journal.claim(
      owner: request.owner, key: request.key, route: request.route, body: request.body, client: request.client, now: 1)
  }

  private static func answer(
    _ request: StoredRequest, _ accepted: AcceptedRequests, _ environment: GatewayEnvironment
  ) -> Task<(status: Int, body: [UInt8]), any Error> {
    Task {
      try await accepted.answer(
        request, deadline: nil, trace: TraceContext(traceparent: nil, requestID: nil), environment: environment)
    }
  }

  @Test("an answer that cannot be written down waits for room; then its key has it")
  func settled() async throws {
    try await BatchRunnerTests.withEnvironment { environment, accepted in
      let request = Self.request()
      #expect(try await Self.claim(request, accepted.journal) == .run)
      let disk = try await FullDisk(accepted.journal, "UPDATE ON request")
      let answer = Self.answer(request, accepted, environment)
      try await ConnectionTests.eventually { disk.attempts >= 1 }
      disk.makeRoom()
      let (status, body) = try await answer.value
      #expect(status == 200 && disk.attempts >= 2)
      #expect(try await Self.claim(request, accepted.journal) == .answered(status: 200, body: body))
    }
  }

  @Test("a key whose request failed is free by the time its client hears of that")
  func forgotten() async throws {
    try await BatchRunnerTests.withEnvironment { environment, accepted in
      // Fails on our side, before anything is computed.
      let request = Self.request("/none")
      #expect(try await Self.claim(request, accepted.journal) == .run)
      let disk = try await FullDisk(accepted.journal, "DELETE ON request")
      let answer = Self.answer(request, accepted, environment)
      try await ConnectionTests.eventually { disk.attempts >= 1 }
      disk.makeRoom()
      await #expect(throws: FusionRouteError.self) { _ = try await answer.value }
      #expect(try await Self.claim(request, accepted.journal) == .run)
    }
  }

  @Test("so is one that a process before this has left")
  func resumed() async throws {
    try await BatchRunnerTests.withEnvironment { environment, accepted in
      let request = Self.request("/none")
      #expect(try await Self.claim(request, accepted.journal) == .run)
      let disk = try await FullDisk(accepted.journal, "DELETE ON request")
      try await accepted.resume(environment)
      try await ConnectionTests.eventually { disk.attempts >= 1 }
      #expect(try await Self.claim(request, accepted.journal) == .pending)
      disk.makeRoom()
      try await ConnectionTests.eventually { try await Self.claim(request, accepted.journal) == .run }
    }
  }

  @Test("a batch's answer that cannot be written down is not computed again")
  func recorded() async throws {
    try await BatchRunnerTests.withEnvironment { environment, accepted in
      let tokens = 40
      let batch = try await BatchRunnerTests.add([BatchRunnerTests.long(tokens)], to: accepted.journal)
      let disk = try await FullDisk(accepted.journal, "UPDATE ON item")
      try await BatchRunnerTests.whileRunning(environment, accepted) {
        let evaluated = { environment.coordinator.status().router.evaluatedTokens }
        try await ConnectionTests.eventually { disk.attempts >= 1 }
        let before = evaluated()
        try await ConnectionTests.eventually { disk.attempts >= 3 }
        #expect(evaluated() - before < tokens)
        disk.makeRoom()
        try await ConnectionTests.eventually {
          try await BatchRunnerTests.life(batch, in: accepted.journal).status == .completed
        }
      }
    }
  }
}
