import Foundation
import Testing

@testable import Launch

@Suite struct QuantityTests {
  @Test func bytes() {
    #expect(Quantity.bytes("80GiB") == 85_899_345_920)
    #expect(Quantity.bytes("1.5 GB") == 1_500_000_000)
    #expect(Quantity.bytes("4096") == 4096)
    for text in ["", "GiB", "-1", "1XB", "1e9", ".5GB", "1.2.3", "99999999TiB", "1 GiB x"] {
      #expect(Quantity.bytes(text) == nil, "\(text)")
    }
  }

  @Test func durations() {
    #expect(Quantity.duration("500ms") == .milliseconds(500))
    #expect(Quantity.duration("1.5s") == .milliseconds(1500))
    #expect(Quantity.duration("5min") == .seconds(300))
    #expect(Quantity.duration("2h") == .seconds(7200))
    for text in ["", "30", "s", "-1s", "1d", "10000h", "1 minute"] {
      #expect(Quantity.duration(text) == nil, "\(text)")
    }
  }
}

@Suite struct EndpointTests {
  @Test(arguments: [
    ("tcp://127.0.0.1:5570", true), ("tcp://localhost:*", true), ("tcp://[::1]:5570", true), ("ipc:///run/x", true),
    ("tcp://127.5.6.7:1", true), ("tcp://10.0.0.1:1", false), ("tcp://*:5570", false), ("tcp://0.0.0.0:1", false),
    ("tcp://gpu-1.example:1", false), ("tcp://[fe80::1]:1", false), ("tcp://127.0.0.1.example.com:1", false),
    ("tcp://127.0.0:1", false),
  ]) func locality(_ text: String, _ isLocal: Bool) throws {
    let endpoint = try #require(Endpoint(text))
    #expect(endpoint.isLocal == isLocal)
    #expect(endpoint.description == text)
  }

  @Test(arguments: [
    "", "tcp://", "tcp://host", "tcp://host:", "tcp://host:x", "tcp://host:65536", "tcp://host:-1", "tcp://:1",
    "ipc://",
    "ipc://@abstract", "inproc://x", "http://x:1", "tcp://a b:1", "tcp://[x]:1", "tcp://a;b:1", "tcp://::1:5",
  ]) func refused(_ text: String) {
    #expect(Endpoint(text) == nil)
  }

  @Test func wildcards() {
    #expect(Endpoint("tcp://*:1")?.isWildcard == true)
    #expect(Endpoint("tcp://localhost:0") == Endpoint("tcp://localhost:*"))
    #expect(Endpoint("tcp://10.0.0.1:0")?.isWildcard == true)
    #expect(Endpoint("tcp://10.0.0.1:1")?.isWildcard == false)
  }
}

@Suite struct NearestNameTests {
  @Test func distances() {
    #expect(NearestName.distance(Array("kitten"), Array("sitting")) == 3)
    #expect(NearestName.distance(Array("ab"), Array("ba")) == 1)
    #expect(NearestName.distance([], Array("abc")) == 3)
  }

  @Test func nearest() {
    #expect(NearestName.find("replcias", among: ["model", "replicas"]) == "replicas")
    #expect(NearestName.find("gpu-layers", among: ["gpu_layers"]) == "gpu_layers")
    #expect(NearestName.find("xyz", among: ["model", "replicas"]) == nil)
    #expect(NearestName.find("a", among: []) == nil)
  }
}

@Suite struct PlacementTests {
  func cluster(hosts: [String], experts: [(String, Int, [String])]) -> ClusterFile {
    ClusterFile(
      source: "c", router: .init(engine: .init(model: "r"), head: "h"),
      experts: experts.map { .init(name: $0.0, engine: .init(model: "m"), replicas: $0.1, hosts: $0.2) },
      hosts: hosts.map { .init(name: $0, address: "localhost") })
  }

  @Test func oneMachine() {
    let placement = Placement(cluster(hosts: [], experts: [("a", 2, []), ("b", 1, [])]))
    #expect(placement.replicas.map(\.expert) == ["a", "a", "b"])
    #expect(placement.replicas(on: nil).count == 3)
  }

  @Test func hostsInTurn() {
    let placement = Placement(cluster(hosts: ["x", "y"], experts: [("a", 1, []), ("b", 2, []), ("c", 3, ["y"])]))
    #expect(placement.replicas(on: "x").map(\.expert) == ["a", "b"])
    #expect(placement.replicas(on: "y").map(\.expert) == ["b", "c", "c", "c"])
  }
}
