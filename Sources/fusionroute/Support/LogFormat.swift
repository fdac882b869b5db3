internal import ArgumentParser
internal import Foundation
internal import Logging

/// How log lines look.
enum LogFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
  /// For people: clock, level, message, metadata.
  case text
  /// One JSON object a line.
  case json
  /// For journald, which has its own clock: the priority as sd-daemon(3) marks it, message, metadata.
  case journal

  /// The format where none was asked for: `journal` if stderr is journald's, which says so in JOURNAL_STREAM
  /// (systemd.exec(5)), else `text`.
  static func automatic(environment: [String: String], descriptor: Int32 = STDERR_FILENO) -> LogFormat {
    let parts = (environment["JOURNAL_STREAM"] ?? "").split(separator: ":")
    var status = stat()
    guard parts.count == 2, let device = UInt64(parts[0]), let inode = UInt64(parts[1]),
      fstat(descriptor, &status) == 0
    else { return .text }
    return UInt64(status.st_dev) == device && UInt64(status.st_ino) == inode ? .journal : .text
  }

  /// A line that a supervised worker wrote in this same format, with the worker's name, and its line feed.
  ///
  /// What is no log line, such as a crash's last words, becomes one.
  func relayed(_ line: String, worker: String, style: Style, now: Date = Date()) -> String {
    switch self {
    case .text:
      return "\(style.paint("[\(worker)]", .faint)) \(line)\n"
    case .journal:
      guard let mark = line.prefixMatch(of: /<[0-7]>/) else { return "<6>[\(worker)] \(line)\n" }
      return "\(mark.output)[\(worker)] \(line[mark.range.upperBound...])\n"
    case .json:
      // A line that was cut at the supervisor's limit is no object any more.
      guard line.hasPrefix("{\""), line.hasSuffix("}") else {
        return LogLine(
          time: now, level: .info, label: "worker", message: line, metadata: ["worker": "\(worker)"]
        ).rendered(self, style: style)
      }
      return "{\"worker\":\(JSONText.string(worker)),\(line.dropFirst())\n"
    }
  }
}

/// A log event on its way to stderr.
struct LogLine {
  var time: Date
  var level: Logger.Level
  var label: String
  var message: String
  var metadata: Logger.Metadata

  /// With a final line feed, and no other.
  func rendered(_ format: LogFormat, style: Style) -> String {
    switch format {
    case .text:
      let fields = fields.map { " \(style.paint($0.0 + "=", .faint))\($0.1)" }.joined()
      return "\(style.paint(Self.clock(time), .faint)) \(level(style)) \(singleLine)\(fields)\n"
    case .journal:
      return "<\(priority)>\(singleLine)\(fields.map { " \($0.0)=\($0.1)" }.joined())\n"
    case .json:
      var members: [(String, JSONText)] = [
        ("ts", .text(Self.timestamp(time))), ("level", .text(level.rawValue)), ("label", .text(label)),
        ("message", .text(message)),
      ]
      let own = Set(members.map(\.0))
      for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
        Self.flatten(own.contains(key) ? "metadata.\(key)" : key, value, into: &members)
      }
      return JSONText.object(members).rendered + "\n"
    }
  }

  private var singleLine: String { message.split(whereSeparator: \.isNewline).joined(separator: " ") }

  /// Metadata as text; values with spaces or quotes are quoted, so that a line can be split again.
  private var fields: [(String, String)] {
    metadata.sorted { $0.key < $1.key }.map { key, value in
      let value = "\(value)"
      let isPlain = !value.isEmpty && !value.contains { $0 == " " || $0 == "\"" || $0.isNewline }
      return (key, isPlain ? value : JSONText.string(value))
    }
  }

  private static func flatten(_ key: String, _ value: Logger.MetadataValue, into members: inout [(String, JSONText)]) {
    if case .dictionary(let table) = value {
      for (below, value) in table.sorted(by: { $0.key < $1.key }) { flatten("\(key).\(below)", value, into: &members) }
    } else {
      members.append((key, json(value)))
    }
  }

  private static func json(_ value: Logger.MetadataValue) -> JSONText {
    switch value {
    case .string(let text): .text(text)
    case .stringConvertible(let value): .text("\(value)")
    case .array(let values): .array(values.map(json))
    case .dictionary(let table): .object(table.sorted { $0.key < $1.key }.map { ($0.key, json($0.value)) })
    }
  }

  private func level(_ style: Style) -> String {
    let name = level.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
    return switch level {
    case .trace, .debug: style.paint(name, .faint)
    case .info, .notice: name
    case .warning: style.paint(name, .warning)
    case .error, .critical: style.paint(name, .failure)
    }
  }

  private var priority: Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  /// Local time of day.
  private static func clock(_ time: Date) -> String {
    let (parts, milliseconds) = broken(time, localtime_r)
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(three(milliseconds))"
  }

  /// RFC 3339 in UTC, with milliseconds.
  static func timestamp(_ time: Date) -> String {
    let (parts, milliseconds) = broken(time, gmtime_r)
    return "\(1900 + Int(parts.tm_year))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(three(milliseconds))Z"
  }

  private static func broken(
    _ time: Date, _ convert: (UnsafePointer<time_t>, UnsafeMutablePointer<tm>) -> UnsafeMutablePointer<tm>?
  ) -> (tm, Int) {
    let milliseconds = Int((time.timeIntervalSince1970 * 1000).rounded(.down))
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    _ = convert(&seconds, &parts)
    return (parts, milliseconds % 1000)
  }

  private static func two(_ value: Int32) -> String { (value < 10 ? "0" : "") + String(value) }
  private static func three(_ value: Int) -> Substring { String(1000 + value).dropFirst() }
}
