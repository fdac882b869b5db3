internal import Core
internal import Foundation

extension ClusterFile {
  public static let maximumNameLength = 64

  /// Letters, digits, `.`, `_` and `-`, first a letter or digit, at most 64 bytes.
  public static func isValidName(_ name: String) -> Bool {
    guard name.utf8.count <= maximumNameLength, let first = name.utf8.first, isAlphanumeric(first) else { return false }
    return name.utf8.allSatisfy {
      isAlphanumeric($0) || [UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-")].contains($0)
    }
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: false
    }
  }

  /// An error that names the line of `key`.
  func error(_ key: String, _ message: String) -> FusionRouteError {
    SectionReader.error(source, lines[key] ?? 1, message)
  }

  /// What one key alone cannot show: names that refer to others, and endpoints that fit the hosts and the keys.
  func checkConsistency() throws {
    for expert in experts {
      for name in expert.hosts where host(named: name) == nil {
        let near = NearestName.find(name, among: hosts.map(\.name)).map { ": did you mean \"\($0)\"?" }
        throw error(
          "experts.\(expert.name).host",
          "the expert \"\(expert.name)\" names the host \"\(name)\", which \"hosts\" does not list\(near ?? "")")
      }
    }
    try checkEndpoints()
    try checkGateway()
    // One late heartbeat is no loss.
    guard faults.silence >= faults.heartbeat * 3 else {
      throw error(
        lines["faults.silence"] == nil ? "faults.heartbeat" : "faults.silence",
        "\"faults.silence\" (\(Quantity.text(faults.silence))) must be at least three times \"faults.heartbeat\" "
          + "(\(Quantity.text(faults.heartbeat)))")
    }
  }

  private func checkGateway() throws {
    let missing = (gateway.certificate == nil, gateway.privateKey == nil)
    if missing.0 != missing.1 {
      let (there, lacking) = missing.0 ? ("tls_key", "tls_certificate") : ("tls_certificate", "tls_key")
      throw error("gateway.\(there)", "\"gateway.\(there)\" needs \"gateway.\(lacking)\" beside it")
    }
    if gateway.apiKeys == nil, !gateway.adminKeys.isEmpty {
      throw error("gateway.admin_keys", "\"gateway.admin_keys\" needs \"gateway.api_keys\" beside it")
    }
    if gateway.apiKeys == nil, let (host, _) = Endpoint.hostAndPort(listen.http), !Endpoint.isLoopback(host: host) {
      throw error(
        "listen.http",
        "the address \(listen.http) is reachable from other machines but \"gateway.api_keys\" is missing: make a key "
          + "with `fusionroute keys api add NAME --file FILE`, or listen on 127.0.0.1")
    }
    if let log = gateway.requestLog, log == gateway.trace {
      throw error("gateway.trace", "\"gateway.trace\" and \"gateway.request_log\" name the same file")
    }
    if let journal = gateway.journal, journal == gateway.trace || journal == gateway.requestLog {
      throw error("gateway.journal", "\"gateway.journal\" must be a file of its own")
    }
  }

  private func checkEndpoints() throws {
    let bind = listen.workers
    if let bind, !bind.isLocal, keys == nil {
      throw error(
        "listen.workers",
        "the endpoint \(bind) is reachable from other machines but \"security.keys\" is missing: make keys with "
          + "`fusionroute keys`, or listen on 127.0.0.1 or ipc")
    }
    if case .ipc(let path) = bind, path.utf8.count > Endpoint.maximumPathBytes {
      throw error(
        "listen.workers",
        "the socket path \(path) has \(path.utf8.count) bytes, more than the \(Endpoint.maximumPathBytes) a socket "
          + "can have")
    }
    guard let remote = hosts.first(where: \.isRemote) else { return }
    guard let bind, !bind.isLocal else {
      throw error(
        bind == nil ? "hosts.\(remote.name)" : "listen.workers",
        "the host \"\(remote.name)\" (\(remote.address)) cannot reach \(bind?.description ?? "a private ipc socket"): "
          + "set \"listen.workers\" to a tcp:// endpoint of a network that it can reach")
    }
    let told = listen.advertise ?? bind
    if told.isLocal || told.isWildcard {
      throw error(
        listen.advertise == nil ? "listen.workers" : "listen.advertise",
        "workers on the host \"\(remote.name)\" cannot connect to \(told): set \"listen.advertise\" to the address and "
          + "port that they reach this machine under")
    }
  }

