internal import Core
public import Coordinator

/// How the HTTP service is reached and bounded.
public struct GatewayConfiguration: Sendable {
  public var host: String
  /// 0: one that the system chooses; see ``GatewayServer/waitUntilServing()``.
  public var port: Int
  /// PEM files; both or neither.
  public var certificate: String?
  public var privateKey: String?
  /// File of hashed API keys, read again when it changes; nil: no keys, which is allowed on loopback only.
  public var apiKeys: String?
  /// Names of the API keys that may drain and scale; without `apiKeys` whoever reaches the service may.
  public var adminKeys: [String] = []
  /// Origins whose pages may call from a browser, `https://HOST[:PORT]` in lower case, or `*`; empty: none but the page
  /// itself.
  public var allowedOrigins: [String] = []
  /// Further names that a `Host` header may have while the service listens on loopback only: those of a proxy in front.
  public var allowedHosts: [String] = []
  /// Largest request body, in bytes.
  public var maximumBody = 8 << 20
  /// Connections open at once; fewer where the system's limit of open files is lower.
  public var maximumConnections = 4096
  /// New tokens of a request that names no maximum.
  public var defaultMaximumTokens = 256
  /// Which experts step at every token of a request that says nothing about it.
  public var fanout = FanoutPolicy.selected
  /// Which experts read the prompt of such a request at its arrival.
  public var warm = WarmPolicy.auto
  /// What happens to a request that says nothing about it when an expert has no replica left.
  public var onExpertLoss = ExpertLossPolicy.fail
  /// How long a request may take where it says nothing; nil: for ever. Requests of batches have their batch's window.
  public var requestDeadline: Duration?
  /// A stream that has no event for so long gets a comment line, so that proxies keep it open.
  public var keepAlive: Duration = .seconds(15)
  /// How long a client may keep a connection waiting: without a request, with a head or body that does not end, or with
  /// an answer that it does not read.
  public var clientTimeout: Duration = .seconds(60)
  /// How long streams may go on after shutdown was asked for.
  public var shutdownGrace: Duration = .seconds(30)
  /// Where requests are written for `fusionroute replay`; nil: nowhere.
  public var requestLog: String?
  /// What is accepted is written to this file before it runs; nil: no batches, and idempotency keys mean nothing.
  public var journal: String?
  /// Bytes of the journal.
  public var journalBytes = 4 << 30
  /// How long files, ended batches and answers are kept in it.
  public var journalRetention: Duration = .seconds(30 * 86_400)
  /// Requests of batches that run at once; nil: half of the router's slots.
  public var batchConcurrency: Int?

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Whether only this machine can reach the service.
  public var isLoopback: Bool { LoopbackName.matches(host) }

  /// Throws `badInput` where the service would be open to everybody, or half of a pair of files is missing.
  func validate() throws {
    guard isLoopback || apiKeys != nil else {
      throw FusionRouteError.badInput(
        "the HTTP service would be open to everybody who reaches \(host): name a file of API keys (`fusionroute keys "
          + "api add` makes it), or listen on 127.0.0.1")
    }
    guard (certificate == nil) == (privateKey == nil) else {
      throw FusionRouteError.badInput("TLS needs both a certificate and a private key; only one is given")
    }
    guard (0...65535).contains(port) else {
      throw FusionRouteError.badInput("\(port) is no port: it must be from 0 to 65535")
    }
  }
}
