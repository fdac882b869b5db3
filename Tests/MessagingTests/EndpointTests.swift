import Core
import Foundation
import Testing

@testable import Messaging

@Suite struct EndpointTests {
  private func bindFailure(_ endpoint: String) -> FusionRouteError? {
    failure {
      let handler = RecordingServer()
      _ = try MessageServer(endpoints: [endpoint], options: testOptions(), handler: handler)
      handler.stop()
    }
  }

  @Test(arguments: [
    ("udp://127.0.0.1:1", "the endpoint \"udp://127.0.0.1:1\" must start with tcp:// or ipc://"),
    ("inproc://x", "the endpoint \"inproc://x\" must start with tcp:// or ipc://"),
    ("tcp://127.0.0.1", "the endpoint \"tcp://127.0.0.1\" lacks a port, as in tcp://127.0.0.1:5570"),
    ("tcp://127.0.0.1:", "the endpoint \"tcp://127.0.0.1:\" has no valid port: use 1 to 65535, or * for any free one"),
    (
      "tcp://127.0.0.1:70000",
      "the endpoint \"tcp://127.0.0.1:70000\" has no valid port: use 1 to 65535, or * for any free one"
    ),
    ("tcp://:5570", "the endpoint \"tcp://:5570\" lacks a host name or address"),
    ("tcp://::1:5570", "the endpoint \"tcp://::1:5570\" needs brackets around its IPv6 address"),
    ("ipc://", "the endpoint \"ipc://\" needs the path of a socket file after ipc://"),
    ("ipc://@abstract", "the endpoint \"ipc://@abstract\" needs the path of a socket file after ipc://"),
  ]) func malformed(endpoint: String, sentence: String) {
    let error = bindFailure(endpoint)
    #expect(error?.code == .badInput)
    #expect(error?.message == sentence)
    let clientError = failure {
      _ = try MessageClient(endpoint: endpoint, options: testOptions(), handler: RecordingClient())
    }
    #expect(clientError?.message == sentence)
  }

  @Test(arguments: ["tcp://*:5570", "tcp://0.0.0.0:5570", "tcp://10.77.0.1:5570", "tcp://[::]:5570", "tcp://eth0:5570"])
  func beyondLoopbackNeedsKeys(endpoint: String) {
    let error = bindFailure(endpoint)
    #expect(error?.code == .badInput)
    #expect(
      error?.message
        == "the endpoint \"\(endpoint)\" can be reached from other machines but no keys are set: make some with "
        + "`fusionroute keys` and name their directory under security.keys, or use a loopback or ipc:// endpoint")
    let clientError = failure {
      _ = try MessageClient(endpoint: endpoint, options: testOptions(), handler: RecordingClient())
    }
    #expect(clientError?.code == .badInput)
  }

  @Test func loopbackAddresses() throws {
    for endpoint in ["tcp://127.0.0.1:1", "tcp://127.8.9.1:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///tmp/x"] {
      #expect(try Endpoint(parsing: endpoint).isLocal)
    }
    for endpoint in ["tcp://128.0.0.1:1", "tcp://[::2]:1", "tcp://*:1", "tcp://127.0.0.1.example.invalid:1"] {
      #expect(try !Endpoint(parsing: endpoint).isLocal)
    }
  }

  @Test func portInUse() throws {
    let handler = RecordingServer()
    let server = try MessageServer(endpoints: ["tcp://127.0.0.1:*"], options: testOptions(), handler: handler)
    defer { handler.stop() }
    let endpoint = server.boundEndpoints[0]
    let error = bindFailure(endpoint)
    #expect(error?.code == .unavailable)
    #expect(
      error?.message == "the endpoint \"\(endpoint)\" is already in use: stop what listens there or choose another port"
    )
  }

  @Test func foreignAddress() throws {
    let scratch = try Scratch()
    try Keys.generate(directory: scratch.path, workers: [])
    let error = failure {
      _ = try MessageServer(
        endpoints: ["tcp://192.0.2.1:5570"], security: try ServerSecurity.load(keysDirectory: scratch.path),
        options: testOptions(), handler: RecordingServer())
    }
    #expect(error?.code == .badInput)
    #expect(
      error?.message
        == "cannot listen on \"tcp://192.0.2.1:5570\": this machine has no such address or network interface")
  }

  /// ZeroMQ would take the path from the running server without a word.
  @Test func socketFileInUse() throws {
    let scratch = try Scratch()
    let handler = RecordingServer(echoes: true)
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: handler)
    defer { handler.stop() }
    let error = bindFailure(scratch.ipc)
    #expect(error?.code == .unavailable)
    #expect(error?.message.hasPrefix("the endpoint \"\(scratch.ipc)\" is already in use") == true)
    // The first one goes on.
    let client = RecordingClient()
    let connection = try MessageClient(endpoint: scratch.ipc, options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
    connection.send([[5]])
    #expect(eventually { client.messages == [[[5]]] })
  }

  @Test func socketFileOfADeadProcess() throws {
    let scratch = try Scratch()
    // A bound socket whose descriptor is closed leaves its file, as a killed process does.
    let path = "\(scratch.path)/s"
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    #if canImport(Glibc)
      let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let descriptor = socket(AF_UNIX, SOCK_STREAM, 0)
    #endif
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(status == 0)
    close(descriptor)
    #expect(FileManager.default.fileExists(atPath: path))
    let handler = RecordingServer()
    _ = try MessageServer(endpoints: [scratch.ipc], options: testOptions(), handler: handler)
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    handler.stop()
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func socketPathIsAFile() throws {
    let scratch = try Scratch()
    let path = "\(scratch.path)/s"
    try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
    let error = bindFailure(scratch.ipc)
    #expect(error?.code == .badInput)
    #expect(
      error?.message == "cannot listen on \"\(scratch.ipc)\": \(path) exists and is not a socket; choose another path")
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
  }

  @Test func socketPathTooLongOrWithoutFolder() {
    let long = "ipc:///tmp/" + String(repeating: "x", count: 200)
    let tooLong = bindFailure(long)
    #expect(tooLong?.code == .badInput)
    #expect(
      tooLong?.message
        == "the endpoint \"\(long)\" has a path of 205 bytes; this system allows \(Endpoint.longestPath), so use a shorter one"
    )
    let missing = bindFailure("ipc:///nonexistent-folder/s")
    #expect(missing?.code == .badInput)
    #expect(missing?.message == "cannot listen on \"ipc:///nonexistent-folder/s\": its directory does not exist")
  }

  /// The longest path that is accepted works: nothing cuts it off.
  @Test func longestSocketPath() throws {
    let scratch = try Scratch()
    let name = String(repeating: "y", count: Endpoint.longestPath - scratch.path.utf8.count - 1)
    let handler = RecordingServer(echoes: true)
    let server = try MessageServer(
      endpoints: ["ipc://\(scratch.path)/\(name)"], options: testOptions(), handler: handler)
    defer { handler.stop() }
    #expect(FileManager.default.fileExists(atPath: "\(scratch.path)/\(name)"))
    let client = RecordingClient()
    let connection = try MessageClient(endpoint: server.boundEndpoints[0], options: testOptions(), handler: client)
    defer { connection.shutdown() }
    #expect(eventually { connection.isConnected })
  }
}
