internal import Foundation

/// What `bench serve` found.
struct ServeReport: CustomStringConvertible {
  let streams: Int
  /// Tokens per second with every expert, by round.
  var alternating: [Double] = []
  private var rounds: [ServeBenchmark.Round] = []

  init(streams: Int) { self.streams = streams }

  mutating func add(_ round: ServeBenchmark.Round, isWarmUp: Bool) {
    if !isWarmUp { rounds.append(round) }
  }

  private typealias Figure = DecodeReport.Figure

  private func figure(_ value: (ServeBenchmark.Round) -> Double) -> Figure { Figure(rounds.map(value)) }

  /// k / max(t_r(k), t_e(k)), in tokens per second.
  private func limit(_ round: ServeBenchmark.Round) -> Double {
    Double(streams / 2) * 1_000 / max(round.routerStep, round.expertStep)
  }

  private func sharedLimit(_ round: ServeBenchmark.Round) -> Double {
    Double(streams / 2) * 1_000 / round.sideBySideStep
  }

  private var figures: [(name: String, key: String, places: Int, value: Figure)] {
    let half = streams / 2
    var lines: [(String, String, Int, Figure)] = [
      ("\(streams) streams, tokens/s", "stream_tokens_per_second", 1, figure(\.streams.rate)),
      ("a token waits at the router, ms", "router_queue_ms", 2, figure(\.streams.routerQueue)),
      ("on the wire", "wire_ms", 2, figure(\.streams.wire)),
      ("at the expert", "expert_queue_ms", 2, figure(\.streams.expertQueue)),
      ("sequences in a router's step", "sequences_per_step", 2, figure(\.sequencesPerStep)),
      ("decoded again beside them", "refilled_per_step", 2, figure(\.refilledPerStep)),
      ("router's step of \(half), ms", "router_step_ms", 2, figure(\.routerStep)),
      ("expert's step of \(half), ms", "expert_step_ms", 2, figure(\.expertStep)),
      ("both at once, the slower, ms", "side_by_side_step_ms", 2, figure(\.sideBySideStep)),
      ("ratio to \(half) / max(t_r, t_e)", "ratio_to_limit", 3, figure { $0.streams.rate / limit($0) }),
      ("ratio with both at once", "ratio_to_side_by_side", 3, figure { $0.streams.rate / sharedLimit($0) }),
      ("first token, ms", "first_token_ms", 1, Figure(rounds.flatMap(\.firstTokens))),
      ("plain prefills side by side, ms", "plain_prefill_ms", 1, Figure(rounds.flatMap(\.plainPrefills))),
      (
        "first token later by, ms", "first_token_extra_ms", 1,
        Figure(rounds.flatMap { zip($0.firstTokens, $0.plainPrefills).map { $0 - $1 } })
      ),
      ("longest gap, undisturbed, ms", "usual_gap_ms", 1, figure(\.usualGap)),
      ("longest gap, long prompt, ms", "longest_gap_ms", 1, figure(\.longestGap)),
      ("two chunks and two steps, ms", "two_chunks_two_steps_ms", 1, figure { 2 * ($0.chunk + $0.sideBySideStep) }),
    ]
    if !alternating.isEmpty {
      lines.append(("every expert, tokens/s", "alternating_tokens_per_second", 1, Figure(alternating)))
    }
    return lines
  }

  var description: String {
    let lines = figures.map { name, _, places, figure in
      func text(_ value: Double) -> String { String(format: "%.\(places)f", value) }
      return name.padding(toLength: 34, withPad: " ", startingAt: 0)
        + "\(text(figure.median))  (\(text(figure.minimum)) to \(text(figure.maximum)))"
    }
    return (["\(rounds.count) rounds; median (least to most)"] + lines).joined(separator: "\n")
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let values = Dictionary(uniqueKeysWithValues: figures.map { ($0.key, $0.value) })
    return String(decoding: try encoder.encode(values), as: UTF8.self)
  }
}
