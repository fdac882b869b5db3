internal import CZeroMQ
internal import Core

/// CURVE keys as files, one Z85 line each (ZeroMQ RFC 32):
///
///     keys/coordinator.pub        for every worker's host
///     keys/coordinator.key        0600, the coordinator's alone
///     keys/workers/NAME.pub
///     keys/workers/NAME.key       0600, for the hosts of the workers that use it
///     keys/allowed/NAME.pub       who may connect; removing the file revokes the key at once
public enum Keys {
  /// Characters of a key in Z85.
  public static let keyLength = 40

  /// Makes the directory with the coordinator's pair and one for each worker name, each allowed.
  ///
  /// - Throws: `.badInput` if a key exists and `force` is false (nothing is written then), or for a name that is not
  ///   letters, digits, `.`, `_` and `-`; `.unavailable` if a file cannot be written.
  public static func generate(directory: String, workers: [String], force: Bool = false) throws {
    try requireCurve()
    for name in workers { try check(name: name) }
    let layout = KeyLayout(directory: directory)
    if !force {
      let planned = [layout.coordinatorSecret, layout.coordinatorPublic] + workers.flatMap { layout.files(worker: $0) }
      if let existing = planned.first(where: KeyFile.exists) { throw alreadyThere(existing) }
    }
    for folder in layout.folders { try KeyFile.makeFolder(folder) }
    try writePair(public: layout.coordinatorPublic, secret: layout.coordinatorSecret, force: force)
    for name in workers { try writeWorker(name, layout, force: force) }
  }

  /// Adds a worker's pair to an existing directory and allows it.
  ///
  /// - Throws: as `generate`.
  public static func addWorker(_ name: String, directory: String, force: Bool = false) throws {
    try requireCurve()
    try check(name: name)
    let layout = KeyLayout(directory: directory)
    guard KeyFile.exists(layout.coordinatorPublic) else { throw noKeys(directory) }
    if !force, let existing = layout.files(worker: name).first(where: KeyFile.exists) { throw alreadyThere(existing) }
    for folder in layout.folders { try KeyFile.makeFolder(folder) }
    try writeWorker(name, layout, force: force)
  }

  /// Allows a public key made elsewhere.
  public static func allow(_ name: String, publicKey: String, directory: String, force: Bool = false) throws {
    try check(name: name)
    guard KeyFile.isKey(publicKey) else {
      throw FusionRouteError.badInput("the public key for \"\(name)\" is not \(keyLength) characters of Z85")
    }
    let layout = KeyLayout(directory: directory)
    try KeyFile.makeFolder(layout.allowedFolder)
    try KeyFile.store(publicKey, to: layout.allowed(name), mode: 0o644, force: force)
  }

  /// Takes a key off the allow-list: its connections are refused, its open ones are no longer heard.
  ///
  /// - Throws: `.badInput` if it is not on the list.
  public static func revoke(_ name: String, directory: String) throws {
    try check(name: name)
    let path = KeyLayout(directory: directory).allowed(name)
    guard try KeyFile.remove(path) else {
      throw FusionRouteError.badInput("\(path) does not exist, so there is no allowed key \"\(name)\" to revoke")
    }
  }

  /// Names on the allow-list, sorted.
  public static func allowed(directory: String) -> [String] {
    AllowList(folder: KeyLayout(directory: directory).allowedFolder, logger: nil).names
  }

  static func isName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 64 && !name.hasPrefix(".")
      && name.utf8.allSatisfy { byte in
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 45 || byte == 46
          || byte == 95
      }
  }

  private static func check(name: String) throws {
    guard isName(name) else {
      throw FusionRouteError.badInput(
        "\"\(name)\" cannot name a key: use up to 64 letters, digits, '.', '_' and '-', not starting with '.'")
    }
  }

  private static func requireCurve() throws {
    guard zmq_has("curve") == 1 else {
      throw FusionRouteError.unavailable("this build of libzmq has no CURVE security; install one with libsodium")
    }
  }

  private static func writeWorker(_ name: String, _ layout: KeyLayout, force: Bool) throws {
    let publicKey = try writePair(public: layout.workerPublic(name), secret: layout.workerSecret(name), force: force)
    try KeyFile.store(publicKey, to: layout.allowed(name), mode: 0o644, force: force)
  }

  @discardableResult
  private static func writePair(public publicPath: String, secret secretPath: String, force: Bool) throws -> String {
    var publicKey = [CChar](repeating: 0, count: keyLength + 1)
    var secretKey = publicKey
    guard zmq_curve_keypair(&publicKey, &secretKey) == 0 else { throw SocketError.last("cannot make a CURVE key pair") }
    let text = string(publicKey)
    try KeyFile.store(string(secretKey), to: secretPath, mode: 0o600, force: force)
    try KeyFile.store(text, to: publicPath, mode: 0o644, force: force)
    return text
  }

  /// The public key that belongs to a secret one.
  static func publicKey(of secretKey: String) throws -> String {
    var publicKey = [CChar](repeating: 0, count: keyLength + 1)
    guard zmq_curve_public(&publicKey, secretKey) == 0 else { throw SocketError.last("cannot derive a CURVE key") }
    return string(publicKey)
  }

  /// Z85 text of 32 bytes.
  static func text(_ bytes: UnsafeRawBufferPointer) -> String {
    var text = [CChar](repeating: 0, count: keyLength + 1)
    zmq_z85_encode(&text, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
    return string(text)
  }

  private static func string(_ key: [CChar]) -> String {
    String(decoding: key.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func alreadyThere(_ path: String) -> FusionRouteError {
    .badInput("\(path) exists already; use --force to replace it, which locks out whoever uses the old key")
  }

  static func noKeys(_ directory: String) -> FusionRouteError {
    .badInput("\(directory) holds no coordinator.pub: make the keys with `fusionroute keys`")
  }
}

/// Paths in a keys directory.
struct KeyLayout {
  let directory: String

  init(directory: String) {
    self.directory = directory.count > 1 && directory.hasSuffix("/") ? String(directory.dropLast()) : directory
  }

  var coordinatorPublic: String { directory + "/coordinator.pub" }
  var coordinatorSecret: String { directory + "/coordinator.key" }
  var workersFolder: String { directory + "/workers" }
  var allowedFolder: String { directory + "/allowed" }
  func workerPublic(_ name: String) -> String { "\(workersFolder)/\(name).pub" }
  func workerSecret(_ name: String) -> String { "\(workersFolder)/\(name).key" }
  func allowed(_ name: String) -> String { "\(allowedFolder)/\(name).pub" }
  func files(worker name: String) -> [String] { [workerSecret(name), workerPublic(name), allowed(name)] }
  var folders: [String] { [directory, workersFolder, allowedFolder] }
}
