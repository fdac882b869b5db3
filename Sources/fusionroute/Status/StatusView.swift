internal import Coordinator
internal import Foundation

/// A coordinator's status as lines for people.
struct StatusView {
  let url: String
  let style: Style

  /// - Parameters:
  ///   - previous: an earlier status and the seconds since, for speeds and for where time goes now.
  func lines(_ status: CoordinatorStatus, previous: (status: CoordinatorStatus, seconds: Double)? = nil) -> [String] {
    // A restart in between begins anew.
    let previous = previous.flatMap { $0.status.uptimeS <= status.uptimeS && $0.seconds > 0 ? $0 : nil }
    return head(status) + [""] + models(status, previous: previous).lines(style, expendable: Self.expendable) + [""]
      + latency(status, previous: previous?.status)
  }

  private var dot: String { style.unicode ? " · " : ", " }

  private func head(_ status: CoordinatorStatus) -> [String] {
    let requests = status.requests
    let totals = status.totals
    let state = status.ready ? "ready" : style.paint("not ready", .failure)
    var lines = [
      [
        style.paint("fusionroute \(Self.clean(status.version))", .strong) + " at \(url)",
        URL(fileURLWithPath: Self.clean(status.router.model)).lastPathComponent, "up \(Self.time(status.uptimeS))",
        state,
      ]
      .joined(separator: dot)
    ]
    if !status.ready { lines.append(style.paint(Self.clean(status.reason), .warning)) }
    lines.append(
      [
        "\(requests.running) running", "\(requests.waiting) waiting of \(Self.count(requests.queueLimit))",
        "\(Self.count(requests.finished)) done", "\(Self.count(requests.failed)) failed",
        "\(Self.count(requests.cancelled)) cancelled", "\(Self.count(requests.refused)) refused",
      ].joined(separator: dot))
    lines.append(
      [
        "\(Summary.decimal(status.tokensPerSecond, 1)) tokens/s", "\(Self.count(totals.generatedTokens)) generated",
        "\(Self.count(totals.promptTokens)) of prompts, \(Self.count(totals.cachedTokens)) of them from the cache",
        "\(Self.count(totals.failovers)) failover\(totals.failovers == 1 ? "" : "s")",
      ].joined(separator: dot))
    return lines
  }

  // MARK: Models

  /// What a narrow window does without first: the sum of what its speed tells, memory, the place that a replica's name
  /// mostly tells.
  private static let expendable = [7, 6, 2]

  private func models(
    _ status: CoordinatorStatus, previous: (status: CoordinatorStatus, seconds: Double)?
  ) -> TextTable {
    var table = TextTable()
    func row(_ cells: [TextTable.Cell], _ numbers: [String], speed: String, decided: String) {
      table.add(cells + (numbers + (previous == nil ? [] : [speed]) + [decided]).map { .number($0) })
    }
    func speed(_ now: UInt64, _ before: UInt64?) -> String {
      guard let previous, let before, now >= before else { return "" }
      return Summary.decimal(Double(now - before) / previous.seconds, 1)
    }
    row(
      ["model", "replica", "where", "state"].map { .init($0) }, ["sequences", "queue", "KV tokens", "evaluated"],
      speed: "per s",
      decided: "decided")
    let router = status.router
    row(
      [.init("router", .strong), .init(""), .init(""), .init("")],
      [
        "\(router.residentSequences)/\(router.slots)", "\(router.queued)",
        Self.share(router.kvTokens, of: router.slots * router.context), Self.count(router.evaluatedTokens),
      ], speed: speed(router.evaluatedTokens, previous?.status.router.evaluatedTokens), decided: "")
    let all = max(1, status.experts.reduce(0) { $0 + $1.tokens })
    for (index, expert) in status.experts.enumerated() {
      let mark = style.depth == .none ? "" : (style.unicode ? "■ " : "# ")
      let name = TextTable.Cell(mark + Self.clean(expert.name), expert.routed ? .expert(index) : nil)
      let percent = Int((Double(expert.tokens) / Double(all) * 100).rounded())
      let share = "\(Self.count(expert.tokens)) \(Self.padded(percent)) %"
      if expert.replicas.isEmpty {
        row([name, .init("-"), .init(""), .init("missing", .failure)], ["", "", "", ""], speed: "", decided: share)
      }
      for (number, replica) in expert.replicas.enumerated() {
        let before = previous?.status.experts.first { $0.name == expert.name }?.replicas.first { $0.id == replica.id }
        row(
          [
            number == 0 ? name : TextTable.Cell(""), .init(Self.clean(replica.id)),
            .init("\(Self.clean(replica.host)) (\(replica.pid))"), state(of: replica),
          ],
          [
            "\(replica.sequences)/\(replica.slots)", "\(replica.queued)",
            Self.share(replica.kvTokens, of: replica.slots * replica.context), Self.count(replica.evaluatedTokens),
          ], speed: speed(replica.evaluatedTokens, before?.evaluatedTokens), decided: number == 0 ? share : "")
      }
    }
    return table
  }

