import Core
import Foundation
import ModelFiles

/// One answer as `fusionroute run --format json` prints it.
struct ProductAnswer: Decodable {
  struct Item: Decodable {
    var id: Token
    var expert: String?
    var logit: Float
    var degraded: Bool?
  }
  struct Usage: Decodable {
    var evaluated_tokens: [String: Int]
    var tokens_per_expert: [String: Int]
  }
  struct Failure: Decodable { var message: String }

  var prompt_tokens: [Token]
  var tokens: [Item]
  var text: String
  var finish_reason: String
  var usage: Usage
  var error: Failure?

  var ids: [Token] { tokens.map(\.id) }
}

/// A prompt as `fusionroute run` reads it on stdin.
struct ProductPrompt: Encodable {
  var tokens: [Token]?
  var prompt: String?
  var max_tokens = 128
  var mode = "fusion"
  var temperature: Float = 0
  var seed: UInt64 = 0
  var frequency_penalty: Float = 0
}

/// The released command itself, with a router and experts as processes of their own.
enum Product {
  static func run(
    _ models: TestModels, in scratch: Scratch, prompts: [ProductPrompt], options: [String] = [], context: Int = 1280,
    slots: Int = 2
  ) throws -> [ProductAnswer] {
    let cluster = scratch.path("cluster-\(UInt32.random(in: 0...(.max))).yaml")
    var lines = [
      "router: { model: \"\(models.router)\", head: \"\(models.head)\", context: \(context), slots: \(slots) }",
      "experts:",
    ]
    for (name, path) in models.experts {
      lines.append("  \(name): { model: \"\(path)\", context: \(context), slots: \(slots) }")
    }
    try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: cluster))
    let input = try prompts.map { try JSONEncoder().encode($0) + Data("\n".utf8) }.reduce(Data(), +)
    let (status, output, errors) = try TestProcess.run(
      TestBinaries.url("fusionroute"), ["run", "-c", cluster, "--format", "json"] + options, input: input)
    guard status == 0 else {
      throw FusionRouteError.internal(
        "fusionroute run ended with \(status): \(errors) \(String(decoding: output, as: UTF8.self).suffix(500))")
    }
    let answers = try output.split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(ProductAnswer.self, from: Data($0))
    }
    guard answers.count == prompts.count else {
      throw FusionRouteError.internal("\(answers.count) answers to \(prompts.count) prompts: \(errors)")
    }
    return answers
  }
}

/// The oracle in numpy: Tests/Oracle/oracle.py on the same files.
enum NumpyOracle {
  struct Case: Encodable {
    var router: String
    var head: String
    var experts: [String: String]
    var mode: String
    var prompt: [Token]
    var tokens: [Token]
    /// Gemma's activation goes through a half-precision table in llama.cpp; the oracle follows that definition.
    var gelu: String
    var frequency_penalty: Float
  }

  struct Judgement: Decodable {
    struct Position: Decodable {
      var best: Token
      var gap: Double
      /// How far the product's token lies below the best.
      var behind: Double
      var expert: String?
      var selection_gap: Double?
    }
    var positions: [Position]
  }

  static func judge(_ cases: [Case]) throws -> [Judgement] {
    let python = try interpreter()
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Oracle/oracle.py")
    let (status, output, errors) = try TestProcess.run(
      python, [script.path], input: try JSONEncoder().encode(cases), environment: ["PYTHONDONTWRITEBYTECODE": "1"])
    guard status == 0 else { throw FusionRouteError.internal("the numpy oracle failed: \(errors)") }
    return try JSONDecoder().decode([Judgement].self, from: output)
  }

  /// A Python 3 that has numpy; the distribution's own first.
  static func interpreter() throws -> URL {
    let folders =
      ["/usr/bin"] + (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    for folder in folders {
      let python = URL(fileURLWithPath: folder).appendingPathComponent("python3")
      guard FileManager.default.isExecutableFile(atPath: python.path) else { continue }
      if (try? TestProcess.run(python, ["-c", "import numpy"]))?.status == 0 { return python }
    }
    throw FusionRouteError.unavailable(
      "the exactness tests need Python 3 with numpy, and no python3 on the PATH can import it: run Deploy/test, which "
        + "installs it, or install python3-numpy")
  }
}

enum TestPrompts {
  static func random(_ count: Int, vocabulary: Int = 512, seed: UInt64) -> [Token] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Token.random(in: 3..<Token(vocabulary), using: &random) }
  }
}
