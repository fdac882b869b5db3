import Core
import Foundation
import Testing

/// Workers that die, hang or leave in the middle of an answer.
extension ProcessSuites {
  @Suite(.serialized) struct FaultTests {
    static let length = 300

    /// A prompt line for `run`'s stdin.
    static func line(_ text: String, tokens: Int = length, temperature: Double = 0, seed: Int = 0) -> String {
      #"{"prompt":"\#(text)","raw":true,"max_tokens":\#(tokens),"temperature":\#(temperature),"seed":\#(seed)}"#
    }

    static let prompts = [
      line("The river was higher than usual"), line("To make bread", temperature: 0.8, seed: 7),
      line("A computer stores numbers"), line("List four animals", temperature: 1.1, seed: 9),
    ]

    /// A registered worker as the coordinator's log shows it.
    struct Registered: Equatable {
      var expert: String
      var pid: pid_t
    }

    static func registered(_ run: Program) -> [Registered] {
      let pids = run.logged("worker registered", "pid").compactMap { pid_t($0) }
      return zip(run.logged("worker registered", "expert"), pids).map { Registered(expert: $0, pid: $1) }
    }

    static func answer(_ run: Program, _ prompt: String, meanwhile: () async throws -> Void = {}) async throws
      -> (answer: PrintedAnswer, took: Duration)
    {
      let count = run.lines.count
      let start = ContinuousClock.now
      run.send(prompt)
      try await meanwhile()
      try await run.until("an answer", seconds: 60) { $0.lines.count > count && $0.output.hasSuffix("\n") }
      return (try PrintedAnswer(run.lines[count]), ContinuousClock.now - start)
    }

    /// An answer without faults, after one that has warmed everything up: faults are placed by its time.
    static func warmReference(_ run: Program, _ prompt: String) async throws -> PrintedAnswer {
      _ = try await answer(run, prompt)
      return try await answer(run, prompt).answer
    }

    static func start(_ cluster: String, in scratch: Scratch) throws -> Program {
      try Program(
        ["run", "-c", cluster, "--format", "json", "--log-level", "info"], in: scratch, input: nil)
    }

    @Test("a worker killed in mid-answer, another replica up: the same tokens, 20 of 20 times at random moments")
    func killedWithAnotherReplica() async throws {
      let scratch = try Scratch("kill")
      let models = try FaultModels.shared.get()
      let cluster = try models.cluster(
        in: scratch, replicas: 2, extra: "supervision: { restarts: 10000, window: 1s, back_off: 10ms }\n")
      let run = try Self.start(cluster, in: scratch)
      try await run.until("four workers") { Self.registered($0).count == 4 }
      _ = try await Self.answer(run, Self.prompts[0])
      var references: [PrintedAnswer] = []
      for prompt in Self.prompts { references.append(try await Self.answer(run, prompt).answer) }
      #expect(references.allSatisfy { $0.tokens.count == Self.length && $0.failovers == nil })
      let usual = references.map(\.timing.milliseconds)

      let seed = UInt64.random(in: 0...UInt64.max)
      print("killedWithAnotherReplica: seed \(seed)")
      var random = SplitMix64(seed: seed)
      var landed = 0
      var same = 0
      var tries = 0
      var delays: [Double] = []
      while landed < 20, tries < 60 {
        let which = tries % Self.prompts.count
        tries += 1
        // The eldest living replica of an expert is the one that a lone sequence is placed on.
        let expert = ["math", "code"].randomElement(using: &random) ?? "math"
        let elders = Self.registered(run).filter { $0.expert == expert && kill($0.pid, 0) == 0 }
        let victim = try #require(elders.first)
        let known = Self.registered(run).count
        let moment = Double.random(in: 0.05..<0.9, using: &random) * usual[which]
        let (answer, _) = try await Self.answer(run, Self.prompts[which]) {
          try await Task.sleep(for: .microseconds(Int(moment * 1000)))
          kill(victim.pid, SIGKILL)
        }
        let equal = answer.tokens == references[which].tokens && answer.text == references[which].text
        #expect(equal, "try \(tries), \(expert) killed after \(moment) ms: \(answer.error?.message ?? "other tokens")")
        if (answer.failovers ?? 0) > 0 {
          landed += 1
          if equal { same += 1 }
          delays.append(answer.timing.milliseconds - usual[which])
        }
        try await run.until("its successor") { Self.registered($0).count > known }
      }
      delays.sort()
      print(
        "killedWithAnotherReplica: the same in \(same) of \(landed) (\(tries) tries), usually \(usual) ms, added ms: "
          + "median \(delays[delays.count / 2]), most \(delays.last ?? 0)")
      #expect(landed == 20 && same == 20)
      run.closeInput()
      #expect(try await run.wait() == .exit(0))
      try await ProcessTable.expectNone(using: scratch.url.path, within: 5)
    }