  /// Checks that the file's experts are those of the routing head, given in the order of its rows.
  /// Throws `badInput` naming the expert that only one of them has.
  public func checkExperts(ofHead names: [String]) throws {
    let known = experts.map(\.name)
    if let missing = names.first(where: { !known.contains($0) }) {
      throw error(
        "router.head",
        "the routing head names the expert \"\(missing)\", which \"experts\" lacks; it names "
          + names.joined(separator: ", "))
    }
    if let extra = known.first(where: { !names.contains($0) }) {
      let near = NearestName.find(extra, among: names).map { ": did you mean \"\($0)\"?" } ?? ""
      throw error("experts.\(extra)", "the routing head does not know the expert \"\(extra)\"\(near)")
    }
  }

  /// What is about to use the cluster file, and so which of its files must exist here.
  public enum Role: Sendable, Equatable {
    /// Router and head.
    case coordinator
    /// The models of these experts.
    case workers(of: [String])
    /// Keys and certificate of the HTTP service, and the folders that it writes to.
    case gateway
  }

  /// Checks that the files a role needs exist and can be read. Throws `badInput` naming the key's line.
  public func checkFiles(for roles: [Role]) throws {
    for role in roles {
      switch role {
      case .coordinator:
        try checkFile(router.engine.model, key: "router.model", what: "the router's model")
        if let lora = router.engine.lora { try checkFile(lora, key: "router.lora", what: "the router's adapter") }
        try checkFile(router.head, key: "router.head", what: "the routing head")
        if let keys { try checkKeys(keys, ["coordinator.pub", "coordinator.key"]) }
      case .workers(let names):
        for expert in experts where names.contains(expert.name) {
          let key = "experts.\(expert.name)"
          try checkFile(expert.engine.model, key: "\(key).model", what: "the model of the expert \"\(expert.name)\"")
          if let lora = expert.engine.lora {
            try checkFile(lora, key: "\(key).lora", what: "the adapter of the expert \"\(expert.name)\"")
          }
        }
        if let keys { try checkKeys(keys, ["coordinator.pub"]) }
      case .gateway:
        if let file = gateway.apiKeys { try checkFile(file, key: "gateway.api_keys", what: "the file of API keys") }
        if let file = gateway.certificate {
          try checkFile(file, key: "gateway.tls_certificate", what: "the TLS certificate")
        }
        if let file = gateway.privateKey { try checkFile(file, key: "gateway.tls_key", what: "the TLS key") }
        if let file = gateway.requestLog { try checkFolder(of: file, key: "gateway.request_log") }
        if let file = gateway.trace { try checkFolder(of: file, key: "gateway.trace") }
        if let file = gateway.journal { try checkFolder(of: file, key: "gateway.journal") }
      }
    }
  }

  private func checkFile(_ path: String, key: String, what: String) throws {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw error(key, "\(what) does not exist: \(path)")
    }
    guard !isDirectory.boolValue else { throw error(key, "\(what) is a directory, not a file: \(path)") }
    guard FileManager.default.isReadableFile(atPath: path) else { throw error(key, "\(what) cannot be read: \(path)") }
  }

  private func checkFolder(of path: String, key: String) throws {
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      guard FileManager.default.isWritableFile(atPath: folder) else {
        throw error(key, "\"\(key)\" cannot be written: \(folder) does not exist or is not writable")
      }
      return
    }
    guard !isDirectory.boolValue else { throw error(key, "\"\(key)\" is a directory, not a file: \(path)") }
    guard FileManager.default.isWritableFile(atPath: path) else {
      throw error(key, "\"\(key)\" cannot be written: \(path)")
    }
  }

  private func checkKeys(_ directory: String, _ names: [String]) throws {
    for name in names where !FileManager.default.fileExists(atPath: "\(directory)/\(name)") {
      throw error(
        "security.keys", "the keys directory \(directory) has no \(name): make the keys with `fusionroute keys`")
    }
  }
}
