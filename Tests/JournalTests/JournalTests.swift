import Core
import Foundation
import Logging
import Testing

@testable import Journal

@Suite struct JournalTests {
  /// A directory of its own, removed at the end.
  private final class Scratch {
    let path: String

    init() throws {
      path = FileManager.default.temporaryDirectory.appendingPathComponent("fr-" + UUID().uuidString.prefix(8)).path
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func open(_ limits: JournalLimits = JournalLimits()) throws -> Journal {
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      return try Journal(path: path + "/journal.db", limits: limits, logger: logger)
    }
  }

  private static func failure(_ body: () async throws -> Void) async -> FusionRouteError? {
    do {
      try await body()
      return nil
    } catch { return error as? FusionRouteError }
  }

  private static func begun(_ journal: Journal, items: Int, owner: String = "ann") async throws -> StoredBatch {
    let file = try await journal.addFile(
      owner: owner, name: "in.jsonl", purpose: "batch", contents: [1], now: 100)
    let batch = try await journal.addBatch(
      owner: owner, endpoint: "/v1/completions", inputFile: file.id, metadata: nil, window: 1_000, outputLifetime: nil,
      now: 100)
    try await journal.begin(
      batch.id, items: (0..<items).map { BatchItem(number: $0, customID: "c\($0)", body: [UInt8($0)]) }, now: 101)
    return batch
  }

  private static func text(_ id: String?, _ journal: Journal) async throws -> String {
    var bytes: [UInt8] = []
    var number = 0
    while let id, let part = try await journal.part(number, of: id) {
      bytes += part
      number += 1
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func filesComeBackWholeAndBelongToTheirOwner() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    var random = SplitMix64(seed: 4)
    let contents = (0..<2_500_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    let file = try await journal.addFile(owner: "ann", name: "a", purpose: "batch", contents: contents, now: 5)
    let empty = try await journal.addFile(owner: "ann", name: "b", purpose: "batch", contents: [], now: 6)
    #expect(try await journal.part(0, of: empty.id) == nil)
    var read: [UInt8] = []
    var number = 0
    while let part = try await journal.part(number, of: file.id) {
      read += part
      number += 1
    }
    #expect(read == contents && number == 3)
    #expect(try await journal.file(file.id, owner: "ann") == file)
    #expect(try await journal.file(file.id, owner: "bob") == nil)
    #expect(try await journal.deleteFile(file.id, owner: "bob") == false)
    #expect(try await journal.files(owner: "ann", limit: 10).files.map(\.id) == [empty.id, file.id])
    let page = try await journal.files(owner: "ann", limit: 1)
    #expect(page.files.map(\.id) == [empty.id] && page.hasMore)
    #expect(try await journal.files(owner: "ann", after: empty.id, limit: 1).files.map(\.id) == [file.id])
    // Who deletes what they list must not take the rest for nothing.
    #expect(try await journal.deleteFile(empty.id, owner: "ann"))
    let lost = await Self.failure { _ = try await journal.files(owner: "ann", after: empty.id, limit: 1) }
    #expect(lost?.code == .badInput && lost?.message.contains(empty.id) == true)
    let others = await Self.failure { _ = try await journal.files(owner: "bob", after: file.id, limit: 1) }
    #expect(others?.code == .badInput)
    let none = await Self.failure { _ = try await journal.batches(owner: "ann", after: "batch_x", limit: 1) }
    #expect(none?.code == .badInput)
    #expect(try await journal.deleteFile(file.id, owner: "ann"))
    #expect(try await journal.part(0, of: file.id) == nil)
  }

  @Test func eachItemHasOneResult() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    let batch = try await Self.begun(journal, items: 3)
    // Many at once, as after a crash in the middle of recording.
    let counted = try await withThrowingTaskGroup(of: Bool.self) { group in
      for attempt in 0..<20 {
        group.addTask {
          try await journal.record(
            1, of: batch.id, succeeded: true, line: Array("attempt \(attempt)".utf8), now: 102)
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(counted == 1)
    #expect(try await journal.waitingItems(of: batch.id, from: 0, limit: 9).map(\.number) == [0, 2])
    #expect(try await journal.record(7, of: batch.id, succeeded: true, line: [], now: 102) == false)
    _ = try await journal.record(0, of: batch.id, succeeded: false, line: Array("bad".utf8), now: 103)
    _ = try await journal.record(2, of: batch.id, succeeded: true, line: Array("two".utf8), now: 104)
    let full = try #require(await journal.batch(batch.id, owner: "ann"))
    #expect(full.life.status == .finalizing && full.life.completed == 2 && full.life.failed == 1)
    try await journal.finalize(batch.id, now: 105) { _ in [] }
    try await journal.finalize(batch.id, now: 106) { _ in [] }
    let done = try #require(await journal.batch(batch.id, owner: "ann"))
    #expect(done.life.status == .completed && done.life.times[.completed] == 105)
    let output = try await Self.text(done.outputFile, journal)
    #expect(output.split(separator: "\n").count == 2 && output.hasPrefix("attempt ") && output.hasSuffix("\ntwo\n"))
    #expect(try await Self.text(done.errorFile, journal) == "bad\n")
    #expect(try await journal.files(owner: "ann", purpose: "batch_output", limit: 9).files.count == 2)
    #expect(try await journal.openBatches().isEmpty)
  }

  @Test func cancelledAndLateBatchesTellWhatTheyHave() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    for (event, status) in [(BatchLife.Event.cancel, BatchLife.Status.cancelled), (.windowEnded, .expired)] {
      let batch = try await Self.begun(journal, items: 3)
      _ = try await journal.record(1, of: batch.id, succeeded: true, line: Array("one".utf8), now: 102)
      try await journal.apply(event, to: batch.id, now: 103)
      let counts = try await journal.record(2, of: batch.id, succeeded: true, line: Array("two".utf8), now: 104)
      #expect(counts == (event == .cancel))
      try await journal.finalize(batch.id, now: 105) { Array("never: \($0)".utf8) }
      let done = try #require(await journal.batch(batch.id, owner: "ann"))
      #expect(done.life.status == status)
      #expect(try await Self.text(done.outputFile, journal) == (counts ? "one\ntwo\n" : "one\n"))
      #expect(
        try await Self.text(done.errorFile, journal) == (counts ? "never: c0\n" : "never: c0\nnever: c2\n"))
    }
  }

  @Test func everythingIsThereAgainAfterReopening() async throws {
    let scratch = try Scratch()
    var id = ""
    do {
      let journal = try scratch.open()
      id = try await Self.begun(journal, items: 2).id
      _ = try await journal.record(0, of: id, succeeded: true, line: Array("zero".utf8), now: 102)
      #expect(
        try await journal.claim(owner: "", key: "k1", route: "/r", body: [1, 2], client: "c", now: 1) == .run)
      #expect(
        try await journal.claim(owner: "", key: "k2", route: "/r", body: [3], client: "c", now: 2) == .run)
      #expect(try await journal.settle(owner: "", key: "k2", status: 200, answer: [9]))
    }
    let journal = try scratch.open()
    #expect(try await journal.openBatches().map(\.id) == [id])
    #expect(try await journal.waitingItems(of: id, from: 0, limit: 9).map(\.customID) == ["c1"])
    let left = try await journal.unansweredRequests()
    #expect(left == [StoredRequest(owner: "", key: "k1", route: "/r", body: [1, 2], client: "c")])
    #expect(
      try await journal.claim(owner: "", key: "k2", route: "/r", body: [3], client: "c", now: 3)
        == .answered(status: 200, body: [9]))
  }