  private func state(of replica: CoordinatorStatus.Replica) -> TextTable.Cell {
    let text = Self.clean(replica.state) + (replica.silenceMs >= 2000 ? ", silent \(replica.silenceMs / 1000) s" : "")
    switch replica.state {
    case "serving": return .init(text, replica.silenceMs >= 2000 ? .warning : nil)
    case "quarantined": return .init(text, .failure)
    default: return .init(text, .warning)
    }
  }

  // MARK: Latency

  /// A part of the time per token: its name, its letter where bars have no colours, its colour, its microseconds.
  private struct Part {
    var name: String
    var letter: Character
    var color: Int
    var time: @Sendable (CoordinatorStatus.Totals) -> UInt64
  }

  private static let parts: [Part] = [
    Part(name: "router", letter: "R", color: 0) { $0.routerComputeUs },
    Part(name: "expert", letter: "E", color: 1) { $0.expertComputeUs },
    Part(name: "wire", letter: "W", color: 2) { $0.wireUs },
    Part(name: "merge", letter: "M", color: 3) { $0.mergeUs },
    Part(name: "router queue", letter: "r", color: 4) { $0.routerQueueUs },
    Part(name: "expert queue", letter: "e", color: 6) { $0.expertQueueUs },
  ]

  private func latency(_ status: CoordinatorStatus, previous: CoordinatorStatus?) -> [String] {
    func times(_ totals: CoordinatorStatus.Totals) -> [UInt64] { Self.parts.map { $0.time(totals) } }
    var now = times(status.totals)
    if let previous {
      let before = times(previous.totals)
      // Whether anything was finished in between; else the sums since the start say more.
      let recent = zip(now, before).map { $0 >= $1 ? $0 - $1 : 0 }
      if recent.contains(where: { $0 > 0 }) { now = recent }
    }
    let sum = now.reduce(0, +)
    guard sum > 0 else { return ["no token yet"] }
    let width = max(10, min(60, style.width))
    let columns = Self.columns(now, width: width)
    let bar = zip(Self.parts, columns).map { part, count in
      style.depth == .none
        ? String(repeating: part.letter, count: count)
        : style.paint(String(repeating: style.unicode ? "█" : "#", count: count), .expert(part.color))
    }.joined()
    let legend = zip(Self.parts, now).map { part, time in
      let percent = Int((Double(time) / Double(sum) * 100).rounded())
      let mark = style.depth == .none ? "\(part.letter)" : style.paint(style.unicode ? "■" : "#", .expert(part.color))
      return "\(mark) \(part.name) \(percent) %"
    }
    // In two lines, so that they fit eighty columns.
    return [bar, legend.prefix(3).joined(separator: "  "), legend.dropFirst(3).joined(separator: "  ")]
  }

  /// Shares of `width` columns, which they fill exactly: the largest remainders get what rounding left over.
  static func columns(_ values: [UInt64], width: Int) -> [Int] {
    let sum = values.reduce(0.0) { $0 + Double($1) }
    guard sum > 0 else { return values.map { _ in 0 } }
    let exact = values.map { Double($0) / sum * Double(width) }
    var columns = exact.map { Int($0) }
    let byRemainder = exact.indices.sorted { exact[$0] - Double(columns[$0]) > exact[$1] - Double(columns[$1]) }
    for index in byRemainder.prefix(max(0, width - columns.reduce(0, +))) { columns[index] += 1 }
    return columns
  }

  // MARK: Texts

  /// Names come from other machines: none of their characters may steer the terminal.
  private static func clean(_ text: String) -> String { TokenPainter.printable(text).replacing("\n", with: " ") }

  private static func share(_ value: Int, of whole: Int) -> String { "\(count(value))/\(count(whole))" }

  private static func padded(_ value: Int) -> String {
    String(repeating: " ", count: value < 10 ? 2 : value < 100 ? 1 : 0) + "\(value)"
  }

  /// With groups of three digits: 12,345.
  static func count(_ value: some BinaryInteger) -> String {
    let digits = "\(value)"
    var result = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index).isMultiple(of: 3) { result.append(",") }
      result.append(digit)
    }
    return result
  }

  static func time(_ seconds: Double) -> String {
    let total = Int(max(0, min(seconds, 1e12)))
    let (days, hours, minutes) = (total / 86_400, total / 3600 % 24, total / 60 % 60)
    if days > 0 { return "\(days) d \(hours) h" }
    if hours > 0 { return "\(hours) h \(minutes) min" }
    return minutes > 0 ? "\(minutes) min \(total % 60) s" : "\(total) s"
  }
}
