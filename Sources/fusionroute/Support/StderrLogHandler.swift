internal import Foundation
internal import Logging

/// Log lines on stderr: time, level, message, metadata.
struct StderrLogHandler: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?
  private let style: Style

  init(level: Logger.Level, style: Style) {
    logLevel = level
    self.style = style
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var all = metadata
    if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
    if let own = event.metadata { all.merge(own) { $1 } }
    let fields = all.sorted { $0.key < $1.key }.map {
      " \(style.paint($0.key + "=", .faint))\(Self.quoted("\($0.value)"))"
    }
    let line =
      "\(style.paint(Self.clock(), .faint)) \(level(event.level)) \(event.message)\(fields.joined())\n"
    try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
  }

  private func level(_ level: Logger.Level) -> String {
    let name = level.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
    return switch level {
    case .trace, .debug: style.paint(name, .faint)
    case .info, .notice: name
    case .warning: style.paint(name, .warning)
    case .error, .critical: style.paint(name, .failure)
    }
  }

  /// Values with spaces or quotes are quoted, so that a line can be split again.
  private static func quoted(_ value: String) -> String {
    value.contains { $0 == " " || $0 == "\"" || $0.isNewline } || value.isEmpty ? JSONText.string(value) : value
  }

  private static func clock() -> String {
    let milliseconds = Int(Date().timeIntervalSince1970 * 1000)
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    localtime_r(&seconds, &parts)
    func two(_ value: Int32) -> String { (value < 10 ? "0" : "") + String(value) }
    let fraction = String(1000 + milliseconds % 1000).dropFirst()
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)"
  }
}
