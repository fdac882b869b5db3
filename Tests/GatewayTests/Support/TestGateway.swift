import AsyncHTTPClient
import Coordinator
import Core
import Foundation
import Gateway
import Logging
import ModelFiles
import NIOCore
import ServiceLifecycle
import TestSupport

/// One set of small models for all tests of the gateway; made once, removed when the test process ends.
enum GatewayModels {
  private static let folder = Result { try Scratch("gateway") }
  private static let made = Result { try TestModels.make(in: try folder.get(), complementScale: 0.75) }

  static func get() throws -> TestModels {
    atexit { if let folder = try? GatewayModels.folder.get() { try? FileManager.default.removeItem(at: folder.url) } }
    return try made.get()
  }
}

/// A gateway on a port of its own, in front of a coordinator with real workers.
final class TestGateway: Sendable {
  let cluster: InProcessCluster
  let server: GatewayServer
  let port: Int
  let group: ServiceGroup
  let running: Task<Void, any Error>
  let http: HTTPClient

  init(
    _ cluster: InProcessCluster, scaler: (any ReplicaScaler)? = nil,
    _ configure: (inout GatewayConfiguration) -> Void
  ) async throws {
    var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
    configure(&configuration)
    var logger = Logger(label: "gateway")
    logger.logLevel = .critical
    self.cluster = cluster
    let server = GatewayServer(
      configuration: configuration, coordinator: cluster.coordinator, scaler: scaler, logger: logger)
    let group = ServiceGroup(configuration: .init(services: [server], logger: logger))
    self.server = server
    self.group = group
    running = Task { try await group.run() }
    port = try await server.waitUntilServing()
    var http = HTTPClient.Configuration()
    http.timeout = .init(connect: .seconds(5), read: .seconds(60))
    http.tlsConfiguration = .makeClientConfiguration()
    http.tlsConfiguration?.certificateVerification = .none
    self.http = HTTPClient(configuration: http)
  }

  func stop() async throws {
    running.cancel()
    _ = await running.result
    try await http.shutdown()
  }

  // MARK: Requests

  struct Answer: Sendable {
    var status: Int
    var headers: [String: String]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }

    func json(_ path: Any...) throws -> Any? {
      try path.reduce(JSONSerialization.jsonObject(with: Data(body)) as Any?) { value, key in
        if let index = key as? Int { return (value as? [Any]).flatMap { $0.indices.contains(index) ? $0[index] : nil } }
        let member = (value as? [String: Any])?[key as? String ?? ""]
        return member is NSNull ? nil : member
      }
    }

    func string(_ path: Any...) throws -> String? {
      try path.reduce(JSONSerialization.jsonObject(with: Data(body)) as Any?) { value, key in
        if let index = key as? Int { return (value as? [Any]).flatMap { $0.indices.contains(index) ? $0[index] : nil } }
        return (value as? [String: Any])?[key as? String ?? ""]
      } as? String
    }

    /// The data of a stream's events, in order.
    var events: [String] {
      text.components(separatedBy: "\n\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
    }

    /// Those that are JSON.
    func chunks() throws -> [[String: Any]] {
      try events.filter { $0 != "[DONE]" }.map {
        try (JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]) ?? [:]
      }
    }
  }

  func get(_ path: String, headers: [String: String] = [:]) async throws -> Answer {
    try await send("GET", path, headers: headers, body: nil)
  }

  func post(_ path: String, _ json: String, headers: [String: String] = [:]) async throws -> Answer {
    try await send(
      "POST", path, headers: ["content-type": "application/json"].merging(headers) { $1 }, body: Array(json.utf8))
  }

  func send(
    _ method: String, _ path: String, headers: [String: String] = [:], body: [UInt8]?, scheme: String = "http"
  ) async throws -> Answer {
    var request = HTTPClientRequest(url: "\(scheme)://127.0.0.1:\(port)\(path)")
    request.method = .RAW(value: method)
    for (name, value) in headers { request.headers.replaceOrAdd(name: name, value: value) }
    if let body { request.body = .bytes(ByteBuffer(bytes: body)) }
    let response = try await http.execute(request, timeout: .seconds(120))
    let buffer = try await response.body.collect(upTo: 64 << 20)
    let pairs = response.headers.map { ($0.name.lowercased(), $0.value) }
    return Answer(
      status: Int(response.status.code), headers: Dictionary(pairs) { $0 + ", " + $1 },
      body: Array(buffer.readableBytesView))
  }
}

/// Runs `body` with a gateway, and stops everything whatever happens.
func withGateway<R>(
  context: Int = 512, slots: Int = 4, configure: (inout GatewayConfiguration) -> Void = { _ in },
  coordinator: (inout CoordinatorConfiguration) -> Void = { _ in }, _ body: (TestGateway) async throws -> R
) async throws -> R {
  let scratch = try Scratch("gw")
  return try await withCluster(
    GatewayModels.get(), scratch: scratch, context: context, slots: slots, configure: coordinator
  ) { cluster in
    let gateway = try await TestGateway(cluster, configure)
    do {
      let result = try await body(gateway)
      try await gateway.stop()
      return result
    } catch {
      try? await gateway.stop()
      throw error
    }
  }
}
