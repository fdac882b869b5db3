import Core
import Foundation
import Testing

@testable import Launch

/// The sections `gateway` and `faults`.
@Suite struct ClusterFileGatewayTests {
  /// Each: what is wrong with the gateway's keys, the text, what the sentence must contain.
  static let gatewayMistakes: [(String, String, [String])] = [
    (
      "certificate without key", ClusterFileTests.least + "gateway:\n  tls_certificate: a.pem\n",
      ["cluster.yaml:8:", "\"gateway.tls_certificate\" needs \"gateway.tls_key\""]
    ),
    (
      "key without certificate", ClusterFileTests.least + "gateway: { tls_key: a.pem }\n",
      ["cluster.yaml:7:", "\"gateway.tls_key\" needs \"gateway.tls_certificate\""]
    ),
    (
      "open without API keys", ClusterFileTests.least + "listen:\n  http: 0.0.0.0:8080\n",
      ["cluster.yaml:8:", "0.0.0.0:8080", "\"gateway.api_keys\" is missing", "fusionroute keys api add"]
    ),
    ("every interface", ClusterFileTests.least + "listen: { http: \"*:8080\" }\n", ["gateway.api_keys"]),
    (
      "another machine's address", ClusterFileTests.least + "listen: { http: \"[2001:db8::1]:80\" }\n",
      ["gateway.api_keys"]
    ),
    (
      "a loopback look-alike", ClusterFileTests.least + "listen: { http: \"127.evil.example:80\" }\n",
      ["gateway.api_keys"]
    ),
    (
      "misspelt", ClusterFileTests.least + "gateway: { api_key: k }\n",
      ["cluster.yaml:7:", "did you mean \"api_keys\"?"]
    ),
    ("outside its section", ClusterFileTests.least + "max_body: 8MiB\n", ["it belongs in \"gateway\""]),
    ("no room for a body", ClusterFileTests.least + "gateway: { max_body: 0 }\n", ["\"max_body\" is \"0\""]),
    ("size without meaning", ClusterFileTests.least + "gateway: { max_body: 8 apples }\n", ["8 apples", "size"]),
    (
      "no connection", ClusterFileTests.least + "gateway: { max_connections: 0 }\n",
      ["\"max_connections\"", "1 to 1000000"]
    ),
    ("negative queue", ClusterFileTests.least + "gateway: { queue_limit: -1 }\n", ["\"queue_limit\" is \"-1\""]),
    (
      "a deadline that has passed", ClusterFileTests.least + "gateway: { request_deadline: 0s }\n",
      ["\"request_deadline\" is \"0s\""]
    ),
    ("a deadline without unit", ClusterFileTests.least + "gateway: { request_deadline: 30 }\n", ["\"30\"", "`30s`"]),
    ("no tokens", ClusterFileTests.least + "gateway: { default_max_tokens: 0 }\n", ["\"default_max_tokens\""]),
    ("endless grace", ClusterFileTests.least + "gateway: { shutdown_grace: forever }\n", ["\"forever\""]),
    (
      "origin without scheme", ClusterFileTests.least + "gateway: { allowed_origins: app.example }\n",
      ["app.example", "https://HOST"]
    ),
    (
      "origin with path", ClusterFileTests.least + "gateway: { allowed_origins: [\"https://a.example/x\"] }\n",
      ["https://a.example/x"]
    ),
    (
      "a pattern of origins", ClusterFileTests.least + "gateway: { allowed_origins: \"https://*.example\" }\n",
      ["\"allowed_origins\" is \"https://*.example\""]
    ),
    (
      "log and journal in one file", ClusterFileTests.least + "gateway: { request_log: a, journal: ./a }\n",
      ["a file of its own"]
    ),
    (
      "admins without API keys", ClusterFileTests.least + "gateway:\n  admin_keys: [ada]\n",
      ["cluster.yaml:8:", "\"gateway.admin_keys\" needs \"gateway.api_keys\""]
    ),
    (
      "silence shorter than heartbeats", ClusterFileTests.least + "faults:\n  heartbeat: 2s\n  silence: 5s\n",
      ["cluster.yaml:9:", "\"faults.silence\" (5s)", "three times \"faults.heartbeat\" (2s)"]
    ),
    (
      "heartbeats longer than silence", ClusterFileTests.least + "faults:\n  heartbeat: 2s\n",
      ["cluster.yaml:8:", "(3s)", "(2s)"]
    ),
    ("no heartbeat", ClusterFileTests.least + "faults: { heartbeat: 0s }\n", ["cluster.yaml:7:", "\"heartbeat\""]),
    (
      "more hedges than steps", ClusterFileTests.least + "faults: { hedge_share: 1.5 }\n",
      ["\"hedge_share\"", "0 to 1"]
    ),
    (
      "two logs in one file", ClusterFileTests.least + "gateway: { request_log: a.log, trace: ./a.log }\n",
      ["the same file"]
    ),
    ("a list for the section", ClusterFileTests.least + "gateway: [api_keys]\n", ["cluster.yaml:7:", "mapping"]),
  ]

