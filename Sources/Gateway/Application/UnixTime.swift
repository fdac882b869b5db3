internal import Foundation

/// The time of day.
struct UnixTime: Sendable {
  /// Since 1970, whole.
  let seconds: Int
  let date: Date

  static var now: UnixTime { UnixTime(Date()) }

  private init(_ date: Date) {
    self.date = date
    seconds = Int(date.timeIntervalSince1970)
  }

  /// RFC 3339 with milliseconds, in UTC.
  var text: String {
    date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
  }
}
