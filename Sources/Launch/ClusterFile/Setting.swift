/// One key of the cluster file: the reader, the defaults and the reference article all come from this.
public struct Setting: Sendable {
  /// What a value may be.
  public indirect enum Kind: Sendable {
    case text
    /// A path; relative ones are relative to the cluster file.
    case file
    case directory
    case integer(ClosedRange<Int>)
    case number(ClosedRange<Double>)
    case flag
    case choice([String])
    /// `80GiB`, `512MB` or a plain number of bytes.
    case bytes
    /// `500ms`, `30s`, `5min`, `1h`.
    case duration
    /// `tcp://HOST:PORT` or `ipc://PATH`.
    case endpoint
    /// `HOST:PORT`.
    case socketAddress
    /// One name or a list of names.
    case names
    /// One origin of web pages or a list of them: `https://HOST[:PORT]` or `*`.
    case origins
    /// A mapping with these keys.
    case section([Setting])
    /// A mapping from names to sections with these keys.
    case named([Setting])
    /// A list of sections with these keys.
    case list([Setting])
  }

  /// What holds when the key is left out.
  public enum Fallback: Sendable {
    case required
    /// As if this text stood in the file.
    case value(String)
    /// Nothing; the text says what that means.
    case absent(String)
  }

  public let key: String
  public let kind: Kind
  public let fallback: Fallback
  /// One or two sentences for the reference.
  public let meaning: String

  init(_ key: String, _ kind: Kind, _ fallback: Fallback, _ meaning: String) {
    self.key = key
    self.kind = kind
    self.fallback = fallback
    self.meaning = meaning
  }

  var isRequired: Bool { if case .required = fallback { true } else { false } }
}

extension Setting.Kind {
  /// The type as the reference and error messages name it.
  public var name: String {
    switch self {
    case .text: "text"
    case .file: "path of a file"
    case .directory: "path of a directory"
    case .integer(let range):
      range.upperBound == .max
        ? "whole number ≥ \(range.lowerBound)"
        : "whole number, \(range.lowerBound) to \(range.upperBound)"
    case .number(let range): "number, \(Self.plain(range.lowerBound)) to \(Self.plain(range.upperBound))"
    case .flag: "`true` or `false`"
    case .choice(let values): values.map { "`\($0)`" }.joined(separator: ", ")
    case .bytes: "size, such as `80GiB` or `512MB`"
    case .duration: "duration, such as `500ms`, `30s` or `5min`"
    case .endpoint: "`tcp://HOST:PORT` or `ipc://PATH`"
    case .socketAddress: "`HOST:PORT`"
    case .names: "a name or a list of names"
    case .origins: "`https://HOST[:PORT]` or `*`, one or a list"
    case .section: "section"
    case .named: "sections by name"
    case .list: "list of sections"
    }
  }

  private static func plain(_ value: Double) -> String {
    value == value.rounded() && value.magnitude < 1e15 ? String(Int(value)) : String(value)
  }

  /// The keys below this one; empty for values.
  public var children: [Setting] {
    switch self {
    case .section(let settings), .named(let settings), .list(let settings): settings
    default: []
    }
  }
}
