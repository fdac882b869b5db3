internal import Coordinator
internal import Foundation
internal import Fusion

/// What `bench decode` found.
struct DecodeReport: CustomStringConvertible {
  /// Median and range of a figure over the rounds.
  struct Figure: Codable, Sendable {
    var median: Double
    var minimum: Double
    var maximum: Double

    init(_ values: [Double]) {
      let sorted = values.sorted()
      let middle = sorted.count / 2
      median =
        sorted.isEmpty ? 0 : sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
      minimum = sorted.first ?? 0
      maximum = sorted.last ?? 0
    }
  }

  private struct Round {
    var tokens: Int
    var runtime: Double
    var plain: Double
    var split: [String: Double]
  }

  /// Parts of a token's time, in the order they are shown.
  private static let parts = [
    "router queue", "router compute", "wire", "expert queue", "expert compute", "merge", "other",
  ]

  private var rounds: [Round] = []
  private var certification = CertificationStatistics()
  private var switches = 0
  private var experts: [String: Int] = [:]

  /// Adds a round: rates are of the tokens after the first, whose time is the prompt's.
  mutating func add(trace: DecodeTrace, summary: GenerationSummary, plain: Duration) {
    let tokens = trace.steps.count - 1
    let total = summary.decode.microseconds
    let latency = summary.latency - summary.prefillLatency
    var split = [
      "router queue": latency.routerQueue, "router compute": latency.routerCompute, "wire": latency.wire,
      "expert queue": latency.expertQueue, "expert compute": latency.expertCompute, "merge": latency.merge,
    ].mapValues { Double($0) / 1_000 / Double(tokens) }
    split["other"] = total / Double(tokens) - split.values.reduce(0, +)
    rounds.append(
      Round(
        tokens: tokens, runtime: Double(tokens) / summary.decode.seconds, plain: Double(tokens) / plain.seconds,
        split: split))
    certification.merge(summary.certification)
    switches += zip(trace.steps, trace.steps.dropFirst()).count { $0.expert != $1.expert }
    for (name, count) in summary.tokensPerExpert { experts[name, default: 0] += count }
  }

  private var runtime: Figure { Figure(rounds.map(\.runtime)) }
  private var plain: Figure { Figure(rounds.map(\.plain)) }
  private var ratio: Figure { Figure(rounds.map { $0.runtime / $0.plain }) }
  private func part(_ name: String) -> Figure { Figure(rounds.map { $0.split[name] ?? 0 }) }

  var description: String {
    func line(_ name: String, _ figure: Figure, _ places: Int) -> String {
      func text(_ value: Double) -> String { String(format: "%.\(places)f", value) }
      return name.padding(toLength: 26, withPad: " ", startingAt: 0)
        + "\(text(figure.median))  (\(text(figure.minimum)) to \(text(figure.maximum)))"
    }
    let tokens = rounds.map(\.tokens).reduce(0, +)
    var lines = [
      "\(rounds.count) rounds, \(tokens) tokens, \(switches) switches of expert; median (least to most)",
      line("runtime, tokens/s", runtime, 1), line("plain llama.cpp, tokens/s", plain, 1), line("ratio", ratio, 3), "",
      "time per token after the first, microseconds",
    ]
    lines += Self.parts.map { line("  " + $0, part($0), 0) }
    lines += [
      "",
      "rows of the experts: \(certification)",
    ]
    return lines.joined(separator: "\n")
  }

  func json() throws -> String {
    struct Report: Codable {
      var rounds: Int
      var runtimeTokensPerSecond: Figure
      var plainTokensPerSecond: Figure
      var ratio: Figure
      var microsecondsPerToken: [String: Figure]
      var decidedByTopK: [String: Int]
      var decidedByFullRow: Int
      var rowBytesPerToken: Double
      var tokensPerExpert: [String: Int]
    }
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys]
    let report = Report(
      rounds: rounds.count, runtimeTokensPerSecond: runtime, plainTokensPerSecond: plain, ratio: ratio,
      microsecondsPerToken: Dictionary(
        uniqueKeysWithValues: Self.parts.map { ($0.replacingOccurrences(of: " ", with: "_"), part($0)) }),
      decidedByTopK: Dictionary(
        uniqueKeysWithValues: certification.decidedByTopK.map { (String($0.key), $0.value) }),
      decidedByFullRow: certification.fullRows, rowBytesPerToken: certification.bytesPerToken,
      tokensPerExpert: experts)
    return String(decoding: try encoder.encode(report), as: UTF8.self)
  }
}

extension Duration {
  fileprivate var microseconds: Double { seconds * 1e6 }
}
