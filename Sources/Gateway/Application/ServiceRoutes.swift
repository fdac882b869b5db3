internal import Core
internal import Coordinator
internal import Core
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import Journal

/// What tools ask about the service: models, health, status, metrics.
struct ServiceRoutes: Sendable {
  let environment: GatewayEnvironment

  static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: "application/json"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  // MARK: Models

  func models(_ request: Request, context: GatewayContext) -> Response {
    Self.json(
      JSONWriter.object { json in
        json.field("object", "list")
        json.array("data", ModelName.all(experts: environment.experts)) { json, model in write(model, to: &json) }
      })
  }

  func model(_ request: Request, context: GatewayContext) throws -> Response {
    let id = context.parameters.get("id").map { $0.removingPercentEncoding ?? $0 } ?? ""
    let fields = FieldReader(JSONObject(members: [("model", .string(id))]))
    let model = try ModelName(reading: "model", of: fields, experts: environment.experts)
    var json = JSONWriter()
    write(model, to: &json)
    return Self.json(json.bytes)
  }

  private func write(_ model: ModelName, to json: inout JSONWriter) {
    json.object { json in
      json.field("id", model.text)
      json.field("object", "model")
      json.field("created", environment.started)
      json.field("owned_by", "fusionroute")
      // As vLLM tells it.
      if let limit = environment.contextLimit(for: model.mode) { json.field("max_model_len", limit) }
    }
  }

  // MARK: Health

  func health(_ request: Request, context: GatewayContext) -> Response {
    Self.json(JSONWriter.object { $0.field("status", "ok") })
  }

  func ready(_ request: Request, context: GatewayContext) -> Response {
    let status = environment.coordinator.status()
    let reason = environment.gate.isDraining ? "the server is shutting down" : status.reason
    let isReady = status.ready && !environment.gate.isDraining
    return Self.json(
      JSONWriter.object { json in
        json.field("ready", isReady)
        json.field("reason", reason)
      }, status: isReady ? .ok : .serviceUnavailable)
  }

  func status(_ request: Request, context: GatewayContext) throws -> Response {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    return Self.json(Array(try encoder.encode(environment.coordinator.status())))
  }

  func metrics(_ request: Request, context: GatewayContext) async -> Response {
    var batches: MetricsRenderer.Batches?
    if let accepted = environment.accepted {
      // A journal that cannot be read is no reason to tell nothing of all the rest.
      let bytes = try? await accepted.journal.usedBytes()
      batches = MetricsRenderer.Batches(
        counts: accepted.runner.counts.current, journalBytes: bytes, journalLimit: accepted.journal.limits.bytes)
    }
    let text = MetricsRenderer(
      status: environment.coordinator.status(), http: environment.metrics.current,
      connections: environment.connections.value, connectionLimit: environment.connections.limit,
      bodyBytes: environment.bodies.bytes, answersRunning: environment.gate.running,
      lostLogLines: environment.log?.lostLines ?? 0,
      batches: batches, process: ProcessStatistics.current()
    ).render()
    return Response(
      status: .ok, headers: [.contentType: PrometheusText.contentType],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }
}
