internal import Coordinator
internal import Core
internal import Gateway
internal import Launch

extension ClusterFile {
  /// What the HTTP service of this cluster is started with.
  func gatewayConfiguration() throws -> GatewayConfiguration {
    guard let (host, port) = Endpoint.hostAndPort(listen.http) else {
      throw FusionRouteError.badInput("\"\(listen.http)\" is no address to listen on: use HOST:PORT")
    }
    var configuration = GatewayConfiguration(host: host == "*" ? "0.0.0.0" : host, port: port)
    configuration.adminKeys = gateway.adminKeys
    configuration.certificate = gateway.certificate
    configuration.privateKey = gateway.privateKey
    configuration.apiKeys = gateway.apiKeys
    configuration.allowedOrigins = gateway.allowedOrigins
    configuration.allowedHosts = gateway.allowedHosts
    configuration.maximumBody = gateway.maximumBody
    configuration.maximumConnections = gateway.maximumConnections
    configuration.defaultMaximumTokens = gateway.defaultMaximumTokens
    configuration.fanout = FanoutPolicy(rawValue: decoding.fanout.rawValue) ?? .selected
    configuration.warm = WarmPolicy(rawValue: decoding.warm.rawValue) ?? .auto
    configuration.onExpertLoss = ExpertLossPolicy(rawValue: onExpertLoss.rawValue) ?? .fail
    configuration.requestDeadline = gateway.requestDeadline
    configuration.shutdownGrace = gateway.shutdownGrace
    configuration.requestLog = gateway.requestLog
    configuration.journal = gateway.journal
    configuration.journalBytes = gateway.journalSize
    configuration.journalRetention = gateway.journalRetention
    configuration.batchConcurrency = gateway.batchConcurrency
    return configuration
  }
}