  @Test func idempotencyKeys() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    func claim(_ key: String, owner: String = "", route: String = "/r", body: [UInt8] = [1]) async throws
      -> RequestClaim
    {
      try await journal.claim(owner: owner, key: key, route: route, body: body, client: "c", now: 1)
    }
    #expect(try await claim("k") == .run)
    #expect(try await claim("k") == .pending)
    #expect(try await claim("k", body: [2]) == .mismatch)
    #expect(try await claim("k", route: "/other") == .mismatch)
    // Another owner's key is another key.
    #expect(try await claim("k", owner: "bob") == .run)
    try await journal.forget(owner: "", key: "k")
    #expect(try await claim("k") == .run)
    let counted = try await withThrowingTaskGroup(of: Bool.self) { group in
      for answer in 0..<10 {
        group.addTask { try await journal.settle(owner: "", key: "k", status: 200, answer: [UInt8(answer)]) }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(counted == 1)
    let first = try await claim("k")
    try await journal.forget(owner: "", key: "k")
    #expect(try await claim("k") == first)
  }

  @Test func limitsAndRetention() async throws {
    let scratch = try Scratch()
    var limits = JournalLimits()
    limits.bytes = 400_000
    limits.retention = 1_000
    limits.filesPerOwner = 3
    limits.openBatchesPerOwner = 1
    let journal = try scratch.open(limits)
    let large = await Self.failure {
      _ = try await journal.addFile(
        owner: "ann", name: "a", purpose: "batch", contents: [UInt8](repeating: 1, count: 400_000), now: 5)
    }
    #expect(large?.code == .storageFull)
    let batch = try await Self.begun(journal, items: 1)
    let second = await Self.failure {
      _ = try await journal.addBatch(
        owner: "ann", endpoint: "/", inputFile: batch.inputFile, metadata: nil, window: 10, outputLifetime: nil, now: 5)
    }
    #expect(second?.code == .storageFull)
    let none = await Self.failure {
      _ = try await journal.addBatch(
        owner: "bob", endpoint: "/", inputFile: batch.inputFile, metadata: nil, window: 10, outputLifetime: nil, now: 5)
    }
    #expect(none?.message == "there is no file \"\(batch.inputFile)\"")
    let needed = await Self.failure { _ = try await journal.deleteFile(batch.inputFile, owner: "ann") }
    #expect(needed?.code == .badInput)
    // Long after: what has not ended stays, with its input.
    try await journal.sweep(now: 10_000)
    #expect(try await journal.file(batch.inputFile, owner: "ann") != nil)
    _ = try await journal.record(0, of: batch.id, succeeded: true, line: [0x41], now: 10_000)
    try await journal.finalize(batch.id, now: 10_000) { _ in [] }
    try await journal.sweep(now: 10_500)
    #expect(try await journal.file(batch.inputFile, owner: "ann") == nil)
    #expect(try await journal.batch(batch.id, owner: "ann") != nil)
    try await journal.sweep(now: 11_001)
    #expect(try await journal.batch(batch.id, owner: "ann") == nil)
    #expect(try await journal.files(owner: "ann", limit: 9).files.isEmpty)
    let short = try await journal.addFile(
      owner: "ann", name: "a", purpose: "batch", contents: [1], lifetime: 10, now: 20_000)
    try await journal.sweep(now: 20_009)
    #expect(try await journal.file(short.id, owner: "ann") == short)
    try await journal.sweep(now: 20_010)
    #expect(try await journal.file(short.id, owner: "ann") == nil)
  }

  @Test func batchesNeedRoomForTheirRequests() async throws {
    let scratch = try Scratch()
    var limits = JournalLimits()
    limits.bytes = 400_000
    let journal = try scratch.open(limits)
    let file = try await journal.addFile(
      owner: "ann", name: "a", purpose: "batch", contents: [UInt8](repeating: 1, count: 250_000), now: 5)
    let batch = await Self.failure {
      _ = try await journal.addBatch(
        owner: "ann", endpoint: "/", inputFile: file.id, metadata: nil, window: 10, outputLifetime: nil, now: 5)
    }
    #expect(batch?.code == .storageFull)
    #expect(try await journal.openBatches().isEmpty)
  }

  @Test func whatWasDeletedLeavesRoom() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    let empty = try await journal.usedBytes()
    let size = 3_000_000
    let file = try await journal.addFile(
      owner: "ann", name: "a", purpose: "batch", contents: [UInt8](repeating: 1, count: size), now: 5)
    #expect(try await journal.usedBytes() >= empty + size)
    #expect(try await journal.deleteFile(file.id, owner: "ann"))
    #expect(try await journal.usedBytes() < empty + size / 10)
  }

