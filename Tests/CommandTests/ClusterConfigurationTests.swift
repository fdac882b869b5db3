import Coordinator
import Core
import Launch
import Testing

@testable import fusionroute

/// What of a cluster file reaches the services that it starts.
@Suite struct ClusterConfigurationTests {
  private static func cluster() -> ClusterFile {
    ClusterFile(
      source: "cluster.yaml", router: .init(engine: .init(model: "/m/router.gguf"), head: "/m/head.gguf"),
      experts: [.init(name: "ant", engine: .init(model: "/m/ant.gguf"))])
  }

  /// `decoding` holds for requests over HTTP as it does for `run`.
  @Test(arguments: ClusterFile.Fanout.allCases, ClusterFile.Warm.allCases)
  func decodingReachesTheService(_ fanout: ClusterFile.Fanout, _ warm: ClusterFile.Warm) throws {
    var cluster = Self.cluster()
    #expect(try cluster.gatewayConfiguration().fanout == .selected)
    #expect(try cluster.gatewayConfiguration().warm == .auto)
    cluster.decoding.fanout = fanout
    cluster.decoding.warm = warm
    let configuration = try cluster.gatewayConfiguration()
    #expect(configuration.fanout.rawValue == fanout.rawValue && configuration.warm.rawValue == warm.rawValue)
  }
}
