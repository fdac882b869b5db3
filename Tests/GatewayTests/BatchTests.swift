import Core
import Foundation
import Journal
import TestSupport
import Testing

@testable import Gateway

/// `/v1/files`, `/v1/batches` and idempotency keys, over HTTP against a real cluster.
@Suite(.serialized) struct BatchTests {
  static func withBatches<R>(
    _ scratch: Scratch, configure: (inout GatewayConfiguration) -> Void = { _ in },
    _ body: (TestGateway) async throws -> R
  ) async throws -> R {
    try await withGateway(
      configure: {
        $0.journal = scratch.path("journal.db")
        configure(&$0)
      }, body)
  }

  /// Uploads a file as `multipart/form-data`.
  static func upload(
    _ gateway: TestGateway, _ text: String, purpose: String = "batch", headers: [String: String] = [:]
  ) async throws -> TestGateway.Answer {
    let boundary = "x-\(UInt32.random(in: 0...UInt32.max))"
    let form =
      "--\(boundary)\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n\(purpose)\r\n"
      + "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n"
      + "Content-Type: application/octet-stream\r\n\r\n\(text)\r\n--\(boundary)--\r\n"
    return try await gateway.send(
      "POST", "/v1/files",
      headers: ["content-type": "multipart/form-data; boundary=\(boundary)"].merging(headers) { $1 },
      body: Array(form.utf8))
  }

  static func line(_ id: String, _ body: String, url: String = "/v1/completions") -> String {
    #"{"custom_id":"\#(id)","method":"POST","url":"\#(url)","body":\#(body)}"#
  }

