import Core
import Foundation
import Fusion
import Inference
import Launch
import Testing

@testable import fusionroute

@Suite struct PromptTests {
  func prompt(_ text: String) throws -> Prompt? { try Prompt.line(Array(text.utf8), number: 3) }

  func sentence(_ text: String) -> String {
    do {
      return "accepted: \(String(describing: try prompt(text)))"
    } catch let error as FusionRouteError {
      return error.code == .badInput ? error.message : "wrong code"
    } catch {
      return "\(error)"
    }
  }

  @Test func plainLines() throws {
    #expect(try prompt("hello")?.content == .text("hello"))
    #expect(try prompt("  hello \r")?.content == .text("  hello "))
    #expect(try prompt("[1]")?.content == .text("[1]"))
    for empty in ["", " ", "\t\r"] { #expect(try prompt(empty) == nil) }
  }

  @Test func objects() throws {
    let full = try #require(
      try prompt(
        """
        {"prompt":"a b","max_tokens":7,"temperature":0.5,"seed":18446744073709551615,"mode":"expert:math","raw":true,\
        "stop":"x","top_k":4,"top_p":0.9,"min_p":0.1,"repetition_penalty":1.1,"presence_penalty":-0.5,\
        "frequency_penalty":0.25,"logit_bias":{"12":-3.5}}
        """))
    #expect(full.content == .text("a b"))
    #expect(full.maximumTokens == 7)
    #expect(full.mode == .expert("math"))
    #expect(full.raw == true)
    #expect(full.stop == ["x"])
    #expect(
      full.sampling.applied(to: SamplingParameters())
        == SamplingParameters(
          temperature: 0.5, seed: .max, topK: 4, topP: 0.9, minP: 0.1, repetitionPenalty: 1.1, presencePenalty: -0.5,
          frequencyPenalty: 0.25, logitBias: [12: -3.5]))
    #expect(try prompt("{\"tokens\":[1,2]}")?.content == .tokens([1, 2]))
    #expect(
      try prompt("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stop\":[\"a\",\"b\"]}")?.content
        == .messages([ChatMessage(role: "user", content: "hi")]))
  }

  @Test(arguments: [
    ("{\"promt\":\"x\"}", "line 3 of the prompts: unknown key \"promt\": did you mean \"prompt\"?"),
    ("{\"prompt\":3}", "line 3 of the prompts: \"prompt\" must be text"),
    ("{}", "exactly one of \"prompt\", \"messages\" and \"tokens\""),
    ("{\"prompt\":\"a\",\"tokens\":[1]}", "exactly one of"),
    ("{\"tokens\":[1,\"a\"]}", "\"tokens.[1]\" must be a whole number"),
    ("{\"tokens\":[1,2.5]}", "does not fit"), ("{\"tokens\":[99999999999]}", "does not fit"),
    ("{\"messages\":[{\"role\":\"user\"}]}", "lacks \"content\""),
    ("{\"prompt\":\"a\",\"mode\":\"fast\"}", "\"mode\" is \"fast\""),
    ("{\"prompt\":\"a\",\"logit_bias\":{\"x\":1}}", "token ids"), ("{\"prompt\":\"a\"", "no valid JSON object"),
    ("{\"prompt\":\"a\"} b", "no valid JSON object"),
    ("{\"prompt\":\"a\",\"max_tokens\":\"5\"}", "\"max_tokens\" must be a whole number"),
  ]) func mistakes(_ text: String, _ part: String) {
    #expect(sentence(text).contains(part), "\(sentence(text))")
    #expect(sentence(text).hasPrefix("line 3 of the prompts"))
  }

  @Test func invalidUTF8() {
    #expect(throws: FusionRouteError.self) { try Prompt.line([0x61, 0xFF], number: 1) }
  }

  @Test func linesOfAnyLength() throws {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let sent = [String(repeating: "x", count: 200_000), "", "b", String(repeating: "y", count: 65_536), "last"]
    let writer = FileHandle(fileDescriptor: ends[1], closeOnDealloc: false)
    let text = sent.joined(separator: "\n")
    Thread.detachNewThread {
      try? writer.write(contentsOf: Data(text.utf8))
      try? writer.close()
    }
    var lines: [String] = []
    PromptSource.readLines(from: ends[0]) { lines.append(String(decoding: $0, as: UTF8.self)) }
    close(ends[0])
    #expect(lines == sent)
  }
}

@Suite struct OptionTests {
  @Test func generation() throws {
    let options = try GenerationOptions.parse([
      "--max-tokens", "0", "--presence-penalty", "-0.5", "--logit-bias", "5=-inf", "--logit-bias", "6=2", "--stop", "-",
      "--mode", "expert:a", "--fanout", "all", "--warm", "selected",
    ])
    #expect(options.sampling.logitBias == [5: -.infinity, 6: 2])
    #expect(options.sampling.presencePenalty == -0.5)
    #expect(options.stop == ["-"])
    #expect(options.mode.mode == .expert("a"))
    #expect(options.fanout == .all && options.warm == .selected)
  }

