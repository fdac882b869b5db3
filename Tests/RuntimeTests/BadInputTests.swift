import Core
import Foundation
import Inference
import ModelFiles
import Testing

/// Every kind of bad input ends in one clear sentence and the right exit code.
extension ProcessSuites {
  @Suite(.serialized) struct BadInputTests {
    /// Runs to the end: the exit code, and one line on stderr that says why and contains all of `words`.
    static func expectRefused(
      _ arguments: [String], in scratch: Scratch, input: [UInt8] = [], code: Int32 = 65, words: [String],
      sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
      let program = try Program(arguments, in: scratch, input: input)
      let end = try await program.wait(sourceLocation: sourceLocation)
      #expect(end == .exit(code), "\(arguments): \(program.errors)", sourceLocation: sourceLocation)
      #expect(program.output.isEmpty, "\(arguments) printed \(program.output)", sourceLocation: sourceLocation)
      let lines = program.errors.split(separator: "\n")
      // Usage errors are followed by how the command is used.
      let isOne = code == 64 ? lines.first?.lowercased().hasPrefix("error: ") == true : program.errorLines.count == 1
      #expect(isOne, "\(arguments): \(program.errors)", sourceLocation: sourceLocation)
      for word in words where !program.errors.contains(word) {
        Issue.record("\"\(word)\" is missing in: \(program.errors)", sourceLocation: sourceLocation)
      }
    }

    // MARK: Damaged files

    /// Where a damaged file is put to use: what ends it when the file is usable after all costs little time.
    enum Use: String, CaseIterable { case router, head, expert }

    private func arguments(_ use: Use, _ path: String, _ scratch: Scratch) throws -> [String] {
      let models = try FaultModels.shared.get()
      let endpoint = "ipc://\(scratch.path("w\(UInt32.random(in: 0...UInt32.max))"))"
      guard use != .expert else {
        return [
          "worker", "--expert", "math", "--model", path, "--coordinator", endpoint, "--context", "256",
          "--orphan-after", "1ms",
        ]
      }
      let cluster = try models.cluster(
        in: scratch, context: 256, router: use == .router ? path : nil, head: use == .head ? path : nil,
        extra: "listen: { workers: \"\(endpoint)\" }\nstart_wait: 1ms\n")
      return ["run", "-c", cluster, "--attach", "--prompt", "One"]
    }