    @Test("a worker that hangs is given up after its silence, and the answer stays the same")
    func stopped() async throws {
      let scratch = try Scratch("hang")
      // Without hedges, which would be faster.
      let cluster = try FaultModels.shared.get().cluster(
        in: scratch, replicas: 2, extra: "faults: { hedge_share: 0 }\n")
      let run = try Self.start(cluster, in: scratch)
      try await run.until("four workers") { Self.registered($0).count == 4 }
      let reference = try await Self.warmReference(run, Self.prompts[1])
      let victim = try #require(Self.registered(run).first { $0.expert == reference.tokens.last?.expert })
      defer { kill(victim.pid, SIGCONT) }
      let (answer, took) = try await Self.answer(run, Self.prompts[1]) {
        try await Task.sleep(for: .milliseconds(50))
        kill(victim.pid, SIGSTOP)
      }
      #expect(answer.tokens == reference.tokens && (answer.failovers ?? 0) > 0)
      #expect(took > .seconds(2) && took < .seconds(10), "\(took)")
      print("stopped: answered after \(took), usually \(reference.timing.milliseconds) ms")
      // Awake again it has lost its registration, and takes part anew.
      let known = Self.registered(run).count
      kill(victim.pid, SIGCONT)
      try await run.until("its return") { Self.registered($0).count > known }
      #expect(try await Self.answer(run, Self.prompts[1]).answer.tokens == reference.tokens)
      run.closeInput()
      #expect(try await run.wait() == .exit(0))
      try await ProcessTable.expectNone(using: scratch.url.path, within: 5)
    }

    @Test("a step that a suspended worker holds up is answered by another replica before its silence is noticed")
    func overtaken() async throws {
      let scratch = try Scratch("hedge")
      // So long a silence that nothing but a hedge helps within the time that a test waits.
      let cluster = try FaultModels.shared.get().cluster(
        in: scratch, replicas: 2, extra: "faults: { silence: 50s, hang: 300s, hedge_share: 0.2 }\n")
      let run = try Self.start(cluster, in: scratch)
      try await run.until("four workers") { Self.registered($0).count == 4 }
      let reference = try await Self.warmReference(run, Self.prompts[1])
      let victim = try #require(Self.registered(run).first { $0.expert == reference.tokens.last?.expert })
      defer { kill(victim.pid, SIGCONT) }
      let (answer, _) = try await Self.answer(run, Self.prompts[1]) {
        try await Task.sleep(for: .milliseconds(Int(reference.timing.milliseconds / 4)))
        kill(victim.pid, SIGSTOP)
      }
      #expect(answer.tokens == reference.tokens && (answer.failovers ?? 0) > 0)
      #expect(run.logged("slow step sent to a second replica", "replica").count > 0)
      // It was only slow: awake again, it serves on under the same registration.
      let known = Self.registered(run).count
      kill(victim.pid, SIGCONT)
      #expect(try await Self.answer(run, Self.prompts[1]).answer.tokens == reference.tokens)
      #expect(Self.registered(run).count == known)
      run.closeInput()
      #expect(try await run.wait() == .exit(0))
    }

