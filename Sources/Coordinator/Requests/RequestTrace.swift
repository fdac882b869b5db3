internal import Core

/// The spans of one sampled request, and what workers are told of it.
struct RequestTrace: Sendable {
  private let sink: any TraceSink
  private let context: TraceContext
  private let began = TraceClock.now
  /// The request's own span.
  private let root = TraceContext.randomSpanID()

  /// Nil where nobody takes the spans.
  init?(_ context: TraceContext?, sink: (any TraceSink)?) {
    guard let context, context.isSampled, let sink else { return nil }
    self.sink = sink
    self.context = context
  }

  /// A part of the request that has begun.
  struct Part: Sendable {
    /// What workers are told: their work belongs to this part.
    let context: TraceContext
    fileprivate let began = TraceClock.now
  }

  func begin() -> Part {
    var inner = context
    inner.parentID = TraceContext.randomSpanID()
    return Part(context: inner)
  }

  func end(_ part: Part, _ name: String, _ attributes: [String: TraceValue] = [:]) {
    record(name, span: part.context.parentID, parent: root, start: part.began, attributes)
  }

  /// The request has ended; its parts have too.
  func end(_ attributes: [String: TraceValue]) {
    var attributes = attributes
    attributes["request_id"] = .string(context.requestID)
    record("request", span: root, parent: context.parentID, start: began, attributes)
  }

  private func record(
    _ name: String, span: String, parent: String, start: UInt64, _ attributes: [String: TraceValue]
  ) {
    sink.record(
      TraceSpan(
        name: name, traceID: context.traceID, spanID: span, parentID: parent, start: start, end: TraceClock.now,
        attributes: attributes))
  }
}
