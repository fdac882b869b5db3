internal import Core
internal import Yams

/// One mapping of the file, its keys checked against the schema; gives typed values, defaults included.
struct SectionReader {
  /// Name of the file, for messages.
  let file: String
  /// Path of the section, `experts.math`; empty for the whole file.
  let path: String
  let line: Int
  private let settings: [Setting]
  private var entries: [String: (value: Node, line: Int)] = [:]

  init(_ node: Node, settings: [Setting], path: String, file: String, line: Int) throws {
    self.file = file
    self.path = path
    self.line = node.mark?.line ?? line
    self.settings = settings
    for (key, value, line) in try Self.pairs(of: node, path: path, file: file, line: line) {
      guard settings.contains(where: { $0.key == key }) else {
        throw Self.error(file, line, Self.unknown(key, path: path, settings: settings))
      }
      entries[key] = (value, line)
    }
    if let missing = settings.first(where: { $0.isRequired && entries[$0.key] == nil }) {
      throw Self.error(
        file, self.line, "\(Self.title(path)) lacks the key \"\(missing.key)\": \(missing.meaning.firstSentence)")
    }
  }

  /// An empty section, all defaults.
  init(defaults settings: [Setting], path: String, file: String) {
    self.file = file
    self.path = path
    self.line = 1
    self.settings = settings
  }

  // MARK: Values

  func text(_ key: String) throws -> String? { try scalar(key)?.text }

  func integer(_ key: String) throws -> Int {
    let value = try required(key)
    guard case .integer(let range) = try setting(key).kind, let number = Int(value.text), range.contains(number),
      value.plain
    else { throw try mismatch(key, value) }
    return number
  }

  func number(_ key: String) throws -> Double {
    let value = try required(key)
    guard case .number(let range) = try setting(key).kind, let number = Double(value.text), range.contains(number),
      value.plain
    else { throw try mismatch(key, value) }
    return number
  }

  func flag(_ key: String) throws -> Bool {
    let value = try required(key)
    guard value.plain, let flag = Bool(value.text) else { throw try mismatch(key, value) }
    return flag
  }

  func choice<T: RawRepresentable<String>>(_ key: String, as type: T.Type) throws -> T {
    let value = try required(key)
    guard case .choice(let allowed) = try setting(key).kind, allowed.contains(value.text),
      let choice = T(rawValue: value.text)
    else { throw try mismatch(key, value) }
    return choice
  }

  func bytes(_ key: String) throws -> Int? {
    guard let value = try scalar(key) else { return nil }
    guard let bytes = Quantity.bytes(value.text), bytes > 0 else { throw try mismatch(key, value) }
    return bytes
  }

  func duration(_ key: String) throws -> Duration {
    let value = try required(key)
    guard let duration = Quantity.duration(value.text) else { throw try mismatch(key, value) }
    return duration
  }

  /// A duration above zero; nil if the key is left out and has no default.
  func positiveDuration(_ key: String) throws -> Duration? {
    guard let value = try scalar(key) else { return nil }
    guard let duration = Quantity.duration(value.text), duration > .zero else { throw try mismatch(key, value) }
    return duration
  }

  func endpoint(_ key: String) throws -> Endpoint? {
    guard let value = try scalar(key) else { return nil }
    guard let endpoint = Endpoint(value.text) else { throw try mismatch(key, value) }
    return endpoint
  }

  func socketAddress(_ key: String) throws -> String {
    let value = try required(key)
    guard Endpoint.hostAndPort(value.text) != nil else { throw try mismatch(key, value) }
    return value.text
  }

  func names(_ key: String) throws -> [String] { try scalars(key).map(\.text) }

  func origins(_ key: String) throws -> [String] {
    try scalars(key).map { value in
      guard let origin = WebOrigin.normalized(value.text) else { throw try mismatch(key, value) }
      return origin
    }
  }

  // MARK: Sections below

  func section(_ key: String) throws -> SectionReader {
    let settings = try setting(key).kind.children
    let below = path.isEmpty ? key : "\(path).\(key)"
    guard let entry = entries[key], !entry.value.isNull else {
      return SectionReader(defaults: settings, path: below, file: file)
    }
    return try SectionReader(entry.value, settings: settings, path: below, file: file, line: entry.line)
  }

  func namedSections(_ key: String) throws -> [(name: String, line: Int, section: SectionReader)] {
    let settings = try setting(key).kind.children
    guard let entry = entries[key] else { return [] }
    return try Self.pairs(of: entry.value, path: key, file: file, line: entry.line).map { name, value, line in
      (name, line, try SectionReader(value, settings: settings, path: "\(key).\(name)", file: file, line: line))
    }
  }

