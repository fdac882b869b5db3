internal import Coordinator
internal import Core
internal import Foundation
internal import Hummingbird

/// What operators change while the service runs: which replicas drain, and how many there are.
struct AdminRoutes: Sendable {
  let environment: GatewayEnvironment

  /// Replicas of one expert that may be asked for.
  private static let maximumReplicas = 1024

  /// Without keys only this machine reaches the service; with keys, those that are named for it.
  private func authorise(_ context: GatewayContext) throws {
    guard environment.keys != nil else { return }
    guard let name = context.keyName, environment.configuration.adminKeys.contains(name) else {
      throw GatewayError(
        .forbidden, "this API key may not change the service: gateway.admin_keys names those that may",
        code: "not_an_admin_key")
    }
  }

  func drain(_ request: Request, context: GatewayContext) async throws -> Response {
    try authorise(context)
    let fields = try await RequestBodyText.read(request, environment: environment).fields
    let choices: [(String, (String) -> DrainSelection)] = [
      ("replica", { .replica($0) }), ("host", { .host($0) }), ("expert", { .expert($0) }),
    ]
    let given = try choices.compactMap { name, make in try fields.string(name).map(make) }
    guard given.count == 1 else {
      throw GatewayError.invalid(nil, "say what to drain: one of replica, host and expert")
    }
    let force = try fields.bool("force") ?? false
    do {
      let draining = try environment.coordinator.drain(given[0], force: force)
      environment.logger.notice(
        "drain asked for", metadata: ["replicas": "\(draining.map(\.id))", "key": "\(context.keyName ?? "")"])
      return try Self.json(["draining": draining])
    } catch let error as FusionRouteError where error.code == .unavailable {
      throw GatewayError(.conflict, error.message, code: "last_replica")
    } catch let error as FusionRouteError where error.code == .badInput {
      throw GatewayError(.notFound, error.message, code: "no_such_replica")
    }
  }

  func scale(_ request: Request, context: GatewayContext) async throws -> Response {
    try authorise(context)
    let fields = try await RequestBodyText.read(request, environment: environment).fields
    guard let expert = try fields.string("expert") else { throw GatewayError.invalid("expert", "expert is missing") }
    guard let count = try fields.integer("replicas", in: 0...Self.maximumReplicas) else {
      throw GatewayError.invalid("replicas", "replicas is missing")
    }
    guard environment.experts.contains(expert) else {
      throw GatewayError.invalid(
        "expert",
        "there is no expert \"\(expert.clipped)\"; the experts are "
          + environment.experts.joined(separator: ", "))
    }
    guard let scaler = environment.scaler else {
      throw GatewayError(
        .conflict, "this service did not start its workers: start or stop them where they run (fusionroute workers)",
        code: "no_scaler")
    }
    let change = try await scaler.scale(expert: expert, to: count)
    environment.logger.notice(
      "scaled",
      metadata: ["expert": "\(expert)", "replicas": "\(count)", "key": "\(context.keyName ?? "")"])
    return try Self.json(change)
  }

  private static func json(_ value: some Encodable) throws -> Response {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = .sortedKeys
    return ServiceRoutes.json(Array(try encoder.encode(value)))
  }
}
