import Core
import Synchronization
import Testing

@testable import fusionroute

/// Whose scores are kept as an expert's.
@Suite struct ExpertScoringTests {
  private static let (old, new) = (SHA256Digest(hashing: [UInt8(1)]), SHA256Digest(hashing: [UInt8(2)]))

  /// Asks an expert that is served with the first of these models, and with the next one after each answer.
  ///
  /// - Returns: the number of the answer that counts.
  private func ask(_ models: [SHA256Digest?]) async throws -> Int {
    let asked = Mutex(0)
    return try await ExpertScoring.asking(
      "ant", of: Self.old, served: { models[min(asked.withLock { $0 }, models.count - 1)] }
    ) {
      asked.withLock {
        $0 += 1
        return $0
      }
    }
  }

  @Test func answersOfTheModelCount() async throws {
    #expect(try await ask([Self.old, Self.old]) == 1)
    // A replica that is started again is waited for.
    #expect(try await ask([nil, Self.old]) == 1)
    // Who has answered cannot be known once nobody is there.
    #expect(try await ask([Self.old, nil, Self.old]) == 2)
    #expect(try await ask([Self.old, nil, nil, Self.old]) == 3)
  }

  @Test func answersOfAnotherModelDoNot() async throws {
    let (old, new) = (Self.old, Self.new)
    let cases: [[SHA256Digest?]] = [[new], [old, new], [new, old], [nil, new], [old, nil, new]]
    for models in cases {
      let error = await #expect(throws: FusionRouteError.self, "\(models)") { _ = try await ask(models) }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("\"ant\" has another model") == true, "\(error?.message ?? "")")
    }
    let lost = await #expect(throws: FusionRouteError.self) { _ = try await ask([old, nil]) }
    #expect(lost?.code == .unavailable && lost?.message.contains("loses its replicas") == true)
  }
}
