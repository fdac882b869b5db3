internal import Core

/// Turns spans into events of the Trace Event Format, which Perfetto and Chrome's tracing page open: a row for each
/// request, and rows for the router and each expert with what they computed.
///
/// A token's span says how long its parts took, not when; they are laid out in their order: router, way there, expert, way
/// back, merge.
struct TraceEvents {
  /// Rows side by side in which one model's slices are laid out at most.
  static let maximumLanes = 64
  /// Requests under way whose rows are known.
  static let maximumRows = 100_000
  private static let requests = 1
  private static let router = 2

  /// Rows of one process, each with the end of its last slice.
  private struct Process {
    var id: Int
    var lanes: [UInt64] = []

    /// The row for a slice: the first that is free at its start, so that slices of a row never overlap.
    mutating func lane(from start: UInt64, to end: UInt64) -> (number: Int, isNew: Bool) {
      if let free = lanes.firstIndex(where: { $0 <= start }) {
        lanes[free] = end
        return (free, false)
      }
      guard lanes.count < TraceEvents.maximumLanes else { return (TraceEvents.maximumLanes - 1, false) }
      lanes.append(end)
      return (lanes.count - 1, true)
    }
  }

  private let experts: [String]
  private var processes: [String: Process] = [:]
  /// Rows of requests under way, by the id of their outermost span.
  private var rows: [String: Int] = [:]
  private var nextRow = 1

  /// - Parameter experts: in the order in which they are to be shown.
  init(experts: [String]) { self.experts = experts }

  /// What a file starts with, all rows forgotten.
  mutating func beginning() -> String {
    processes = [:]
    var text = "[\n" + name(process: Self.requests, "requests") + name(process: Self.router, "router")
    processes["router"] = Process(id: Self.router)
    for expert in experts { text += begin(expert) }
    return text
  }

  /// The lines of one span.
  mutating func lines(_ span: TraceSpan) -> String {
    let isOutermost = span.name == "request"
    let key = isOutermost ? span.spanID : span.parentID
    var text = ""
    let row = rows[key] ?? nextRow
    if rows[key] == nil {
      // Only a request that never ends, which is a defect, would stay.
      if rows.count >= Self.maximumRows { rows = [:] }
      rows[key] = row
      nextRow += 1
    }
    if isOutermost {
      // A row is done with its outermost span, which comes last.
      rows[key] = nil
      if case .string(let id)? = span.attributes["request_id"] { text += name(thread: row, of: Self.requests, id) }
    }
    text += slice(
      span.name, process: Self.requests, thread: row, start: span.start, end: span.end, span.attributes, span)
    return text + parts(span)
  }

  /// A note in the row of all.
  static func note(_ text: String, at time: UInt64) -> String {
    "{\"ph\":\"i\",\"s\":\"g\",\"name\":\(JSONText.string(text)),\"pid\":\(requests),\"tid\":0,\"ts\":\(microseconds(time))},\n"
  }

  // MARK: What models computed

  private mutating func parts(_ span: TraceSpan) -> String {
    func nanoseconds(_ name: String) -> UInt64 {
      guard case .integer(let value)? = span.attributes["\(name)_us"], value > 0 else { return 0 }
      return UInt64(value) * 1000
    }
    let (router, expert) = (nanoseconds("router_compute"), nanoseconds("expert_compute"))
    let routerStart = span.start + nanoseconds("router_queue")
    var text = ""
    if router > 0 { text += part("router", of: span, from: routerStart, lasting: router) }
    if expert > 0, case .string(let name)? = span.attributes["expert"] {
      let start = routerStart + router + nanoseconds("wire") / 2 + nanoseconds("expert_queue")
      text += part(name, of: span, from: start, lasting: expert)
    }
    return text
  }

  private mutating func part(
    _ model: String, of span: TraceSpan, from start: UInt64, lasting: UInt64
  ) -> String {
    // Experts work side by side where all step at once: the sum of the parts may be longer than the whole.
    let end = min(start + lasting, span.end)
    guard start < end else { return "" }
    var text = ""
    if processes[model] == nil { text += begin(model) }
    guard var process = processes[model] else { return text }
    let lane = process.lane(from: start, to: end)
    processes[model] = process
    if lane.isNew { text += name(thread: lane.number + 1, of: process.id, "\(model) \(lane.number + 1)") }
    return text
      + slice(
        span.name, process: process.id, thread: lane.number + 1, start: start, end: end,
        span.attributes.filter { ["token", "index"].contains($0.key) }, span)
  }

  private mutating func begin(_ expert: String) -> String {
    let id = Self.router + (experts.firstIndex(of: expert).map { $0 + 1 } ?? experts.count + processes.count + 1)
    processes[expert] = Process(id: id)
    return name(process: id, "expert \(expert)")
  }

  // MARK: JSON

  private func name(process: Int, _ name: String) -> String {
    "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":\(process),\"args\":{\"name\":\(JSONText.string(name))}},\n"
      + "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":\(process),\"args\":{\"sort_index\":\(process)}},\n"
  }

  private func name(thread: Int, of process: Int, _ name: String) -> String {
    "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":\(process),\"tid\":\(thread),\"args\":{\"name\":"
      + "\(JSONText.string(name))}},\n"
  }

  private func slice(
    _ name: String, process: Int, thread: Int, start: UInt64, end: UInt64, _ attributes: [String: TraceValue],
    _ span: TraceSpan
  ) -> String {
    let args = JSONText.object(
      [("trace_id", .text(span.traceID)), ("span_id", .text(span.spanID))]
        + attributes.sorted { $0.key < $1.key }.map { ($0.key, Self.json($0.value)) })
    let length = Self.microseconds(end >= start ? end - start : 0)
    return
      "{\"ph\":\"X\",\"name\":\(JSONText.string(name)),\"cat\":\"fusionroute\",\"pid\":\(process),\"tid\":\(thread),"
      + "\"ts\":\(Self.microseconds(start)),\"dur\":\(length),\"args\":\(args.rendered)},\n"
  }

  private static func json(_ value: TraceValue) -> JSONText {
    switch value {
    case .string(let text): .text(text)
    case .integer(let value): .integer(value)
    case .number(let value): .number(value)
    case .flag(let value): .bool(value)
    }
  }

  /// Exact, which a Double of the time since 1970 would not be.
  private static func microseconds(_ nanoseconds: UInt64) -> String {
    let fraction = String(1000 + nanoseconds % 1000).dropFirst()
    return "\(nanoseconds / 1000).\(fraction)"
  }
}
