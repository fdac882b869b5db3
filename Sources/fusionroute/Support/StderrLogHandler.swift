internal import Foundation
internal import Logging

/// Log lines on stderr.
struct StderrLogHandler: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?
  private let label: String
  private let format: LogFormat
  private let style: Style

  init(label: String, level: Logger.Level, format: LogFormat, style: Style) {
    self.label = label
    logLevel = level
    self.format = format
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
    if let error = event.error { all["error"] = "\(error)" }
    let line = LogLine(time: Date(), level: event.level, label: label, message: "\(event.message)", metadata: all)
    try? FileHandle.standardError.write(contentsOf: Data(line.rendered(format, style: style).utf8))
  }
}