    @Test("the only replica killed: `run` starts it again and the answer stays the same")
    func onlyReplica() async throws {
      let scratch = try Scratch("only")
      let cluster = try FaultModels.shared.get().cluster(
        in: scratch, extra: "supervision: { restarts: 100, back_off: 10ms }\n")
      let run = try Self.start(cluster, in: scratch)
      try await run.until("two workers") { Self.registered($0).count == 2 }
      let reference = try await Self.warmReference(run, Self.prompts[1])
      for expert in ["math", "code"] {
        // On a busy machine a kill may come before the expert's first token, or after its last.
        var landed = false
        for _ in 0..<8 where !landed {
          let known = Self.registered(run).count
          let victim = try #require(Self.registered(run).last { $0.expert == expert })
          let (answer, took) = try await Self.answer(run, Self.prompts[1]) {
            try await Task.sleep(for: .milliseconds(Int(reference.timing.milliseconds / 4)))
            kill(victim.pid, SIGKILL)
          }
          #expect(answer.tokens == reference.tokens, "\(answer.error?.message ?? "other tokens")")
          landed = (answer.failovers ?? 0) > 0
          print("onlyReplica: answered after \(took), usually \(reference.timing.milliseconds) ms")
          try await run.until("its successor") { Self.registered($0).count > known }
        }
        #expect(landed, "no kill of \(expert) came in mid-answer")
      }
      run.signal(SIGTERM)
      #expect(try await run.wait() == .exit(130))
      try await ProcessTable.expectNone(using: scratch.url.path, within: 5)
    }

