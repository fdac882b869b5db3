internal import Foundation

/// A value of a span's attribute; the kinds of OpenTelemetry.
public enum TraceValue: Sendable, Hashable {
  case string(String)
  case integer(Int)
  case number(Double)
  case flag(Bool)
}

/// A stretch of time of a request, as OpenTelemetry has it.
public struct TraceSpan: Sendable, Equatable {
  public var name: String
  /// 32 hexadecimal digits.
  public var traceID: String
  /// 16 hexadecimal digits.
  public var spanID: String
  /// The span that this one is part of; for the outermost one the client's, which is never recorded here.
  public var parentID: String
  /// Nanoseconds since 1970.
  public var start: UInt64
  public var end: UInt64
  public var attributes: [String: TraceValue]

  public init(
    name: String, traceID: String, spanID: String, parentID: String, start: UInt64, end: UInt64,
    attributes: [String: TraceValue] = [:]
  ) {
    self.name = name
    self.traceID = traceID
    self.spanID = spanID
    self.parentID = parentID
    self.start = start
    self.end = end
    self.attributes = attributes
  }
}

/// Takes finished spans of sampled requests, from any thread; must not wait.
public protocol TraceSink: Sendable {
  func record(_ span: TraceSpan)
}

/// Nanoseconds since 1970 by a clock that never goes back within this process, so that no span has a negative length.
public enum TraceClock {
  private static let offset = UInt64(Date().timeIntervalSince1970 * 1e9) &- DispatchTime.now().uptimeNanoseconds

  public static var now: UInt64 { DispatchTime.now().uptimeNanoseconds &+ offset }
}
