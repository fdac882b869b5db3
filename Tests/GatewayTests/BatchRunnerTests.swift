import Coordinator
import Core
import Journal
import Logging
import TestSupport
import Testing

@testable import Gateway

/// How batches come on: what is read when, and who may stop them.
@Suite(.serialized) struct BatchRunnerTests {
  /// Answers of so many tokens, none of which ends one early.
  static func long(_ tokens: Int) -> String {
    #"{"prompt":"the","max_tokens":\#(tokens),"temperature":0,"logit_bias":{"2":-100,"260":-100}}"#
  }

  /// A cluster, and what the requests of a gateway in front of it share.
  static func withEnvironment(
    configure: (inout GatewayConfiguration) -> Void = { _ in },
    _ body: (GatewayEnvironment, AcceptedRequests) async throws -> Void
  ) async throws {
    let scratch = try Scratch("runner")
    try await withCluster(GatewayModels.get(), scratch: scratch) { cluster in
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
      configuration.journal = scratch.path("journal.db")
      configure(&configuration)
      let environment = try GatewayEnvironment(
        configuration: configuration, coordinator: cluster.coordinator, logger: logger)
      let accepted = try #require(environment.accepted)
      try await body(environment, accepted)
    }
  }

  static func whileRunning(
    _ environment: GatewayEnvironment, _ accepted: AcceptedRequests, concurrency: Int = 1,
    _ body: () async throws -> Void
  ) async throws {
    let running = Task { await accepted.runner.run(environment, concurrency: concurrency) }
    let result: Result<Void, any Error>
    do { result = .success(try await body()) } catch { result = .failure(error) }
    running.cancel()
    await running.value
    try result.get()
  }

  /// A batch of such requests; its id.
  static func add(_ bodies: [String], owner: String = "", to journal: Journal) async throws -> String {
    let input = bodies.enumerated().map { BatchTests.line("r\($0)", $1) }.joined(separator: "\n")
    let now = UnixTime.now.seconds
    let file = try await journal.addFile(
      owner: owner, name: "in.jsonl", purpose: "batch", contents: Array(input.utf8), now: now)
    let batch = try await journal.addBatch(
      owner: owner, endpoint: CompletionTests.path, inputFile: file.id, metadata: nil, window: 86_400,
      outputLifetime: nil, now: now)
    return batch.id
  }

  static func life(_ batch: String, owner: String = "", in journal: Journal) async throws -> BatchLife {
    try #require(try await journal.batch(batch, owner: owner)).life
  }

