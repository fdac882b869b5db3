import Testing

@testable import Gateway

@Suite struct GatewayConfigurationTests {
  @Test func limitsArePositive() {
    let configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
    #expect(configuration.maximumBody > 0 && configuration.maximumConnections > 0)
  }
}