  func listedSections(_ key: String) throws -> [SectionReader] {
    let settings = try setting(key).kind.children
    guard let entry = entries[key], !entry.value.isNull else { return [] }
    guard case .sequence(let nodes) = entry.value else {
      throw error(at: entry.line, "\"\(key)\" must be a list, each entry starting with \"- \"")
    }
    return try nodes.enumerated().map { index, node in
      try SectionReader(node, settings: settings, path: "\(key)[\(index)]", file: file, line: entry.line)
    }
  }

  // MARK: Lines and errors

  func has(_ key: String) -> Bool { entries[key] != nil }

  /// Line of the key, or of the section if the key is left out.
  func line(of key: String) -> Int { entries[key]?.line ?? line }

  func error(at line: Int, _ message: String) -> FusionRouteError { Self.error(file, line, message) }

  static func error(_ file: String, _ line: Int, _ message: String) -> FusionRouteError {
    .badInput("\(file):\(line): \(message)")
  }

  // MARK: Private

  private struct Scalar {
    var text: String
    /// Not in quotes, so that numbers and flags mean themselves.
    var plain: Bool
    var line: Int
  }

  private func setting(_ key: String) throws -> Setting {
    guard let setting = settings.first(where: { $0.key == key }) else {
      throw FusionRouteError.internal("the key \"\(key)\" is read but stands in no table of the cluster file's keys")
    }
    return setting
  }

  /// The value in the file, else the default.
  private func scalar(_ key: String) throws -> Scalar? {
    if let entry = entries[key] { return try scalar(of: entry.value, key: key, line: entry.line) }
    if case .value(let text) = try setting(key).fallback { return Scalar(text: text, plain: true, line: line) }
    return nil
  }

  /// One value or a list of them; none if the key is left out.
  private func scalars(_ key: String) throws -> [Scalar] {
    guard let entry = entries[key] else { return [] }
    guard case .sequence(let sequence) = entry.value else {
      return [try scalar(of: entry.value, key: key, line: entry.line)]
    }
    return try sequence.map { try scalar(of: $0, key: key, line: entry.line) }
  }

  private func required(_ key: String) throws -> Scalar {
    guard let value = try scalar(key) else {
      throw FusionRouteError.internal("the key \"\(key)\" is read as if it had a default, but it has none")
    }
    return value
  }

  private func scalar(of node: Node, key: String, line: Int) throws -> Scalar {
    let line = node.mark?.line ?? line
    guard case .scalar(let scalar) = node, !node.isNull else {
      throw error(at: line, "\"\(key)\" must be a \(try setting(key).kind.name)")
    }
    return Scalar(text: scalar.string, plain: scalar.style == .plain || scalar.style == .any, line: line)
  }

  private func mismatch(_ key: String, _ value: Scalar) throws -> FusionRouteError {
    error(at: value.line, "\"\(key)\" is \"\(value.text)\" but must be: \(try setting(key).kind.name)")
  }

  private static func title(_ path: String) -> String { path.isEmpty ? "the cluster file" : "\"\(path)\"" }

  /// Key, value and the key's line; refuses what is no mapping and keys that are no plain words or stand twice.
  private static func pairs(
    of node: Node, path: String, file: String, line: Int
  ) throws -> [(String, Node, Int)] {
    guard case .mapping(let mapping) = node else {
      throw error(file, node.mark?.line ?? line, "\(title(path)) must be a mapping of \"key: value\" lines")
    }
    var seen: [String: Int] = [:]
    return try mapping.map { key, value in
      let keyLine = key.mark?.line ?? line
      guard case .scalar(let scalar) = key else {
        throw error(file, keyLine, "a key in \(title(path)) is no plain word")
      }
      if let first = seen[scalar.string] {
        throw error(file, keyLine, "\"\(scalar.string)\" stands twice in \(title(path)), first on line \(first)")
      }
      seen[scalar.string] = keyLine
      return (scalar.string, value, keyLine)
    }
  }

  private static func unknown(_ key: String, path: String, settings: [Setting]) -> String {
    let keys = settings.map(\.key)
    let start = "unknown key \"\(key)\" in \(title(path))"
    if let near = NearestName.find(key, among: keys) { return "\(start): did you mean \"\(near)\"?" }
    if let elsewhere = ClusterSchema.root.first(where: { $0.kind.children.contains { $0.key == key } }) {
      return "\(start): it belongs in \"\(elsewhere.key)\""
    }
    return "\(start): its keys are \(keys.joined(separator: ", "))"
  }
}

extension Node {
  /// Nothing after the colon, or an unquoted `null` or `~`.
  var isNull: Bool {
    guard case .scalar(let scalar) = self else { return false }
    return (scalar.style == .plain || scalar.style == .any)
      && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
  }
}

extension String {
  /// Up to the first full stop that a space follows, without the stop.
  var firstSentence: String {
    guard let end = range(of: ". ") else { return hasSuffix(".") ? String(dropLast()) : self }
    return String(self[..<end.lowerBound])
  }
}
