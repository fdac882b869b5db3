internal import Core
public import Foundation
internal import Yams

extension ClusterFile {
  /// Bytes that a cluster file may have.
  static let maximumBytes = 1 << 20

  /// Reads and checks a cluster file. Files that it names are not looked at: see ``checkFiles(for:)``.
  ///
  /// Throws `badInput` with one sentence that starts with `FILE:LINE:`.
  public static func load(path: String) throws -> ClusterFile {
    let url = URL(fileURLWithPath: path)
    let data: Data
    do { data = try Data(contentsOf: url) } catch {
      let reason = FileManager.default.fileExists(atPath: path) ? "cannot be read" : "does not exist"
      throw FusionRouteError.badInput("the cluster file \(path) \(reason)")
    }
    guard data.count <= maximumBytes else {
      throw FusionRouteError.badInput(
        "the cluster file \(path) has \(data.count) bytes, more than the \(maximumBytes) that such a file may have")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      // No UTF-8 character contains the byte of a line feed, so each line stands for itself.
      let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      let bad = lines.firstIndex { String(validating: $0, as: UTF8.self) == nil } ?? 0
      throw SectionReader.error(path, bad + 1, "this line is not valid UTF-8")
    }
    return try parse(text, source: path, directory: url.deletingLastPathComponent())
  }

  /// Reads a cluster file from `text`; relative paths in it are relative to `directory`.
  public static func parse(_ text: String, source: String, directory: URL) throws -> ClusterFile {
    let node: Node?
    do { node = try compose(yaml: text) } catch let error as YamlError {
      throw sentence(for: error, source: source)
    }
    guard let node, !node.isNull else {
      throw SectionReader.error(source, 1, "the cluster file is empty: it needs at least \"router\" and \"experts\"")
    }
    let root = try SectionReader(node, settings: ClusterSchema.root, path: "", file: source, line: 1)
    var builder = ClusterBuilder(root: root, directory: directory)
    let cluster = try builder.build()
    try cluster.checkConsistency()
    return cluster
  }

  private static func sentence(for error: YamlError, source: String) -> FusionRouteError {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      return SectionReader.error(source, mark.line, "this is no valid YAML: \(problem) at column \(mark.column)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let keys = duplicates.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
      return SectionReader.error(
        source, context.mark.line, "\(keys) stands more than once in the same section, first on this line")
    case .reader(let problem, let offset, _, let yaml):
      let line = 1 + yaml.prefix(offset ?? 0).count { $0.isNewline }
      return SectionReader.error(source, line, "this is no valid YAML: \(problem)")
    default:
      return .badInput("\(source) cannot be read as YAML", cause: error)
    }
  }
}

/// Turns checked sections into values and notes where each key stood.
struct ClusterBuilder {
  let root: SectionReader
  let directory: URL
  var lines: [String: Int] = [:]

  mutating func build() throws -> ClusterFile {
    var cluster = ClusterFile(source: root.file, router: try router(), experts: try experts())
    cluster.hosts = try hosts()
    cluster.listen = try listen()
    cluster.gateway = try gateway()
    cluster.decoding = try decoding()
    cluster.onExpertLoss = try root.choice("on_expert_loss", as: ClusterFile.ExpertLoss.self)
    cluster.expertWait = try root.duration("expert_wait")
    cluster.startWait = try root.duration("start_wait")
    cluster.supervision = try supervision()
    if root.has("security") {
      let section = try root.section("security")
      note("keys", in: section)
      cluster.keys = try section.text("keys").map(absolute)
    }
    cluster.lines = lines
    return cluster
  }

  private mutating func router() throws -> ClusterFile.Router {
    let section = try root.section("router")
    note("head", in: section)
    return ClusterFile.Router(engine: try engine(section), head: absolute(try section.text("head") ?? ""))
  }

  private mutating func engine(_ section: SectionReader) throws -> ClusterFile.Engine {
    for key in ["model", "lora", "slots", "context", "threads"] { note(key, in: section) }
    if section.has("lora_scale"), !section.has("lora") {
      throw section.error(at: section.line(of: "lora_scale"), "\"lora_scale\" needs \"lora\" beside it")
    }
    return ClusterFile.Engine(
      model: absolute(try section.text("model") ?? ""), lora: try section.text("lora").map(absolute),
      loraScale: Float(try section.number("lora_scale")), threads: try section.integer("threads"),
      gpuLayers: try section.integer("gpu_layers"), context: try section.integer("context"),
      slots: try section.integer("slots"), kv: try section.choice("kv", as: ClusterFile.KVType.self))
  }

