internal import CZeroMQ
internal import Core
public import Logging

/// The coordinator's CURVE identity and who may connect to it.
public struct ServerSecurity: Sendable {
  let publicKey: String
  private let secretKey: String
  let allowList: AllowList

  /// Reads `coordinator.key` and `coordinator.pub`; `allowed/` is read whenever it changes.
  ///
  /// - Throws: `.badInput` if a file is missing, is not a key, is open to others, or if the two do not belong together.
  public static func load(keysDirectory: String, logger: Logger? = nil) throws -> ServerSecurity {
    let layout = KeyLayout(directory: keysDirectory)
    guard KeyFile.exists(layout.coordinatorPublic) else { throw Keys.noKeys(keysDirectory) }
    let pair = try KeyPair.read(public: layout.coordinatorPublic, secret: layout.coordinatorSecret)
    return ServerSecurity(
      publicKey: pair.publicKey, secretKey: pair.secretKey,
      allowList: AllowList(folder: layout.allowedFolder, logger: logger))
  }

  /// Before the socket binds.
  func apply(to socket: Socket) throws {
    try socket.set(ZMQ_CURVE_SERVER, Int32(1))
    try socket.set(ZMQ_CURVE_SECRETKEY, key: secretKey)
    try socket.set(ZMQ_ZAP_DOMAIN, text: ZAPHandler.domain)
    // Without this a missing ZAP handler would mean that everyone is let in.
    try socket.set(Int32(FR_ZMQ_ZAP_ENFORCE_DOMAIN), Int32(1))
  }
}

/// A worker's CURVE identity and the coordinator's public key, which it insists on.
public struct ClientSecurity: Sendable {
  let serverKey: String
  let publicKey: String
  private let secretKey: String
  /// The key's name, as the coordinator's allow-list knows it.
  public let name: String

  /// Reads `coordinator.pub` and `workers/NAME.{pub,key}`.
  ///
  /// - Parameter worker: nil takes the only key there is.
  /// - Throws: `.badInput` if a file is missing, is not a key, is open to others, or if there is more than one key and
  ///   no name.
  public static func load(keysDirectory: String, worker: String? = nil) throws -> ClientSecurity {
    let layout = KeyLayout(directory: keysDirectory)
    guard KeyFile.exists(layout.coordinatorPublic) else { throw Keys.noKeys(keysDirectory) }
    let name = try worker ?? onlyKey(in: layout)
    guard Keys.isName(name) else {
      throw FusionRouteError.badInput("\"\(name)\" cannot name a key")
    }
    let pair = try KeyPair.read(public: layout.workerPublic(name), secret: layout.workerSecret(name))
    return ClientSecurity(
      serverKey: try KeyFile.load(layout.coordinatorPublic, isSecret: false), publicKey: pair.publicKey,
      secretKey: pair.secretKey, name: name)
  }

  private static func onlyKey(in layout: KeyLayout) throws -> String {
    let names = Folder.files(layout.workersFolder).filter { $0.hasSuffix(".key") }.map { String($0.dropLast(4)) }
    guard names.count == 1 else {
      throw FusionRouteError.badInput(
        "\(layout.workersFolder) holds \(names.count) worker keys: "
          + (names.isEmpty ? "make one with `fusionroute keys`" : "say which one this worker uses"))
    }
    return names[0]
  }

  /// Before the socket connects.
  func apply(to socket: Socket) throws {
    try socket.set(ZMQ_CURVE_SERVERKEY, key: serverKey)
    try socket.set(ZMQ_CURVE_PUBLICKEY, key: publicKey)
    try socket.set(ZMQ_CURVE_SECRETKEY, key: secretKey)
  }
}

/// A public and a secret key that belong together.
struct KeyPair {
  let publicKey: String
  let secretKey: String

  static func read(public publicPath: String, secret secretPath: String) throws -> KeyPair {
    let secret = try KeyFile.load(secretPath, isSecret: true)
    let known = try KeyFile.load(publicPath, isSecret: false)
    guard try Keys.publicKey(of: secret) == known else {
      throw FusionRouteError.badInput("\(publicPath) and \(secretPath) are not one pair: copy or make them again")
    }
    return KeyPair(publicKey: known, secretKey: secret)
  }
}