    /// The printed answer's degraded tokens by plain llama.cpp's rows: r under `router`, c·r + e of the expert that is
    /// left under `next_best`.
    static func checkDegraded(_ line: String, _ policy: String, scale: Float, isGreedy: Bool) throws {
      let models = try FaultModels.shared.get()
      let answer = try JSONDecoder().decode(ProductAnswer.self, from: Data(line.utf8))
      let all = answer.prompt_tokens + answer.ids.dropLast()
      let router = try PlainOracle.rows(model: models.router, tokens: all)
      let expert = try PlainOracle.rows(model: models.expert(0), tokens: all)
      for (index, token) in answer.tokens.enumerated() where token.degraded == true {
        let position = answer.prompt_tokens.count - 1 + index
        let row =
          policy == "router" ? router[position] : zip(router[position], expert[position]).map { scale * $0 + $1 }
        #expect(abs(token.logit - row[Int(token.id)]) < 1e-4, "\(policy), token \(index)")
        if isGreedy { #expect(Int(token.id) == GenerationTests.argmax(row), "\(policy), token \(index)") }
      }
    }

    @Test("an expert lost for good: `fail` says so, `next_best` and `router` go on and mark the tokens")
    func lostForGood() async throws {
      let models = try FaultModels.shared.get()
      // A scale that tells c·r from r.
      let scale: Float = 0.75
      for policy in ["fail", "next_best", "router"] {
        let scratch = try Scratch("lost")
        let endpoint = "ipc://\(scratch.path("w.sock"))"
        let cluster = try models.cluster(
          in: scratch, head: try models.scaledHead(scale, in: scratch),
          extra: "listen: { workers: \"\(endpoint)\" }\non_expert_loss: \(policy)\nexpert_wait: 300ms\n")
        func worker(_ index: Int) throws -> Program {
          try Program(
            [
              "worker", "--expert", models.models.experts[index].name, "--model", models.expert(index), "--coordinator",
              endpoint, "--context", "1024",
            ], in: scratch)
        }
        let run = try Program(
          ["run", "-c", cluster, "--attach", "--format", "json", "--log-level", "info"], in: scratch, input: nil)
        let math = try worker(0)
        let code = try worker(1)
        try await run.until("two workers") { Self.registered($0).count == 2 }
        // Long enough for a kill in its middle.
        var prompt = Self.prompts[1]
        var reference = try await Self.warmReference(run, prompt)
        for seed in 8..<30 where reference.tokens.count < Self.length {
          prompt = Self.line("To make bread", temperature: 0.8, seed: seed)
          reference = try await Self.warmReference(run, prompt)
        }
        let quarter = Int(reference.timing.milliseconds / 4)
        let (answer, took) = try await Self.answer(run, prompt) {
          try await Task.sleep(for: .milliseconds(quarter))
          code.signal(SIGKILL)
        }
        // `expert_wait` is spent once in an answer, not at every token.
        #expect(took < .milliseconds(300 + 5 * Int(reference.timing.milliseconds)), "\(policy): \(took)")
        if policy == "fail" {
          #expect(answer.finish_reason == "error")
          #expect(answer.error?.message.contains("expert \"code\"") == true, "\(answer.error?.message ?? "none")")
          #expect(zip(answer.tokens, reference.tokens).allSatisfy { $0 == $1 })
        } else {
          let degraded = answer.tokens.filter { $0.degraded == true }
          #expect(answer.error == nil && !degraded.isEmpty, "\(policy): \(answer.error?.message ?? "none degraded")")
          #expect(degraded.allSatisfy { $0.expert == (policy == "next_best" ? "math" : nil) })
          let before = answer.tokens.prefix { $0.degraded != true }
          #expect(Array(before) == Array(reference.tokens.prefix(before.count)))
          try Self.checkDegraded(try #require(run.lines.last), policy, scale: scale, isGreedy: false)
          // The expert is gone from the first token on.
          _ = try await Self.answer(run, Self.line("A computer stores numbers", tokens: 60))
          try Self.checkDegraded(try #require(run.lines.last), policy, scale: scale, isGreedy: true)
        }
        // What does not need the lost expert is answered as ever.
        let alone = #"{"prompt":"One","raw":true,"max_tokens":5,"mode":"expert:math"}"#
        #expect(try await Self.answer(run, alone).answer.error == nil)
        run.closeInput()
        #expect(try await run.wait() == .exit(policy == "fail" ? 69 : 0))
        math.signal(SIGTERM)
        #expect(try await math.wait() == .exit(0))
      }
    }

    @Test("a coordinator that is suspended for longer than the silence timeout goes on with the same workers")
    func suspendedCoordinator() async throws {
      let scratch = try Scratch("susp")
      let run = try Self.start(try FaultModels.shared.get().cluster(in: scratch), in: scratch)
      try await run.until("two workers") { Self.registered($0).count == 2 }
      let reference = try await Self.warmReference(run, Self.prompts[1])
      let (answer, _) = try await Self.answer(run, Self.prompts[1]) {
        try await Task.sleep(for: .milliseconds(Int(reference.timing.milliseconds / 4)))
        run.signal(SIGSTOP)
        try await Task.sleep(for: .seconds(4))
        run.signal(SIGCONT)
      }
      #expect(answer.tokens == reference.tokens && answer.failovers == nil, "\(answer.failovers ?? 0) failovers")
      #expect(Self.registered(run).count == 2)
      run.closeInput()
      #expect(try await run.wait() == .exit(0))
    }

    @Test("a worker told to end in mid-answer hands its sequences over and ends; the answer stays the same")
    func drained() async throws {
      let scratch = try Scratch("drain")
      let models = try FaultModels.shared.get()
      let endpoint = "ipc://\(scratch.path("w.sock"))"
      let cluster = try models.cluster(in: scratch, extra: "listen: { workers: \"\(endpoint)\" }\n")
      let run = try Program(
        ["run", "-c", cluster, "--attach", "--format", "json", "--log-level", "info"], in: scratch, input: nil)
      var workers: [Program] = []
      for index in [0, 0, 1] {
        workers.append(
          try Program(
            [
              "worker", "--expert", models.models.experts[index].name, "--model", models.expert(index), "--coordinator",
              endpoint, "--context", "1024",
            ], in: scratch))
        try await run.until("a worker") { Self.registered($0).count == workers.count }
      }
      let reference = try await Self.warmReference(run, Self.prompts[3])
      let (answer, _) = try await Self.answer(run, Self.prompts[3]) {
        try await Task.sleep(for: .milliseconds(Int(reference.timing.milliseconds / 4)))
        workers[0].signal(SIGTERM)
      }
      #expect(answer.tokens == reference.tokens && answer.failovers == 1, "\(answer.failovers ?? 0)")
      let start = ContinuousClock.now
      #expect(try await workers[0].wait() == .exit(0))
      #expect(ContinuousClock.now - start < .seconds(3))
      run.closeInput()
      #expect(try await run.wait() == .exit(0))
      for worker in workers { worker.signal(SIGTERM) }
      for worker in workers { #expect(try await worker.wait() == .exit(0)) }
    }
  }
}
