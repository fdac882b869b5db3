import Core
import Foundation
import Gateway
import Logging
import TestSupport
import Testing

/// Draining and scaling over HTTP: who may, and what is answered.
@Suite(.serialized) struct AdminTests {
  @Test("drain by name, host or expert; the last replica of an expert only by force; requests go on")
  func drain() async throws {
    try await withGateway { gateway in
      let cluster = gateway.cluster
      func replicas() throws -> [(id: String, expert: String, host: String)] {
        cluster.coordinator.status().experts.flatMap { expert in
          expert.replicas.filter { $0.state == "serving" }.map { ($0.id, expert.name, $0.host) }
        }
      }
      func until(_ condition: () throws -> Bool) async throws -> Bool {
        for _ in 0..<4_000 {
          if try condition() { return true }
          try await Task.sleep(for: .milliseconds(5))
        }
        return false
      }
      let first = try #require(try replicas().first)
      let last = try await gateway.post("/fusionroute/drain", #"{"replica":"\#(first.id)"}"#)
      #expect(last.status == 409)
      let sentence = try last.string("error", "message") ?? ""
      #expect(sentence.contains("expert \"\(first.expert)\""))
      #expect(try last.string("error", "code") == "last_replica")
      for (body, status) in [
        (#"{"replica":"replica-99"}"#, 404), (#"{"host":"nowhere"}"#, 404), (#"{"expert":"nobody"}"#, 404), ("{}", 400),
        (#"{"replica":"a","host":"b"}"#, 400), (#"{"replica":7}"#, 400), (#"{"expert":"x","force":"yes"}"#, 400),
      ] {
        let answer = try await gateway.post("/fusionroute/drain", body)
        #expect(answer.status == status, "\(body)")
        // The sentence names what there is none of.
        guard status == 404, let name = body.split(separator: "\"").dropFirst(3).first else { continue }
        #expect(try answer.string("error", "message")?.contains("\"\(name)\"") == true, "\(answer.text)")
      }
      #expect(try await gateway.get("/fusionroute/drain").status == 405)
      #expect(try replicas().count == 3)

      let model = try #require(try GatewayModels.get().experts.first { $0.name == first.expert })
      try cluster.startWorker(model.name, model: model.path)
      #expect(try await until { try replicas().count == 4 })
      let done = try await gateway.post("/fusionroute/drain", #"{"replica":"\#(first.id)"}"#)
      #expect(done.status == 200)
      #expect(try done.string("draining", 0, "id") == first.id)
      #expect(try done.string("draining", 0, "expert") == first.expert)
      #expect(try await until { try replicas().count == 3 })
      #expect(try await gateway.get("/ready").status == 200)
      let answer = try await gateway.post("/v1/completions", #"{"prompt":"a","max_tokens":4}"#)
      #expect(answer.status == 200)
      // By force, and then `/ready` says what is missing.
      let forced = try await gateway.post("/fusionroute/drain", #"{"expert":"\#(first.expert)","force":true}"#)
      #expect(forced.status == 200)
      #expect(try await until { try replicas().count == 2 })
      let ready = try await gateway.get("/ready")
      #expect(ready.status == 503)
      let reason = try ready.string("reason") ?? ""
      #expect(reason.contains("expert \"\(first.expert)\" has no replica"))
    }
  }

  @Test("with API keys only those named for it may drain and scale")
  func keys() async throws {
    let scratch = try Scratch("admin")
    let file = scratch.path("api-keys")
    let (admin, user) = try APIKeyFile.update(file, create: true) { (try $0.add("ada"), try $0.add("bob")) }
    try await withGateway(configure: { ($0.apiKeys, $0.adminKeys) = (file, ["ada"]) }) { gateway in
      for (path, body, allowed) in [
        ("/fusionroute/drain", #"{"replica":"replica-99"}"#, 404),
        ("/fusionroute/scale", #"{"expert":"math","replicas":2}"#, 409),
      ] {
        func outcome(_ key: String?) async throws -> String {
          let headers = key.map { ["authorization": "Bearer \($0)"] } ?? [:]
          let answer = try await gateway.post(path, body, headers: headers)
          let code = try answer.string("error", "code") ?? ""
          return "\(answer.status) \(code)"
        }
        let outcomes = (try await outcome(nil), try await outcome(user), try await outcome(admin))
        #expect(outcomes.0 == "401 missing_api_key" && outcomes.1 == "403 not_an_admin_key")
        #expect(outcomes.2.hasPrefix("\(allowed) "))
      }
    }
  }

  @Test("scale asks whoever starts the workers; what it cannot be asked is refused")
  func scale() async throws {
    final class Scaler: ReplicaScaler {
      let asked = LockedBox<[(String, Int)]>([])
      func scale(expert: String, to count: Int) async throws -> ReplicaChange {
        asked.withValue { $0.append((expert, count)) }
        if count > 10 { throw FusionRouteError.unavailable("there is no room") }
        return ReplicaChange(started: ["\(expert).1"])
      }
    }
    let scaler = Scaler()
    try await withCluster(GatewayModels.get(), scratch: try Scratch("scale")) { cluster in
      let gateway = try await TestGateway(cluster, scaler: scaler) { _ in }
      let answer = try await gateway.post("/fusionroute/scale", #"{"expert":"math","replicas":2}"#)
      #expect(answer.status == 200)
      #expect(try answer.string("started", 0) == "math.1")
      for (body, status) in [
        (#"{"expert":"math"}"#, 400), (#"{"replicas":1}"#, 400), (#"{"expert":"none","replicas":1}"#, 400),
        (#"{"expert":"math","replicas":-1}"#, 400), (#"{"expert":"math","replicas":1.5}"#, 400),
        (#"{"expert":"math","replicas":2000}"#, 400), (#"{"expert":"math","replicas":20}"#, 503),
      ] { #expect(try await gateway.post("/fusionroute/scale", body).status == status, "\(body)") }
      #expect(scaler.asked.withValue { $0.map(\.1) } == [2, 20])
      try await gateway.stop()
    }
  }
}
