internal import CZeroMQ
internal import Core

/// CURVE keys as files, one Z85 line each (ZeroMQ RFC 32):
///
///     keys/coordinator.pub        for every worker's host
///     keys/coordinator.key        0600, the coordinator's alone
///     keys/workers/NAME.pub
///     keys/workers/NAME.key       0600, for the hosts of the workers that use it
///     keys/allowed/NAME.pub       who may connect and as what (``AllowedKey``); removing it revokes the key at once
public enum Keys {
  /// Characters of a key in Z85.
  public static let keyLength = 40

  /// Makes the directory with the coordinator's pair and one for each worker name, each allowed.
  ///
  /// - Parameter experts: which experts each of the workers may serve; nil: any.
  /// - Throws: `.badInput` if a key exists and `force` is false (nothing is written then), or for a name that is not
  ///   letters, digits, `.`, `_` and `-`; `.unavailable` if a file cannot be written.
  public static func generate(directory: String, workers: [String], experts: Set<String>? = nil, force: Bool = false)
    throws
  {
    try requireCurve()
    for name in workers { try check(name: name, experts: experts) }
    let layout = KeyLayout(directory: directory)
    if !force {
      let planned = [layout.coordinatorSecret, layout.coordinatorPublic] + workers.flatMap { layout.files(worker: $0) }
      if let existing = planned.first(where: KeyFile.exists) { throw alreadyThere(existing) }
    }
    for folder in layout.folders { try KeyFile.makeFolder(folder) }
    try writePair(public: layout.coordinatorPublic, secret: layout.coordinatorSecret, force: force)
    for name in workers { try writeWorker(name, layout, experts: experts, force: force) }
  }

  /// Adds a worker's pair to an existing directory and allows it.
  ///
  /// - Parameter experts: which experts it may serve; nil: any.
  /// - Throws: as `generate`.
  public static func addWorker(
    _ name: String, directory: String, experts: Set<String>? = nil, force: Bool = false
  ) throws {
    try requireCurve()
    try check(name: name, experts: experts)
    let layout = KeyLayout(directory: directory)
    guard KeyFile.exists(layout.coordinatorPublic) else { throw noKeys(directory) }
    if !force, let existing = layout.files(worker: name).first(where: KeyFile.exists) { throw alreadyThere(existing) }
    for folder in layout.folders { try KeyFile.makeFolder(folder) }
    try writeWorker(name, layout, experts: experts, force: force)
  }

  /// Allows a public key made elsewhere, or changes what an allowed one may do (`force`).
  ///
  /// - Throws: `.badInput` for names and keys that are none, a name that exists (without `force`) or a key that is on the
  ///   list under another name, which would outlive the revocation of either.
  public static func allow(
    _ name: String, publicKey: String, role: AllowedKey.Role = .worker, experts: Set<String>? = nil, directory: String,
    force: Bool = false
  ) throws {
    try check(name: name, experts: experts)
    guard KeyFile.isKey(publicKey) else {
      throw FusionRouteError.badInput("the public key for \"\(name)\" is not \(keyLength) characters of Z85")
    }
    guard AllowedKey.Role.all.contains(role) else {
      throw FusionRouteError.badInput("\"\(role.rawValue)\" is no role: use worker or coordinator")
    }
    guard role == .worker || experts == nil else {
      throw FusionRouteError.badInput("only a worker serves experts: leave them out for the role \(role.rawValue)")
    }
    let layout = KeyLayout(directory: directory)
    if let other = entries(directory: directory).first(where: { $0.key == publicKey && $0.name != name }) {
      throw FusionRouteError.badInput("this key is allowed already, as \"\(other.name)\": revoke that first")
    }
    try KeyFile.makeFolder(layout.allowedFolder)
    let entry = AllowedKey(name: name, key: publicKey, role: role, experts: experts)
    try KeyFile.store(text: entry.text, to: layout.allowed(name), mode: 0o644, force: force)
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
  public static func allowed(directory: String) -> [String] { entries(directory: directory).map(\.name) }

  /// The allow-list in order of name, without files that are no entries.
  public static func entries(directory: String) -> [AllowedKey] {
    AllowList(folder: KeyLayout(directory: directory).allowedFolder, logger: nil).entries
  }

  static func isName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 64 && !name.hasPrefix(".")
      && name.utf8.allSatisfy { byte in
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 45 || byte == 46
          || byte == 95
      }
  }

  private static func check(name: String, experts: Set<String>? = nil) throws {
    guard isName(name) else {
      throw FusionRouteError.badInput(
        "\"\(name)\" cannot name a key: use up to 64 letters, digits, '.', '_' and '-', not starting with '.'")
    }
    guard let experts else { return }
    guard (1...AllowedKey.maximumExperts).contains(experts.count) else {
      throw FusionRouteError.badInput("\(experts.count) experts: name 1 to \(AllowedKey.maximumExperts)")
    }
    if let bad = experts.first(where: { !AllowedKey.isExpert($0) }) {
      throw FusionRouteError.badInput(
        "\"\(bad)\" cannot name an expert here: use 1 to \(AllowedKey.maximumExpertBytes) bytes without commas")
    }
  }

  private static func requireCurve() throws {
    guard zmq_has("curve") == 1 else {
      throw FusionRouteError.unavailable("this build of libzmq has no CURVE security; install one with libsodium")
    }
  }

  private static func writeWorker(
    _ name: String, _ layout: KeyLayout, experts: Set<String>? = nil, force: Bool
  ) throws {
    let publicKey = try writePair(public: layout.workerPublic(name), secret: layout.workerSecret(name), force: force)
    let entry = AllowedKey(name: name, key: publicKey, experts: experts)
    try KeyFile.store(text: entry.text, to: layout.allowed(name), mode: 0o644, force: force)
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