  @Test(arguments: [
    ["--max-tokens", "-1"], ["--temperature", "-1"], ["--temperature", "nan"], ["--top-p", "1.5"], ["--mode", "magic"],
    ["--logit-bias", "5"], ["--logit-bias", "a=1"], ["--logit-bias", "5=nan"], ["--repetition-penalty", "0"],
    ["--format", "xml"], ["--fanout", "some"], ["--seed", "-1"],
  ]) func refused(_ arguments: [String]) {
    #expect(throws: (any Error).self) { try GenerationOptions.parse(arguments) }
  }

  /// As the help and the article on training write it.
  @Test func expertsAreClampedToANegativeNumber() throws {
    #expect(try TrainRoutingOptions.parse(["--clamp-experts", "-10"]).clampExperts == -10)
  }

  /// What `run` and `workers` start is what `worker` reads.
  @Test func workersReadTheirInvocation() throws {
    var cluster = ClusterFile(
      source: "c", router: .init(engine: .init(model: "r"), head: "h"),
      experts: [
        .init(
          name: "math",
          engine: .init(
            model: "/m m.gguf", lora: "/l.gguf", loraScale: -0.125, threads: 3, gpuLayers: 2, context: 777, slots: 9,
            kv: .f32))
      ])
    cluster.decoding.reproducible = false
    cluster.supervision.orphanAfter = .milliseconds(1500)
    cluster.supervision.grace = .seconds(10)
    cluster.keys = "/keys"
    let invocation = WorkerInvocation(
      expert: cluster.experts[0], coordinators: ["ipc:///a", "tcp://127.0.0.1:1"], hostName: "h1", cluster: cluster,
      keyName: "h1", logLevel: "debug", logFormat: "json")
    #expect(invocation.arguments.first == "worker")
    let worker = try WorkerCommand.parse(Array(invocation.arguments.dropFirst()))
    #expect(worker.expert == "math" && worker.model == "/m m.gguf" && worker.lora == "/l.gguf")
    #expect(worker.loraScale == -0.125 && worker.threads == 3 && worker.gpuLayers == 2 && worker.context == 777)
    #expect(worker.slots == 9 && worker.kv == .f32 && worker.hostName == "h1" && !worker.reproducible)
    #expect(worker.coordinator == ["ipc:///a", "tcp://127.0.0.1:1"])
    #expect(worker.orphanAfter.duration == .milliseconds(1500) && worker.drainTime.duration == .seconds(8))
    #expect(worker.keys == "/keys" && worker.key == "h1" && worker.exitWithStdin)
    #expect(worker.output.logLevel?.level == .debug && worker.output.logFormat == .json)
  }

  @Test(arguments: [
    ["--expert", "a b"], ["--coordinator", "http://x"], ["--slots", "0"], ["--slots", "257"], ["--threads", "0"],
    ["--lora-scale", "2"], ["--orphan-after", "5"],
  ]) func workersRefuse(_ arguments: [String]) {
    let good = ["--expert", "a", "--model", "m", "--coordinator", "ipc:///a"]
    #expect(throws: Never.self) { try WorkerCommand.parse(good) }
    #expect(throws: (any Error).self) { try WorkerCommand.parse(good + arguments) }
  }
}

@Suite struct ReplicaChoiceTests {
  /// `up` starts what is placed here, `run` refuses what is placed elsewhere, `coordinator` starts nothing.
  @Test func whoStartsWhat() throws {
    var cluster = ClusterFile(
      source: "c.yaml", router: .init(engine: .init(model: "r"), head: "h"),
      experts: [
        .init(name: "a", engine: .init(model: "a"), replicas: 3),
        .init(name: "b", engine: .init(model: "b"), hosts: ["far"]),
      ],
      hosts: [.init(name: "here", address: "127.0.0.1"), .init(name: "far", address: "10.0.0.9")])
    #expect(try ClusterSession.replicas(.ofThisMachine, of: cluster).map(\.index) == [0, 2])
    #expect(throws: FusionRouteError.self) { try ClusterSession.replicas(.all, of: cluster) }
    #expect(throws: FusionRouteError.self) { try ClusterSession.replicas(.elsewhere, of: cluster) }
    cluster.listen.workers = .tcp(host: "10.0.0.1", port: 1)
    #expect(try ClusterSession.replicas(.elsewhere, of: cluster).isEmpty)
    cluster.hosts = []
    cluster.experts[1].hosts = []
    #expect(try ClusterSession.replicas(.all, of: cluster).count == 4)
  }
}
