import Coordinator
import Core
import Logging
import TestSupport
import Testing

@testable import Gateway

/// What requests get that say nothing about it.
@Suite(.serialized) struct DefaultsTests {
  @Test("how experts are stepped, warmed and missed is the configuration's where a request does not say it")
  func policies() async throws {
    let scratch = try Scratch("defaults")
    try await withCluster(GatewayModels.get(), scratch: scratch) { cluster in
      var logger = Logger(label: "test")
      logger.logLevel = .critical
      var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
      #expect(configuration.fanout == .selected && configuration.warm == .auto)
      configuration.fanout = .all
      configuration.warm = .selected
      configuration.onExpertLoss = .router
      let planner = AnswerPlanner(
        environment: try GatewayEnvironment(
          configuration: configuration, coordinator: cluster.coordinator, logger: logger))
      func request(_ body: String) async throws -> GenerationRequest {
        let bytes = Array(body.utf8)
        guard case .object(let object) = try JSONParser.parse(bytes) else {
          throw FusionRouteError.internal("no object: \(body)")
        }
        let plan = try await planner.plan(
          .completion, fields: FieldReader(object), body: bytes, origin: .init(client: { _ in "x" }))
        return try #require(plan.requests.first)
      }
      let silent = try await request(#"{"prompt":"a","max_tokens":1}"#)
      #expect(silent.fanout == .all && silent.warm == .selected && silent.onExpertLoss == .router)
      let told = try await request(
        #"{"prompt":"a","fusionroute":{"fanout":"predicted","warm":"all","on_expert_loss":"next_best"}}"#)
      #expect(told.fanout == .predicted && told.warm == .all && told.onExpertLoss == .nextBest)
      // One that says something else alone.
      let other = try await request(#"{"prompt":"a","fusionroute":{"alternatives":2,"warm":null}}"#)
      #expect(other.fanout == .all && other.warm == .selected)
    }
  }
}
