import Foundation
import Testing

@testable import fusionroute

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// `up` or `coordinator` under way.
struct RunningService: Sendable {
  let process: Product.Running
  let url: String

  /// Starts it and waits until it accepts connections.
  static func start(_ arguments: [String], environment: [String: String] = [:]) async throws -> RunningService {
    let process = try Product.Running(arguments, environment: environment)
    try await process.wait("listening for HTTP") { address(in: process.errorsSoFar) != nil }
    return RunningService(process: process, url: "http://\(try #require(address(in: process.errorsSoFar)))")
  }

  private static func address(in log: String) -> String? {
    log.firstMatch(of: /serving HTTP.*address"?[=:]"?([0-9.]+:[0-9]+)/).map { String($0.1) }
  }

  func waitUntilReady() async throws {
    try await process.wait("every expert's replica") { process.errorsSoFar.contains("every expert has a replica") }
  }

  /// The status and body of a GET, or of a POST of JSON.
  func fetch(_ path: String, json: String? = nil) async throws -> (status: Int, body: String) {
    var request = URLRequest(url: try #require(URL(string: url + path)))
    if let json {
      request.httpMethod = "POST"
      request.httpBody = Data(json.utf8)
      request.setValue("application/json", forHTTPHeaderField: "Content-Type")
    }
    let (data, response) = try await URLSession.shared.data(for: request)
    return ((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
  }

  /// Ends it by SIGTERM.
  func stop() async throws -> Product.Result {
    process.send(SIGTERM)
    return try await process.result()
  }
}

extension ToyModels {
  /// Runs `body` with `up` of a cluster whose experts are all there, and ends it in order.
  func withService<R>(
    _ name: String, router: String = "router.gguf", more: String = "", _ body: (RunningService) async throws -> R
  ) async throws -> R {
    let file = try cluster(
      name, router: router, more: "listen: { workers: \"ipc://\(name).sock\", http: \"127.0.0.1:*\" }\n" + more)
    let service = try await RunningService.start(["up", "-c", file])
    do {
      try await service.waitUntilReady()
      let result = try await body(service)
      #expect(try await service.stop().code == 0)
      return result
    } catch {
      _ = try? await service.stop()
      throw error
    }
  }
}

/// A service of a test's own making: an HTTP server in Python.
struct StubService: Sendable {
  let process: Product.Running
  let url: String

  /// - Parameters:
  ///   - handler: members of a `BaseHTTPRequestHandler` that has `answer(status, text)` and `body()`.
  ///   - arguments: `arguments` of the handler.
  static func start(_ handler: String, arguments: [String] = []) async throws -> StubService {
    let members = handler.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
    let script = """
      import http.server, json, sys, threading, urllib.error, urllib.request
      arguments = sys.argv[1:]
      class Handler(http.server.BaseHTTPRequestHandler):
          def answer(self, status, text, kind="application/json"):
              data = text.encode()
              self.send_response(status)
              self.send_header("content-type", kind)
              self.send_header("content-length", str(len(data)))
              self.end_headers()
              self.wfile.write(data)
          def body(self): return self.rfile.read(int(self.headers.get("content-length", 0)))
          def log_message(self, *arguments): pass
      \(members)
      server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
      print(server.server_address[1], flush=True)
      server.serve_forever()
      """
    let process = try Product.Running(["-c", script] + arguments, executable: "/usr/bin/python3")
    try await process.wait("the stub listens") { process.outputSoFar.contains("\n") }
    let port = process.outputSoFar.trimmingCharacters(in: .whitespacesAndNewlines)
    return StubService(process: process, url: "http://127.0.0.1:\(port)")
  }

  func stop() { process.send(SIGKILL) }
}

/// A program in a terminal of its own, made by Python's `pty`.
enum Terminal {
  /// Waits for each text in turn and types what follows it, then waits for the end. Returns all that was shown, and the
  /// exit code.
  static func run(_ arguments: [String], steps: [(wait: String, type: String)], environment: [String: String] = [:])
    async throws -> (shown: String, code: Int32)
  {
    let script = """
      import json, os, pty, select, sys, time
      steps = json.loads(sys.argv[1])
      pid, terminal = pty.fork()
      if pid == 0:
          os.execv(sys.argv[2], sys.argv[2:])
      shown, seen, end = b"", 0, time.time() + 50
      while time.time() < end:
          if steps and steps[0][0].encode() in shown[seen:]:
              wait, text = steps.pop(0)
              seen = shown.index(wait.encode(), seen) + len(wait.encode())
              os.write(terminal, text.encode())
          if select.select([terminal], [], [], 0.05)[0]:
              try:
                  part = os.read(terminal, 65536)
              except OSError:
                  break
              if not part:
                  break
              shown += part
      sys.stdout.buffer.write(shown)
      if time.time() >= end:
          os.kill(pid, 9)
      sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
      """
    let list = try JSONSerialization.data(withJSONObject: steps.map { [$0.wait, $0.type] })
    let running = try Product.Running(
      ["-c", script, String(decoding: list, as: UTF8.self), Product.path] + arguments,
      environment: ["TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "", "COLORTERM": ""].merging(environment) { $1 },
      executable: "/usr/bin/python3")
    let result = try await running.result()
    #expect(result.errors.isEmpty, "\(result.errors)")
    return (result.output, result.code)
  }
}
