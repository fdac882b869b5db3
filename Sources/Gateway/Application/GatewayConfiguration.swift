/// How the HTTP service is reached and bounded.
public struct GatewayConfiguration: Sendable {
  public var host: String
  public var port: Int
  /// PEM files; both or neither.
  public var certificate: String?
  public var privateKey: String?
  /// File of hashed API keys, read again when it changes; nil: no keys, which is allowed on loopback only.
  public var apiKeys: String?
  /// Origins that may call from a browser; empty: none but the page itself.
  public var allowedOrigins: [String] = []
  /// Largest request body, in bytes.
  public var maximumBody = 8 << 20
  /// Connections open at once.
  public var maximumConnections = 4096
  /// New tokens of a request that names no maximum.
  public var defaultMaximumTokens = 256
  /// How long a request may take where it says nothing; nil: for ever.
  public var requestDeadline: Duration?
  /// A stream that has no event for so long gets a comment line, so that proxies keep it open.
  public var keepAlive: Duration = .seconds(15)
  /// How long streams may go on after shutdown was asked for.
  public var shutdownGrace: Duration = .seconds(30)
  /// Where requests are written for `fusionroute replay`; nil: nowhere.
  public var requestLog: String?

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }
}