  static func create(
    _ gateway: TestGateway, file: String, endpoint: String = "/v1/completions", more: String = ""
  ) async throws -> TestGateway.Answer {
    try await gateway.post(
      "/v1/batches",
      #"{"input_file_id":"\#(file)","endpoint":"\#(endpoint)","completion_window":"24h"\#(more)}"#)
  }

  static func wait(_ gateway: TestGateway, _ batch: String) async throws -> TestGateway.Answer {
    for _ in 0..<3_000 {
      let answer = try await gateway.get("/v1/batches/\(batch)")
      if ["completed", "failed", "cancelled", "expired"].contains(try answer.string("status") ?? "") { return answer }
      try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("the batch does not end")
    throw CancellationError()
  }

  private static func lines(_ gateway: TestGateway, _ file: String?) async throws -> [[String: Any]] {
    guard let file else { return [] }
    let answer = try await gateway.get("/v1/files/\(file)/content")
    #expect(answer.status == 200)
    return try answer.text.split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test("a batch gives each request the answer that it has on its own, good and bad, in the order of the file")
  func batch() async throws {
    let scratch = try Scratch("batch")
    try await Self.withBatches(scratch) { gateway in
      let bodies = (0..<12).map {
        $0 == 5
          ? #"{"prompt":"it is","max_tokens":-1}"#
          : #"{"prompt":"it is","max_tokens":8,"temperature":0.9,"seed":\#($0)}"#
      }
      let input = bodies.enumerated().map { Self.line("r-\($0)", $1) }.joined(separator: "\n")
      let uploaded = try await Self.upload(gateway, input + "\n")
      #expect(uploaded.status == 200, "\(uploaded.text)")
      let file = try #require(try uploaded.string("id"))
      #expect(try uploaded.string("purpose") == "batch" && uploaded.json("bytes") as? Int == input.utf8.count + 1)
      #expect(try uploaded.string("filename") == "in.jsonl")
      let created = try await Self.create(gateway, file: file, more: #","metadata":{"who":"me \"quoted\""}"#)
      #expect(try created.status == 200 && created.string("status") == "validating", "\(created.text)")
      let batch = try await Self.wait(gateway, try #require(try created.string("id")))
      #expect(try batch.string("status") == "completed", "\(batch.text)")
      #expect(try batch.string("metadata", "who") == "me \"quoted\"")
      #expect(try batch.json("request_counts", "total") as? Int == 12)
      #expect(try batch.json("request_counts", "completed") as? Int == 11)
      #expect(try batch.json("request_counts", "failed") as? Int == 1)
      let good = try await Self.lines(gateway, try batch.string("output_file_id"))
      #expect(good.compactMap { $0["custom_id"] as? String } == (0..<12).filter { $0 != 5 }.map { "r-\($0)" })
      for line in good {
        let id = try #require(line["custom_id"] as? String)
        let response = try #require(line["response"] as? [String: Any])
        #expect(response["status_code"] as? Int == 200 && line["error"] is NSNull)
        let body = try #require(response["body"] as? [String: Any])
        let text = (body["choices"] as? [[String: Any]])?.first?["text"] as? String
        let alone = try await gateway.post(CompletionTests.path, bodies[Int(id.dropFirst(2)) ?? 0])
        #expect(try text == alone.string("choices", 0, "text"), "\(id)")
      }
      let bad = try await Self.lines(gateway, try batch.string("error_file_id"))
      #expect(bad.count == 1 && bad[0]["custom_id"] as? String == "r-5")
      #expect((bad[0]["response"] as? [String: Any])?["status_code"] as? Int == 400)
      let metrics = try await gateway.get("/metrics").text
      for line in [
        "fusionroute_batches_accepted_total 1", #"fusionroute_batch_items_total{outcome="finished"} 11"#,
        #"fusionroute_batch_items_total{outcome="failed"} 1"#, "fusionroute_batch_items_running 0",
        "fusionroute_batch_items_waiting 0",
      ] { #expect(metrics.contains(line + "\n"), "\(line)") }
      #expect(metrics.contains(/fusionroute_journal_bytes [1-9]/))
      // Lists, newest first, and what is gone is gone.
      let list = try await gateway.get("/v1/batches?limit=1")
      #expect(try list.string("data", 0, "id") == batch.string("id") && list.json("has_more") as? Bool == false)
      #expect(try await gateway.send("DELETE", "/v1/files/\(file)", body: nil).json("deleted") as? Bool == true)
      #expect(try await gateway.get("/v1/files/\(file)").status == 404)
      #expect(try await gateway.get("/v1/files").text.contains(file) == false)
    }
  }

  @Test("a file with mistakes ends its batch with every line that is wrong")
  func badInput() async throws {
    let scratch = try Scratch("badbatch")
    try await Self.withBatches(scratch) { gateway in
      let lines = [
        Self.line("a", "{}"), "not json", Self.line("a", "{}"), Self.line("b", "{}", url: "/v1/chat/completions"),
        #"{"method":"POST","url":"/v1/completions","body":{}}"#, "",
        #"{"custom_id":"c","method":"GET","url":"/v1/completions","body":{}}"#,
        #"{"custom_id":"d","method":"POST","url":"/v1/completions","body":[]}"#,
      ]
      let file = try #require(try await Self.upload(gateway, lines.joined(separator: "\n")).string("id"))
      let batch = try await Self.wait(gateway, try #require(try await Self.create(gateway, file: file).string("id")))
      #expect(try batch.string("status") == "failed")
      let problems = try #require(try batch.json("errors", "data") as? [[String: Any]])
      #expect(problems.compactMap { $0["line"] as? Int } == [2, 3, 4, 5, 7, 8])
      #expect(
        problems.compactMap { $0["code"] as? String } == [
          "invalid_json_line", "duplicate_custom_id", "mismatched_url", "invalid_custom_id", "invalid_method",
          "missing_body",
        ])
      let empty = try #require(try await Self.upload(gateway, "\n\n").string("id"))
      let none = try await Self.wait(gateway, try #require(try await Self.create(gateway, file: empty).string("id")))
      #expect(try none.string("errors", "data", 0, "code") == "empty_file")
    }
  }

  @Test("requests that cannot be are refused with the field that is wrong")
  func refused() async throws {
    let scratch = try Scratch("refused")
    try await Self.withBatches(scratch) { gateway in
      let file = try #require(try await Self.upload(gateway, Self.line("a", "{}")).string("id"))
      for (body, param) in [
        (#"{"endpoint":"/v1/completions","completion_window":"24h"}"#, "input_file_id"),
        (#"{"input_file_id":"\#(file)","endpoint":"/v1/embeddings","completion_window":"24h"}"#, "endpoint"),
        (#"{"input_file_id":"\#(file)","endpoint":"/v1/completions","completion_window":"1h"}"#, "completion_window"),
        (#"{"input_file_id":"file-x","endpoint":"/v1/completions","completion_window":"24h"}"#, "input_file_id"),
        (
          #"{"input_file_id":"\#(file)","endpoint":"/v1/completions","completion_window":"24h","metadata":{"a":1}}"#,
          "metadata.a"
        ),
      ] {
        let answer = try await gateway.post("/v1/batches", body)
        #expect(try answer.status == 400 && answer.string("error", "param") == param, "\(answer.text)")
      }
      #expect(try await Self.upload(gateway, "x", purpose: "fine-tune").string("error", "param") == "purpose")
      let plain = try await gateway.post("/v1/files", "{}")
      #expect(plain.status == 415)
      let torn = try await gateway.send(
        "POST", "/v1/files", headers: ["content-type": "multipart/form-data; boundary=x"], body: Array("--x\r\n".utf8))
      #expect(try torn.status == 400 && torn.string("error", "code") == "invalid_form")
      for path in ["/v1/files/file-x", "/v1/files/file-x/content", "/v1/batches/batch_x"] {
        #expect(try await gateway.get(path).status == 404)
      }
      #expect(try await gateway.post("/v1/batches/batch_x/cancel", "").status == 404)
      for (path, param) in [
        ("/v1/batches?limit=0", "limit"), ("/v1/batches?after=batch_x", "after"), ("/v1/files?after=file-x", "after"),
        ("/v1/files?order=newest", "order"),
      ] {
        let answer = try await gateway.get(path)
        #expect(try answer.status == 400 && answer.string("error", "param") == param, "\(path): \(answer.text)")
      }
      #expect(try await gateway.get("/v1/files?order=asc").status == 200)
      #expect(try await gateway.get("/v1/files?order=desc").status == 200)
    }
    try await withGateway { gateway in
      let answer = try await gateway.get("/v1/batches")
      #expect(try answer.status == 404 && answer.string("error", "code") == "journal_disabled")
    }
  }

  @Test("a cancelled batch keeps the answers it has and names the rest; files and batches are their key's alone")
  func cancelAndOwners() async throws {
    let scratch = try Scratch("cancel")
    let keys = scratch.path("keys")
    let (ada, bob) = try APIKeyFile.update(keys, create: true) { (try $0.add("ada"), try $0.add("bob")) }
    try await Self.withBatches(
      scratch,
      configure: {
        $0.apiKeys = keys
        $0.batchConcurrency = 1
      }
    ) { gateway in
      let mine = ["authorization": "Bearer \(ada)"]
      let theirs = ["authorization": "Bearer \(bob)"]
      let input = (0..<200).map { Self.line("r\($0)", #"{"prompt":"it is","max_tokens":100,"seed":1}"#) }
      let file = try #require(
        try await Self.upload(gateway, input.joined(separator: "\n"), headers: mine).string("id"))
      let body = #"{"input_file_id":"\#(file)","endpoint":"/v1/completions","completion_window":"24h"}"#
      #expect(try await gateway.post("/v1/batches", body, headers: theirs).status == 400)
      let id = try #require(try await gateway.post("/v1/batches", body, headers: mine).string("id"))
      for _ in 0..<2_000 {
        let batch = try await gateway.get("/v1/batches/\(id)", headers: mine)
        if (try batch.json("request_counts", "completed") as? Int ?? 0) >= 2 { break }
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(try await gateway.get("/v1/batches/\(id)", headers: theirs).status == 404)
      #expect(try await gateway.post("/v1/batches/\(id)/cancel", "", headers: theirs).status == 404)
      let cancelled = try await gateway.post("/v1/batches/\(id)/cancel", "", headers: mine)
      #expect(try cancelled.string("status") == "cancelling", "\(cancelled.text)")
      var batch = cancelled
      for _ in 0..<2_000 where try batch.string("status") != "cancelled" {
        try await Task.sleep(for: .milliseconds(10))
        batch = try await gateway.get("/v1/batches/\(id)", headers: mine)
      }
      #expect(try batch.string("status") == "cancelled", "\(batch.text)")
      var names: [String] = []
      for (field, isAnswered) in [("output_file_id", true), ("error_file_id", false)] {
        let content = try await gateway.get(
          "/v1/files/\(try #require(try batch.string(field)))/content", headers: mine)
        for text in content.text.split(separator: "\n") {
          let line = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
          names.append(line["custom_id"] as? String ?? "")
          #expect((line["error"] as? [String: Any])?["code"] as? String == (isAnswered ? nil : "batch_cancelled"))
        }
      }
      #expect(Set(names) == Set((0..<200).map { "r\($0)" }) && names.count == 200)
      let again = try await gateway.post("/v1/batches/\(id)/cancel", "", headers: mine)
      #expect(again.status == 200)
      #expect(try await gateway.get("/v1/files", headers: theirs).json("data") as? [String] == [])
    }
  }

  @Test("an idempotency key gives one answer however often it is sent, and no other request has it")
  func idempotency() async throws {
    let scratch = try Scratch("idem")
    try await Self.withBatches(scratch) { gateway in
      let key = ["idempotency-key": "k-1"]
      // No seed: computed twice, it would be another answer.
      let body = #"{"prompt":"it is","max_tokens":30,"temperature":1.5}"#
      let first = try await gateway.post(CompletionTests.path, body, headers: key)
      #expect(first.status == 200 && first.headers["idempotent-replayed"] == nil)
      for _ in 0..<3 {
        let again = try await gateway.post(CompletionTests.path, body, headers: key)
        #expect(again.body == first.body && again.headers["idempotent-replayed"] == "true")
      }
      let other = try await gateway.post(CompletionTests.path, #"{"prompt":"no"}"#, headers: key)
      #expect(try other.status == 422 && other.string("error", "code") == "idempotency_key_reused")
      // Many at once: one runs, the others are told to wait or get its answer.
      let answers = try await withThrowingTaskGroup(of: TestGateway.Answer.self) { group in
        for _ in 0..<8 {
          group.addTask { try await gateway.post(CompletionTests.path, body, headers: ["idempotency-key": "k-2"]) }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      let good = answers.filter { $0.status == 200 }
      #expect(!good.isEmpty && Set(good.map(\.body)).count == 1)
      #expect(answers.allSatisfy { $0.status == 200 || $0.status == 409 })
      for bad in ["", String(repeating: "x", count: 256)] {
        #expect(try await gateway.post(CompletionTests.path, body, headers: ["idempotency-key": bad]).status == 400)
      }
    }
  }
}

@Suite struct MultipartTests {
  @Test func forms() throws {
    let body = Array(
      "preamble\r\n--b c\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--b c\r\n\r\n".utf8)
    #expect(throws: (any Error).self) { try Multipart(body, contentType: "multipart/form-data; boundary=\"b c\"") }
    let form = Array(
      ("--xyz \r\ncontent-disposition: form-data; name=\"a\"\r\n\r\none\r\n"
        + "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\n"
        + "Content-Type: text/plain\r\n\r\nline\r\n--xy\r\n\r\n--xyz\r\n"
        + "Content-Disposition: form-data; name=empty\r\n\r\n\r\n--xyz--\r\nrest").utf8)
    let parts = try Multipart(form, contentType: "Multipart/Form-Data; charset=utf-8; boundary=xyz")
    #expect(parts.parts.map(\.name) == ["a", "file", "empty"])
    #expect(parts.part("file")?.filename == "a \"b\".jsonl" && parts.part("a")?.filename == nil)
    #expect(
      parts.parts.map { String(decoding: form[$0.content], as: UTF8.self) } == ["one", "line\r\n--xy\r\n", ""])
  }

  @Test("damaged forms: parts that lie within the body, or an error")
  func damaged() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("damaged forms: seed \(seed)")
    var random = SplitMix64(seed: seed)
    let original = Array(
      ("--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\n"
        + "Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{\"a\": 1}\r\n--xyz--\r\n").utf8)
    var accepted = 0
    for _ in 0..<20_000 {
      var body = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<body.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: body.removeSubrange(at...)
        case 1: body.remove(at: at)
        case 2: body.insert(contentsOf: Array("--xyz\r\n".utf8), at: at)
        default: body[at] = UInt8(truncatingIfNeeded: random.next())
        }
        if body.isEmpty { break }
      }
      guard let form = try? Multipart(body, contentType: "multipart/form-data; boundary=xyz") else { continue }
      accepted += 1
      #expect(form.parts.count <= Multipart.maximumParts, "seed \(seed)")
      for part in form.parts { #expect(body.indices.covers(part.content) || part.content.isEmpty, "seed \(seed)") }
    }
    #expect((500..<19_500).contains(accepted))
  }
}

extension Range<Int> {
  fileprivate func covers(_ other: Range<Int>) -> Bool {
    other.lowerBound >= lowerBound && other.upperBound <= upperBound
  }
}

@Suite struct BatchScheduleTests {
  @Test("random batches: never more at once than allowed, no item twice, all in turn, and everything ends")
  func anySchedule() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("batch schedule: seed \(seed)")
    var random = SplitMix64(seed: seed)
    for _ in 0..<300 {
      let concurrency = Int.random(in: 1...5, using: &random)
      var schedule = BatchSchedule(concurrency: concurrency)
      let sizes = (0..<Int.random(in: 1...4, using: &random)).map { _ in Int.random(in: 1...12, using: &random) }
      var lives = sizes.map { _ in BatchLife(created: 0, window: 1_000) }
      var running: [(batch: Int, item: Int)] = []
      var started = sizes.map { _ in Set<Int>() }
      var steps = 0
      while lives.contains(where: { !$0.status.isFinal }) {
        steps += 1
        guard steps < 2_000 else {
          Issue.record("seed \(seed): it goes on and on")
          return
        }
        let open = lives.indices.filter { !lives[$0].status.isFinal }
        if let any = open.randomElement(using: &random), Int.random(in: 0..<40, using: &random) == 0 {
          _ = lives[any].apply(.cancel, now: 1)
        }
        schedule.update(open.map { ("\($0)", lives[$0]) })
        for batch in open {
          switch schedule.work(on: "\(batch)") {
          case .validate:
            _ = lives[batch].apply(.validated(items: sizes[batch]), now: 1)
            schedule.workEnded("\(batch)")
          case .finalize:
            #expect(!running.contains { $0.batch == batch }, "seed \(seed): items of it still run")
            _ = lives[batch].apply(.finalized, now: 1)
            schedule.workEnded("\(batch)")
          case nil: break
          }
        }
        while let turn = schedule.next() {
          guard let batch = Int(turn.batch) else { break }
          #expect(lives[batch].startsItems || lives[batch].awaitsFinalization, "seed \(seed)")
          guard turn.from < sizes[batch] else {
            schedule.exhausted(turn.batch)
            continue
          }
          schedule.started(turn.from, of: turn.batch)
          #expect(started[batch].insert(turn.from).inserted, "seed \(seed): an item runs twice")
          running.append((batch, turn.from))
          #expect(running.count <= concurrency, "seed \(seed)")
        }
        if !running.isEmpty {
          let end = running.remove(at: Int.random(in: 0..<running.count, using: &random))
          _ = lives[end.batch].apply(.itemEnded(succeeded: true), now: 1)
          schedule.itemEnded(end.item, of: "\(end.batch)")
        }
      }
      for (batch, life) in lives.enumerated() where life.status == .completed {
        #expect(started[batch].count == sizes[batch], "seed \(seed)")
      }
    }
  }
}

@Suite struct BatchKillTests {
  @Test(
    "a coordinator killed three times in a batch of 30: every request ends once, with the same answer",
    .enabled(if: ClientTests.python != nil, "Deploy/test installs the package"))
  func killed() async throws {
    let python = try #require(ClientTests.python)
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("BatchChecks/batch_kill.py")
    let arguments = [script.path, TestBinaries.url("fusionroute").path, "--kills", "3", "--requests", "30"]
    let (status, output, errors) = try await RawConnection.onThread {
      Result { try TestProcess.run(python, arguments) }
    }.get()
    print(String(decoding: output, as: UTF8.self))
    #expect(status == 0, "\(String(decoding: output, as: UTF8.self))\(errors)")
  }
}