  @Test func unusableFiles() async throws {
    let scratch = try Scratch()
    let journal = try scratch.open()
    // A second process; here a second connection.
    let busy = await Self.failure { _ = try scratch.open() }
    #expect(busy?.code == .unavailable && busy?.message.contains("in use by another process") == true)
    _ = journal.path
    let other = scratch.path + "/other.db"
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    try Data("this is no database, and it is long enough to be looked at as one".utf8)
      .write(to: URL(fileURLWithPath: other))
    chmod(other, 0o600)
    let rubbish = await Self.failure { _ = try Journal(path: other, logger: logger) }
    #expect(rubbish?.code == .badInput && rubbish?.message.contains("is no journal") == true)
    #expect(try String(contentsOfFile: other, encoding: .utf8).hasPrefix("this is no database"))
    chmod(other, 0o644)
    let open = await Self.failure { _ = try Journal(path: other, logger: logger) }
    #expect(open?.message.contains("chmod 600") == true)
    let missing = await Self.failure { _ = try Journal(path: scratch.path + "/none/j", logger: logger) }
    #expect(missing?.code == .badInput)
    let mode = try FileManager.default.attributesOfItem(atPath: scratch.path + "/journal.db")[.posixPermissions] as? Int
    #expect(mode == 0o600)
  }
}