  private mutating func experts() throws -> [ClusterFile.Expert] {
    var experts: [ClusterFile.Expert] = []
    for (name, line, section) in try root.namedSections("experts") {
      guard ClusterFile.isValidName(name), name != "router" else {
        let reason =
          name == "router"
          ? "\"router\" names the router itself"
          : "use letters, digits, \".\", \"_\" and \"-\", at most \(ClusterFile.maximumNameLength), first a letter or digit"
        throw section.error(at: line, "\"\(name)\" cannot be the name of an expert: \(reason)")
      }
      lines["experts.\(name)"] = line
      note("host", in: section)
      experts.append(
        ClusterFile.Expert(
          name: name, engine: try engine(section), replicas: try section.integer("replicas"),
          hosts: try section.names("host")))
    }
    guard !experts.isEmpty else {
      throw root.error(at: root.line(of: "experts"), "\"experts\" names no expert: at least one is needed")
    }
    return experts
  }

  private mutating func listen() throws -> ClusterFile.Listen {
    let section = try root.section("listen")
    for key in ["http", "workers", "advertise"] { note(key, in: section) }
    return ClusterFile.Listen(
      http: try section.socketAddress("http"), workers: try section.endpoint("workers").map(absolute),
      advertise: try section.endpoint("advertise").map(absolute))
  }

  private mutating func gateway() throws -> ClusterFile.Gateway {
    let section = try root.section("gateway")
    for key in ["api_keys", "tls_certificate", "tls_key", "request_log", "trace"] { note(key, in: section) }
    var gateway = ClusterFile.Gateway()
    gateway.apiKeys = try section.text("api_keys").map(absolute)
    gateway.certificate = try section.text("tls_certificate").map(absolute)
    gateway.privateKey = try section.text("tls_key").map(absolute)
    gateway.allowedOrigins = try section.origins("allowed_origins")
    gateway.allowedHosts = try section.names("allowed_hosts")
    gateway.maximumBody = try section.bytes("max_body") ?? gateway.maximumBody
    gateway.maximumConnections = try section.integer("max_connections")
    gateway.queueLimit = try section.integer("queue_limit")
    if section.has("client_queue_limit") { gateway.clientQueueLimit = try section.integer("client_queue_limit") }
    gateway.requestDeadline = try section.positiveDuration("request_deadline")
    gateway.defaultMaximumTokens = try section.integer("default_max_tokens")
    gateway.shutdownGrace = try section.duration("shutdown_grace")
    gateway.requestLog = try section.text("request_log").map(absolute)
    gateway.trace = try section.text("trace").map(absolute)
    return gateway
  }

  private func decoding() throws -> ClusterFile.Decoding {
    let section = try root.section("decoding")
    var decoding = ClusterFile.Decoding()
    decoding.topK = try section.integer("top_k")
    decoding.reproducible = try section.flag("reproducible")
    decoding.warm = try section.choice("warm", as: ClusterFile.Warm.self)
    decoding.fanout = try section.choice("fanout", as: ClusterFile.Fanout.self)
    decoding.auditRate = try section.number("audit_rate")
    return decoding
  }

  private func supervision() throws -> ClusterFile.Supervision {
    let section = try root.section("supervision")
    var supervision = ClusterFile.Supervision()
    supervision.restarts = try section.integer("restarts")
    supervision.window = try section.duration("window")
    supervision.backOff = try section.duration("back_off")
    supervision.grace = try section.duration("grace")
    supervision.orphanAfter = try section.duration("orphan_after")
    return supervision
  }

  private mutating func note(_ key: String, in section: SectionReader) {
    lines["\(section.path).\(key)"] = section.line(of: key)
  }

  func absolute(_ path: String) -> String {
    let expanded = path.hasPrefix("~/") ? NSHomeDirectory() + path.dropFirst() : path
    let full = expanded.hasPrefix("/") ? expanded : "\(directory.path)/\(expanded)"
    return URL(fileURLWithPath: full).standardizedFileURL.path
  }

  private func absolute(_ endpoint: Endpoint) -> Endpoint {
    if case .ipc(let path) = endpoint { .ipc(path: absolute(path)) } else { endpoint }
  }
}