    private func original(_ use: Use) throws -> [UInt8] {
      let models = try FaultModels.shared.get()
      let path =
        switch use {
        case .router: models.router
        case .head: models.head
        case .expert: models.expert(0)
        }
      return Array(try #require(FileManager.default.contents(atPath: path)))
    }

    /// Bytes before the tensors' data, and up to its end: what follows is padding.
    private func extent(_ use: Use) throws -> (header: Int, whole: Int) {
      let models = try FaultModels.shared.get()
      let file = try GGUFFile.read(use == .head ? models.head : use == .router ? models.router : models.expert(0))
      let padded = file.tensors.map { ($0.byteCount + 31) / 32 * 32 }
      let size = try original(use).count
      let padding = (padded.last ?? 0) - (file.tensors.last?.byteCount ?? 0)
      return (size - padded.reduce(0, +), size - padding)
    }

    /// Tries damaged variants, some at a time.
    private func tryVariants(
      _ use: Use, _ variants: [(label: String, bytes: [UInt8])], accepted: [Int32]
    ) async throws -> [Int32: Int] {
      let scratch = try Scratch("cut")
      return try await withThrowingTaskGroup(of: Int32?.self) { group in
        var counts: [Int32: Int] = [:]
        func count(_ code: Int32??) { if let code = code ?? nil { counts[code, default: 0] += 1 } }
        for (index, variant) in variants.enumerated() {
          if index >= 3 { count(try await group.next()) }
          group.addTask {
            let path = scratch.path("v\(index).gguf")
            try Data(variant.bytes).write(to: URL(fileURLWithPath: path))
            let program = try Program(try self.arguments(use, path, scratch), in: scratch)
            let end = try await program.wait(60)
            guard case .exit(let code) = end, accepted.contains(code), program.errorLines.count == 1,
              program.output.isEmpty, code != 65 || program.errors.contains("v\(index).gguf") || use == .head
            else {
              Issue.record("\(use) \(variant.label): \(end): \(program.errors.prefix(2000))")
              return nil
            }
            return code
          }
        }
        while let code = try await group.next() { count(code) }
        return counts
      }
    }

    @Test("files cut at 50 places are refused with 65, whatever they are used for", arguments: Use.allCases)
    func truncated(use: Use) async throws {
      let whole = try original(use)
      let (header, end) = try extent(use)
      // Half of the cuts within the header, where its structure is, both ends included.
      var lengths = (0..<25).map { $0 * header / 25 } + (0..<24).map { header + $0 * (end - header) / 24 }
      lengths.append(end - 1)
      let counts = try await tryVariants(
        use, lengths.map { ("cut at \($0) of \(whole.count)", Array(whole[..<$0])) }, accepted: [65])
      #expect(counts == [65: 50])
    }

    @Test("files with one byte of their header changed are used or refused, never a crash", arguments: Use.allCases)
    func flipped(use: Use) async throws {
      let whole = try original(use)
      let header = try extent(use).header
      let seed = UInt64.random(in: 0...UInt64.max)
      print("flipped \(use): seed \(seed)")
      var random = SplitMix64(seed: seed)
      let variants = (0..<50).map { index -> (String, [UInt8]) in
        var bytes = whole
        // Every other one at the start or among the tensors' names and shapes, beside the long vocabulary.
        let last = max(0, header - 2_000)
        let place =
          switch index % 3 {
          case 0: Int.random(in: 0..<min(header, 1_500), using: &random)
          case 1: Int.random(in: last..<header, using: &random)
          default: Int.random(in: 0..<header, using: &random)
          }
        let flip = UInt8.random(in: 1...255, using: &random)
        bytes[place] ^= flip
        return ("byte \(place) ^ \(flip), seed \(seed)", bytes)
      }
      // 69: the file was fine, and no worker or coordinator came.
      let counts = try await tryVariants(use, variants, accepted: [65, 69])
      print("flipped \(use): \(counts)")
      #expect(counts.values.reduce(0, +) == 50)
    }

    // MARK: Files that do not belong together

    @Test("missing files, heads and models that do not fit: each names what is wrong")
    func unfitting() async throws {
      let scratch = try Scratch("unfit")
      let models = try FaultModels.shared.get()
      func run(
        router: String? = nil, head: String? = nil, experts: [String]? = nil, _ words: [String],
        sourceLocation: SourceLocation = #_sourceLocation
      ) async throws {
        let cluster = try models.cluster(in: scratch, context: 256, router: router, head: head, experts: experts)
        try await Self.expectRefused(
          ["run", "-c", cluster, "--prompt", "One"], in: scratch, words: words, sourceLocation: sourceLocation)
        try await ProcessTable.expectNone(using: scratch.url.path, within: 2)
      }
      let missing = scratch.path("missing.gguf")
      try await run(router: missing, [missing, ":1:"])
      try await run(head: missing, [missing, ":1:"])
      try await run(experts: [models.expert(0), missing], [missing, ":4:", "\"code\""])
      try await run(router: scratch.url.path, ["directory"])
      let narrow = scratch.path("narrow.gguf")
      try RoutingHead.random(experts: ["math", "code"], embeddingWidth: 32, seed: 1).write(narrow)
      try await run(head: narrow, ["32", "64"])
      let unknown = scratch.path("unknown.gguf")
      try RoutingHead.random(experts: ["math", "law"], embeddingWidth: 64, seed: 1).write(unknown)
      try await run(head: unknown, ["\"law\"", "math"])
      try await run(head: models.router, ["routing head", "'llama'"])
      try await run(router: models.head, ["head", "fusionroute-head"])
      try await run(experts: [models.expert(0), models.head], ["\"code\"", "fusionroute-head"])
      let text = try scratch.write("This is no model.\n", to: "text.gguf")
      try await run(router: text, ["text.gguf"])
      try await run(experts: [text, models.expert(1)], ["text.gguf", "\"math\""])
    }

    @Test("another vocabulary is refused with the first token that differs")
    func vocabularies() async throws {
      let scratch = try Scratch("vocab")
      let models = try FaultModels.shared.get()
      // One letter of one token changed in the file.
      let vocabulary = try Model.load(path: models.router, options: .init(vocabularyOnly: true)).vocabulary
      let token = try #require((400..<Token(vocabulary.size)).first { vocabulary.text($0).count >= 6 })
      let text = vocabulary.text(token)
      var bytes = Array(try #require(FileManager.default.contents(atPath: models.expert(0))))
      let pattern = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
      let place = try #require(
        (0..<(bytes.count - pattern.count)).first { bytes[$0..<($0 + pattern.count)].elementsEqual(pattern) })
      bytes[place + pattern.count - 1] = UInt8(ascii: "Q")
      let changed = scratch.path("changed.gguf")
      try Data(bytes).write(to: URL(fileURLWithPath: changed))
      let cluster = try models.cluster(in: scratch, context: 256, experts: [changed, models.expert(1)])
      let own = String(decoding: text, as: UTF8.self)
      try await Self.expectRefused(
        ["run", "-c", cluster, "--prompt", "One"], in: scratch,
        words: ["\"math\"", "token \(token)", "\"\(own)\"", "\"\(own.dropLast())Q\""])

      var recipe = ModelRecipe(seed: 3)
      recipe.vocabularySize = 500
      let smaller = scratch.path("smaller.gguf")
      try ModelMaker.make(recipe, to: smaller)
      let second = try models.cluster(in: scratch, context: 256, experts: [models.expert(0), smaller])
      try await Self.expectRefused(
        ["run", "-c", second, "--prompt", "One"], in: scratch, words: ["\"code\"", "500", "512"])
      try await ProcessTable.expectNone(using: scratch.url.path, within: 2)
    }

    @Test("a model file that changes between launches is another model: the cached fingerprint is not believed")
    func changedFile() async throws {
      let scratch = try Scratch("changed")
      let models = try FaultModels.shared.get()
      let endpoint = "ipc://\(scratch.path("w.sock"))"
      let file = scratch.path("math.gguf")
      try FileManager.default.copyItem(atPath: models.expert(0), toPath: file)
      func worker(_ path: String) throws -> Program {
        try Program(
          ["worker", "--expert", "math", "--model", path, "--coordinator", endpoint, "--context", "1024"], in: scratch)
      }
      let cluster = try models.cluster(in: scratch, extra: "listen: { workers: \"\(endpoint)\" }\n")
      let run = try Program(["run", "-c", cluster, "--attach", "--log-level", "info"], in: scratch, input: nil)
      let first = try worker(file)
      try await run.until("a worker") { FaultTests.registered($0).count == 1 }
      // Unchanged it is the same expert.
      let same = try worker(models.expert(0))
      try await run.until("its twin") { FaultTests.registered($0).count == 2 }
      first.signal(SIGTERM)
      #expect(try await first.wait() == .exit(0))
      // In place: the same inode, the same size, other weights.
      let size = try #require(FileManager.default.contents(atPath: file)).count
      let other = try #require(FileManager.default.contents(atPath: models.expert(1)))
      #expect(other.count == size)
      let handle = try #require(FileHandle(forWritingAtPath: file))
      try handle.write(contentsOf: other)
      try handle.close()
      let second = try worker(file)
      #expect(try await second.wait() == .exit(65))
      #expect(second.errorLines.count == 1 && second.errorLines[0].contains("fingerprint"), "\(second.errors)")
      // The coordinator goes on with the replica it has, and waits for the other expert.
      #expect(same.poll() == nil && run.poll() == nil, "\(run.errors)")
      let code = try Program(
        ["worker", "--expert", "code", "--model", models.expert(1), "--coordinator", endpoint, "--context", "1024"],
        in: scratch)
      try await run.until("the other expert") { FaultTests.registered($0).count == 3 }
      // An expert that the cluster does not have.
      let cook = try Program(
        ["worker", "--expert", "cook", "--model", file, "--coordinator", endpoint], in: scratch)
      #expect(try await cook.wait() == .exit(65))
      #expect(cook.errorLines.count == 1 && cook.errors.contains("\"cook\"") && cook.errors.contains("code, math"))
      run.signal(SIGTERM)
      #expect(try await run.wait() == .exit(130))
      for worker in [same, code] {
        worker.signal(SIGTERM)
        #expect(try await worker.wait() == .exit(0))
      }
    }

    // MARK: Cluster files

    @Test("cluster files: misspelt and duplicate keys, wrong types, each with its line")
    func clusterFiles() async throws {
      let scratch = try Scratch("yaml")
      let models = try FaultModels.shared.get()
      let router = "router: { model: \(models.router), head: \(models.head) }\n"
      let experts = "experts:\n  math: { model: \(models.expert(0)) }\n  code: { model: \(models.expert(1)) }\n"
      let cases: [(text: String, words: [String])] = [
        (router + experts + "decodin: { top_k: 8 }\n", [":5:", "\"decodin\"", "\"decoding\""]),
        (router + experts + "decoding:\n  reproducable: true\n", [":6:", "reproducable", "\"reproducible\""]),
        (router + "experts:\n  math: { modle: x }\n", [":3:", "modle", "\"model\""]),
        (router + experts + "decoding: { top_k: many }\n", [":5:", "top_k", "many"]),
        (router + experts + "decoding: { top_k: 0 }\n", [":5:", "top_k", "0"]),
        (router + experts + "decoding: 7\n", [":5:", "decoding"]),
        (router + experts + "expert_wait: 10\n", [":5:", "expert_wait", "ms"]),
        (router + experts + "on_expert_loss: explode\n", [":5:", "explode", "next_best"]),
        (router + router + experts, [":1:", "\"router\"", "more than once"]),
        (router + "experts:\n  math: { model: a }\n  math: { model: b }\n", ["math"]),
        (experts, ["\"router\""]),
        (router, ["\"experts\""]),
        ("", ["empty"]),
        (router + "experts: [\n", ["yaml"]),
        (router + experts + "listen: { workers: \"udp://127.0.0.1:5\" }\n", [":5:", "udp://127.0.0.1:5"]),
        (router + experts + "listen: { workers: \"tcp://0.0.0.0:5570\" }\n", [":5:", "security.keys"]),
        (router + experts + "security: { keys: nowhere }\n", [":5:", "nowhere", "coordinator.pub"]),
      ]
      for (index, (text, words)) in cases.enumerated() {
        let path = try scratch.write(text, to: "case\(index).yaml")
        try await Self.expectRefused(
          ["run", "-c", path, "--prompt", "One"], in: scratch, words: words + ["case\(index).yaml"])
      }
      let path = scratch.path("binary.yaml")
      try Data([0xFF, 0xFE, 0x00, 0x80]).write(to: URL(fileURLWithPath: path))
      try await Self.expectRefused(["run", "-c", path, "--prompt", "One"], in: scratch, words: ["binary.yaml"])
      try await Self.expectRefused(
        ["run", "-c", scratch.path("none.yaml"), "--prompt", "One"], in: scratch, words: ["none.yaml"])
    }

    // MARK: Options and prompts

    @Test("options: wrong values are usage errors, unknown experts bad input, a port in use is unavailable")
    func options() async throws {
      let scratch = try Scratch("options")
      let models = try FaultModels.shared.get()
      let cluster = try models.cluster(in: scratch)
      func refused(_ arguments: [String], _ code: Int32, _ words: [String]) async throws {
        try await Self.expectRefused(
          ["run", "-c", cluster, "--prompt", "One"] + arguments, in: scratch, code: code, words: words)
      }
      try await refused(["--max-tokens", "-1"], 64, ["max-tokens", "-1"])
      try await refused(["--max-tokens", "many"], 64, ["many"])
      try await refused(["--mode", "fuse"], 64, ["fuse"])
      try await refused(["--temperature", "-1"], 64, ["temperature"])
      try await refused(["--temperature", "nan"], 64, ["temperature"])
      try await refused(["--top-p", "1.5"], 64, ["top"])
      try await refused(["--no-such-option"], 64, ["--no-such-option"])
      try await Self.expectRefused(["worker", "--expert", "a b"], in: scratch, code: 64, words: [])
      try await Self.expectRefused(
        [
          "worker", "--expert", "math", "--model", models.expert(0), "--coordinator", "ipc://\(scratch.path("w"))",
          "--context", "262145",
        ], in: scratch, code: 64, words: ["--context", "262144"])
      try await Self.expectRefused(
        ["run", "-c", cluster, "--attach", "--prompt", "One"], in: scratch, words: ["listen.workers"])

      let (descriptor, port) = try FreePort.listen()
      defer { close(descriptor) }
      let taken = try models.cluster(in: scratch, extra: "listen: { workers: \"tcp://127.0.0.1:\(port)\" }\n")
      try await Self.expectRefused(
        ["run", "-c", taken, "--prompt", "One"], in: scratch, code: 69, words: ["\(port)", "in use"])
      try await ProcessTable.expectNone(using: "\(port)", within: 2)
    }

    @Test("unwritable results: 69, the name of the file, and no half of it left")
    func unwritable() async throws {
      let scratch = try Scratch("out")
      let models = try FaultModels.shared.get()
      let file = try scratch.write("a file", to: "file")
      try FileManager.default.createDirectory(
        at: scratch.url.appendingPathComponent("folder"), withIntermediateDirectories: false)
      for result in [scratch.path("none/x.gguf"), file + "/x.gguf", scratch.path("folder")] {
        for command in [
          ["make-model", result], ["make-model", "perturb", models.router, result, "--strength", "0.1"],
          ["make-model", "head", result, "--experts", "a,b", "--width", "8"],
          ["convert", models.router, result, "--type", "q8_0"],
        ] {
          let program = try Program(command, in: scratch)
          #expect(try await program.wait() == .exit(69), "\(command): \(program.errors)")
          #expect(program.errorLines.count == 1 && program.errors.contains(result), "\(command): \(program.errors)")
        }
      }
      let left = try FileManager.default.subpathsOfDirectory(atPath: scratch.url.path)
      #expect(left.allSatisfy { !$0.contains("partial") }, "\(left)")
      try await Self.expectRefused(
        ["convert", scratch.path("missing.gguf"), scratch.path("o.gguf"), "--type", "q8_0"], in: scratch,
        words: ["missing.gguf"])
      try await Self.expectRefused(
        ["convert", file, scratch.path("o.gguf"), "--type", "q8_0"], in: scratch, words: [file])
      try await Self.expectRefused(
        ["convert", models.router, scratch.path("o.gguf"), "--type", "q9"], in: scratch, code: 64, words: ["q9"])
      try await Self.expectRefused(
        ["make-model", scratch.path("o.gguf"), "--layers", "0"], in: scratch, code: 64, words: ["layers"])
      try await Self.expectRefused(["inspect", file], in: scratch, words: [file])
    }

    @Test("single bad prompts: empty, too long, not UTF-8, an expert that is not there")
    func prompts() async throws {
      let scratch = try Scratch("prompts")
      let cluster = try FaultModels.shared.get().cluster(in: scratch, context: 64)
      func refused(_ arguments: [String], input: [UInt8] = [], _ words: [String]) async throws {
        try await Self.expectRefused(["run", "-c", cluster] + arguments, in: scratch, input: input, words: words)
      }
      try await refused(["--raw", "--prompt", ""], ["empty"])
      try await refused(["--raw", "--prompt", String(repeating: "7", count: 100)], ["100", "64"])
      try await refused(["--prompt", "One", "--mode", "expert:cook"], ["\"cook\"", "code", "math"])
      try await refused([], input: [0x41, 0xC3, 0x28, 0x0A], ["line 1", "UTF-8"])
      // A string of Swift cannot carry it: the shell makes the argument.
      let shell = Process()
      shell.executableURL = URL(fileURLWithPath: "/bin/sh")
      let program = TestBinaries.url("fusionroute").path
      shell.arguments = ["-c", "exec '\(program)' run -c '\(cluster)' --prompt \"$(printf 'A\\303\\050')\""]
      let pipe = Pipe()
      shell.standardError = pipe
      try shell.run()
      let text = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
      shell.waitUntilExit()
      #expect(shell.terminationStatus == 65 && text.contains("--prompt") && text.contains("UTF-8"), "\(text)")
      #expect(text.split(separator: "\n").count == 1)
    }

    @Test("bad prompts among good ones: an error line each, the others answered in order, the highest code at the end")
    func mixedPrompts() async throws {
      let scratch = try Scratch("mixed")
      let cluster = try FaultModels.shared.get().cluster(in: scratch, context: 64)
      var input = Array(#"{"prompt":"One","raw":true,"max_tokens":4}"#.utf8) + [0x0A]
      func add(_ line: String) { input += Array(line.utf8) + [0x0A] }
      add(#"{"prompt":"One","max_token":4}"#)
      add(#"{"prompt":"One""#)
      add(#"{"prompt":7}"#)
      add(#"{"tokens":[1,512]}"#)
      add(#"{"tokens":[]}"#)
      add(#"{"prompt":"One","mode":"expert:cook"}"#)
      add(#"{"prompt":"One","temperature":-1}"#)
      add("")
      input += [0xFF, 0x0A]
      add(#"{"prompt":"Two","raw":true,"max_tokens":4}"#)
      let run = try Program(["run", "-c", cluster, "--format", "json"], in: scratch, input: input)
      #expect(try await run.wait() == .exit(65))
      let answers = try run.lines.map { try PrintedAnswer($0) }
      #expect(answers.map { $0.error == nil } == [true] + Array(repeating: false, count: 8) + [true])
      #expect(answers.first?.tokens.count == 4 && answers.last?.tokens.count == 4)
      let errors = run.errorLines
      #expect(errors.count == 8, "\(run.errors)")
      let words = ["max_token", "JSON", "prompt", "512", "empty", "cook", "temperature", "UTF-8"]
      for (index, line) in [2, 3, 4, 5, 6, 7, 8, 10].enumerated() where index < errors.count {
        #expect(errors[index].contains("line \(line)") && errors[index].contains(words[index]), "\(errors[index])")
      }
      #expect(errors.first?.contains("\"max_tokens\"") == true)
    }
  }
}