  @Test("many batches at once: each input is read, one after the other, and every batch ends")
  func inputs() async throws {
    try await Self.withEnvironment { environment, accepted in
      var ids: [String] = []
      // Without a prompt, so that nothing is computed.
      for _ in 0..<20 { ids.append(try await Self.add(["{}"], to: accepted.journal)) }
      try await Self.whileRunning(environment, accepted) {
        try await ConnectionTests.eventually { try await accepted.journal.openBatches().isEmpty }
      }
      for id in ids { #expect(try await Self.life(id, in: accepted.journal).status == .completed) }
    }
  }

  @Test("batches of an API key that was revoked are cancelled, those of others go on")
  func revoked() async throws {
    let scratch = try Scratch("revoked")
    let keys = scratch.path("keys")
    _ = try APIKeyFile.update(keys, create: true) { (try $0.add("ada"), try $0.add("bob")) }
    try await Self.withEnvironment(configure: { $0.apiKeys = keys }) { environment, accepted in
      let journal = accepted.journal
      let ada = try await Self.add(Array(repeating: Self.long(100), count: 200), owner: "ada", to: journal)
      let bob = try await Self.add(Array(repeating: Self.long(10), count: 3), owner: "bob", to: journal)
      try await Self.whileRunning(environment, accepted) {
        try await ConnectionTests.eventually { try await Self.life(ada, owner: "ada", in: journal).completed >= 1 }
        try APIKeyFile.update(keys, create: false) { try $0.revoke("ada") }
        accepted.runner.wake()
        try await ConnectionTests.eventually {
          try await Self.life(ada, owner: "ada", in: journal).status == .cancelled
        }
        #expect(try await Self.life(ada, owner: "ada", in: journal).completed < 200)
        try await ConnectionTests.eventually {
          try await Self.life(bob, owner: "bob", in: journal).status == .completed
        }
        #expect(try await Self.life(bob, owner: "bob", in: journal).completed == 3)
      }
    }
  }

  @Test("a batch for whose requests the journal has no room is refused at once")
  func noRoom() async throws {
    let scratch = try Scratch("room")
    try await BatchTests.withBatches(scratch, configure: { $0.journalBytes = 400_000 }) { gateway in
      let prompt = String(repeating: "x", count: 250_000)
      let uploaded = try await BatchTests.upload(gateway, BatchTests.line("a", #"{"prompt":"\#(prompt)"}"#))
      let file = try #require(try uploaded.string("id"), "\(uploaded.text)")
      let refused = try await BatchTests.create(gateway, file: file)
      #expect(try refused.status == 413 && refused.string("error", "code") == "storage_full", "\(refused.text)")
    }
  }
}

@Suite struct BatchInputTests {
  @Test("inputs are read one at a time, also where one cannot be, and all of them get their turn")
  func turns() {
    var schedule = BatchSchedule(concurrency: 4)
    var lives = (0..<20).map { _ in BatchLife(created: 0, window: 1_000) }
    var reading: [Int] = []
    var resting: [Int] = []
    for round in 0..<400 {
      schedule.update(lives.enumerated().map { ("\($0)", $1) })
      for batch in lives.indices where schedule.work(on: "\(batch)") == .validate { reading.append(batch) }
      #expect(reading.count <= 1, "round \(round): two inputs are read at once")
      // A batch that could not be read rests before it is tried again; others do not wait for that.
      if round % 8 == 0, let batch = resting.popLast() { schedule.workEnded("\(batch)") }
      guard round % 2 == 1, let batch = reading.popLast() else { continue }
      schedule.readingEnded("\(batch)")
      if round % 3 == 0 {
        resting.append(batch)
      } else {
        _ = lives[batch].apply(.validated(items: 1), now: 1)
        schedule.workEnded("\(batch)")
      }
    }
    #expect(lives.allSatisfy { $0.status == .inProgress }, "\(lives.map(\.status))")
  }

  @Test("a file of empty lines has no requests, however many they are")
  func emptyLines() {
    do throws(BatchInput.Refused) {
      _ = try BatchInput.items(
        [UInt8](repeating: 0x0A, count: 8 << 20), endpoint: CompletionTests.path, maximumBody: 1_000)
      Issue.record("a file without requests was taken")
    } catch {
      #expect(error.problems.map(\.code) == ["empty_file"])
    }
  }

  @Test("lines are counted as editors do, with and without a line feed at the end")
  func numbers() {
    for end in ["", "\n", "\n\n"] {
      do throws(BatchInput.Refused) {
        _ = try BatchInput.items(
          Array("\n\(BatchTests.line("a", "{}"))\n\r\nx\(end)".utf8), endpoint: CompletionTests.path, maximumBody: 100)
        Issue.record("a line that is no JSON was taken")
      } catch {
        #expect(error.problems.map(\.line) == [4] && error.problems.map(\.code) == ["invalid_json_line"])
      }
    }
  }

  @Test("custom_ids are told apart by their bytes")
  func equivalent() throws {
    let names = ["\u{e9}", "e\u{301}"]
    let text = names.map { BatchTests.line($0, "{}") }.joined(separator: "\n")
    let items = try BatchInput.items(Array(text.utf8), endpoint: CompletionTests.path, maximumBody: 100)
    #expect(items.map { Array($0.customID.utf8) } == names.map { Array($0.utf8) })
  }
}