  @Test(arguments: gatewayMistakes.indices) func mistakesInTheGatewayGetOneSentence(_ index: Int) throws {
    let (what, text, parts) = Self.gatewayMistakes[index]
    let sentence = try #require(ClusterFileTests.sentence(text), "\(what) was accepted")
    for part in parts { #expect(sentence.contains(part), "\(what): \(sentence)") }
    #expect(!sentence.contains("\n"), "\(what): \(sentence)")
  }

  @Test func readsTheFaults() throws {
    let cluster = try ClusterFileTests.parse(
      ClusterFileTests.least + """
        faults:
          heartbeat: 100ms
          silence: 1s
          hang: 1min
          step_timeout: 30s
          hedge_share: 0.1
          hedge_percentile: 0.9
          hedge_factor: 3
          hedge_after: 1ms
        gateway: { api_keys: k, admin_keys: [ada, bob] }
        """)
    var faults = ClusterFile.Faults()
    (faults.heartbeat, faults.silence, faults.hang) = (.milliseconds(100), .seconds(1), .seconds(60))
    (faults.stepTimeout, faults.hedgeAfter) = (.seconds(30), .milliseconds(1))
    (faults.hedgeShare, faults.hedgePercentile, faults.hedgeFactor) = (0.1, 0.9, 3)
    #expect(cluster.faults == faults)
    #expect(cluster.gateway.adminKeys == ["ada", "bob"])
  }

  @Test func readsTheGateway() throws {
    let cluster = try ClusterFileTests.parse(
      ClusterFileTests.least + """
        listen: { http: "*:443" }
        gateway:
          api_keys: api-keys
          tls_certificate: chain.pem
          tls_key: /etc/ssl/key.pem
          allowed_origins: [https://App.example:443, "http://[::1]:3000"]
          allowed_hosts: ai.example
          max_body: 1MiB
          max_connections: 10
          queue_limit: 0
          client_queue_limit: 3
          request_deadline: 2min
          default_max_tokens: 16
          shutdown_grace: 0s
          request_log: log/requests.jsonl
          trace: trace.json
          journal: journal.db
          journal_size: 1GiB
          journal_retention: 48h
          batch_concurrency: 7
        """)
    var gateway = ClusterFile.Gateway()
    gateway.apiKeys = "/srv/cluster/api-keys"
    gateway.certificate = "/srv/cluster/chain.pem"
    gateway.privateKey = "/etc/ssl/key.pem"
    gateway.allowedOrigins = ["https://app.example", "http://[::1]:3000"]
    gateway.allowedHosts = ["ai.example"]
    gateway.maximumBody = 1 << 20
    gateway.maximumConnections = 10
    gateway.queueLimit = 0
    gateway.clientQueueLimit = 3
    gateway.requestDeadline = .seconds(120)
    gateway.defaultMaximumTokens = 16
    gateway.shutdownGrace = .zero
    gateway.requestLog = "/srv/cluster/log/requests.jsonl"
    gateway.trace = "/srv/cluster/trace.json"
    gateway.journal = "/srv/cluster/journal.db"
    gateway.journalSize = 1 << 30
    gateway.journalRetention = .seconds(48 * 3_600)
    gateway.batchConcurrency = 7
    #expect(cluster.gateway == gateway)
    #expect(cluster.listen.http == "*:443")
  }

  @Test func filesOfTheGateway() throws {
    try withScratch { scratch in
      let path = { (name: String) in scratch.appendingPathComponent(name).path }
      func sentence(_ gateway: String) throws -> String? {
        let cluster = try ClusterFile.parse(
          ClusterFileTests.least + "gateway: { \(gateway) }\n", source: "cluster.yaml", directory: scratch)
        do {
          try cluster.checkFiles(for: [.gateway])
          return nil
        } catch let error as FusionRouteError {
          return error.message
        }
      }
      #expect(
        try sentence("api_keys: keys") == "cluster.yaml:7: the file of API keys does not exist: \(path("keys"))")
      #expect(try sentence("tls_certificate: c, tls_key: k")?.contains("the TLS certificate does not exist") == true)
      #expect(try sentence("request_log: none/log")?.contains("\(path("none")) does not exist") == true)
      #expect(try sentence("trace: \(scratch.path)")?.contains("is a directory") == true)
      for name in ["keys", "c", "k"] { try Data().write(to: scratch.appendingPathComponent(name)) }
      #expect(
        try sentence("api_keys: keys, tls_certificate: c, tls_key: k, request_log: log, trace: trace") == nil)
    }
  }
}
