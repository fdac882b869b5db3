import Core
import Foundation
import Testing

/// What is left when `run` and its relatives end, however they do.
extension ProcessSuites {
  @Suite(.serialized) struct LifeTests {
    private func cluster(_ scratch: Scratch, extra: String = "") throws -> String {
      try FaultModels.shared.get().cluster(in: scratch, extra: extra)
    }

    /// A `run` in the middle of a long answer, and its workers.
    private func busy(_ scratch: Scratch, extra: String = "") async throws -> (run: Program, workers: [pid_t]) {
      let run = try Program(
        ["run", "-c", try cluster(scratch, extra: extra), "--log-level", "info"], in: scratch, input: nil)
      try await run.until("two workers") { FaultTests.registered($0).count == 2 }
      run.send(FaultTests.line("The river", tokens: 900))
      try await run.until("text") { !$0.output.isEmpty }
      #expect(try ProcessTable.using(scratch.url.path).count >= 3)
      return (run, FaultTests.registered(run).map(\.pid))
    }

    /// Directories of sockets that `run` makes in its TMPDIR.
    private func socketFolders(_ scratch: Scratch) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: scratch.url.path).filter { $0.hasPrefix("fusionroute-") }
    }

    private func expectGone(_ workers: [pid_t], _ scratch: Scratch, within seconds: Double) async throws {
      #expect(workers.count == 2)
      let took = try await ProcessTable.expectNone(using: scratch.url.path, within: seconds)
      print("workers gone after \(took)")
    }

    @Test("a normal end leaves no process and no socket file")
    func normalEnd() async throws {
      let scratch = try Scratch("end")
      let run = try Program(
        ["run", "-c", try cluster(scratch), "--prompt", "One", "--raw", "--max-tokens", "8"], in: scratch)
      #expect(try await run.wait() == .exit(0))
      #expect(!run.output.isEmpty && run.errorLines.isEmpty)
      #expect(try ProcessTable.using(scratch.url.path).isEmpty)
      #expect(try socketFolders(scratch).isEmpty)
    }

    @Test(
      "Ctrl-C, SIGTERM and SIGHUP in mid-answer: exit code 130, no process and no socket file left",
      arguments: [SIGINT, SIGTERM, SIGHUP])
    func interrupted(signal: Int32) async throws {
      let scratch = try Scratch("int")
      let (run, workers) = try await busy(scratch)
      run.signal(signal)
      #expect(try await run.wait(10) == .exit(130))
      try await expectGone(workers, scratch, within: 1)
      #expect(try socketFolders(scratch).isEmpty)
      // Who pressed Ctrl-C made no mistake.
      #expect(run.errorLines.isEmpty, "\(run.errorLines)")
    }

    @Test("SIGKILL of `run` in mid-answer ends its workers, and the next run removes its socket")
    func parentKilled() async throws {
      let scratch = try Scratch("pkill")
      let (run, workers) = try await busy(scratch)
      run.signal(SIGKILL)
      #expect(try await run.wait(10) == .signal(SIGKILL))
      try await expectGone(workers, scratch, within: 2)
      #expect(try socketFolders(scratch).count == 1)
      let next = try Program(["run", "-c", try cluster(scratch), "--prompt", "One", "--max-tokens", "1"], in: scratch)
      #expect(try await next.wait() == .exit(0))
      #expect(try socketFolders(scratch).isEmpty)
    }

    @Test("SIGKILL of `run` while its workers are stopped: they end once they run again")
    func parentKilledWorkersStopped() async throws {
      let scratch = try Scratch("pstop")
      let (run, workers) = try await busy(scratch)
      for worker in workers { kill(worker, SIGSTOP) }
      run.signal(SIGKILL)
      _ = try await run.wait(10)
      for worker in workers { kill(worker, SIGCONT) }
      try await expectGone(workers, scratch, within: 2)
    }

    @Test("Ctrl-C with a hung worker: it is killed after the grace time")
    func interruptedWithHungWorker() async throws {
      let scratch = try Scratch("hungint")
      let (run, workers) = try await busy(scratch, extra: "supervision: { grace: 500ms }\n")
      kill(workers[0], SIGSTOP)
      let start = ContinuousClock.now
      run.signal(SIGINT)
      #expect(try await run.wait(10) == .exit(130))
      #expect(ContinuousClock.now - start < .seconds(4))
      try await expectGone(workers, scratch, within: 1)
    }

    @Test("a worker that crashes at every start is given up: one sentence, 69, nothing left")
    func crashingWorker() async throws {
      let scratch = try Scratch("crash")
      let extra = "supervision: { restarts: 2, back_off: 10ms, grace: 300ms }\n"
      let run = try Program(["run", "-c", try cluster(scratch, extra: extra), "--max-tokens", "1"], in: scratch)
      // The other expert never becomes ready, so that this one is given up before the start is over.
      var crashes = 0
      for _ in 0..<2000 where run.poll() == nil {
        for child in try ProcessTable.children(of: run.pid) {
          if child.command.contains("--expert code") { kill(child.pid, SIGSTOP) }
          if child.command.contains("--expert math"), kill(child.pid, SIGKILL) == 0 { crashes += 1 }
        }
      }
      #expect(try await run.wait(10) == .exit(69))
      #expect(crashes >= 3)
      #expect(run.errorLines.count == 1 && run.errorLines[0].contains("\"math\""), "\(run.errors)")
      try await ProcessTable.expectNone(using: scratch.url.path, within: 2)
    }

    @Test("`workers --host` and `run --attach` over TCP; orphaned workers end by themselves")
    func attached() async throws {
      let scratch = try Scratch("attach")
      let port = try FreePort.find()
      let endpoint = "tcp://127.0.0.1:\(port)"
      let cluster = try FaultModels.shared.get().cluster(
        in: scratch,
        extra: """
          hosts: [{ name: here, address: 127.0.0.1 }]
          listen: { workers: "\(endpoint)" }
          supervision: { orphan_after: 2s, restarts: 0 }

          """)
      let workers = try Program(["workers", "-c", cluster, "--host", "here"], in: scratch)
      func attach() throws -> Program {
        try Program(
          ["run", "-c", cluster, "--attach", "--prompt", "One", "--raw", "--max-tokens", "8"], in: scratch)
      }
      // Two coordinators, one after the other, find the same workers.
      let first = try attach()
      #expect(try await first.wait() == .exit(0))
      let second = try attach()
      #expect(try await second.wait() == .exit(0))
      #expect(first.output == second.output && !first.output.isEmpty)
      #expect(workers.poll() == nil)
      // Without a coordinator they end, and so does their supervisor, which may not start them again.
      let start = ContinuousClock.now
      #expect(try await workers.wait(20) == .exit(69))
      print("orphans ended after \(ContinuousClock.now - start)")
      let errors = workers.errorLines
      #expect(errors.count == 1 && errors[0].contains("no coordinator"), "\(errors)")
      try await ProcessTable.expectNone(using: endpoint, within: 1)
    }

    @Test(
      "a coordinator killed in mid-answer: its successor gets the same workers, which then stop without waiting for it")
    func coordinatorKilled() async throws {
      let scratch = try Scratch("ckill")
      let endpoint = "tcp://127.0.0.1:\(try FreePort.find())"
      let cluster = try FaultModels.shared.get().cluster(in: scratch, extra: "listen: { workers: \"\(endpoint)\" }\n")
      let workers = try Program(["workers", "-c", cluster], in: scratch)
      func attach() async throws -> Program {
        let run = try Program(["run", "-c", cluster, "--attach", "--log-level", "info"], in: scratch, input: nil)
        try await run.until("two workers") { FaultTests.registered($0).count == 2 }
        return run
      }
      let first = try await attach()
      let pids = Set(FaultTests.registered(first).map(\.pid))
      first.send(FaultTests.line("The river", tokens: 900))
      try await first.until("text") { !$0.output.isEmpty }
      first.signal(SIGKILL)
      _ = try await first.wait()
      let second = try await attach()
      #expect(Set(FaultTests.registered(second).map(\.pid)) == pids)
      second.send(FaultTests.line("One", tokens: 8))
      try await second.until("an answer") { $0.output.hasSuffix("\n") }
      let start = ContinuousClock.now
      workers.signal(SIGTERM)
      #expect(try await workers.wait(10) == .exit(0))
      // The sequence that nobody will release holds nothing up; left alone it would take the drain time of 4 s.
      #expect(ContinuousClock.now - start < .seconds(3), "\(ContinuousClock.now - start)")
      second.closeInput()
      #expect(try await second.wait() == .exit(0))
    }

    @Test(
      "`workers` ends on SIGTERM with 0 and on Ctrl-C with 130, and takes its workers along, killed or not",
      arguments: [SIGTERM, SIGINT, SIGKILL])
    func supervisorEnds(signal: Int32) async throws {
      let scratch = try Scratch("sup")
      let endpoint = "tcp://127.0.0.1:\(try FreePort.find())"
      let cluster = try FaultModels.shared.get().cluster(in: scratch, extra: "listen: { workers: \"\(endpoint)\" }\n")
      let workers = try Program(["workers", "-c", cluster], in: scratch)
      try await workers.until("two workers") { $0.logged("worker started", "pid").count == 2 }
      try await Task.sleep(for: .milliseconds(300))
      workers.signal(signal)
      let expected: Program.End = signal == SIGTERM ? .exit(0) : signal == SIGINT ? .exit(130) : .signal(SIGKILL)
      #expect(try await workers.wait(10) == expected)
      try await ProcessTable.expectNone(using: endpoint, within: 2)
    }
  }
}

/// A TCP port that nobody listens on.
enum FreePort {
  static func find() throws -> Int {
    let (descriptor, port) = try listen()
    close(descriptor)
    return port
  }

  /// A socket that listens on a port of loopback.
  static func listen(port: Int = 0) throws -> (descriptor: Int32, port: Int) {
    #if canImport(Darwin)
      let type = SOCK_STREAM
    #else
      let type = Int32(SOCK_STREAM.rawValue)
    #endif
    let descriptor = socket(AF_INET, type, 0)
    var yes: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(descriptor, address, length) == 0 && Foundation.listen(descriptor, 8) == 0
          && getsockname(descriptor, address, &length) == 0
      }
    }
    guard descriptor >= 0, status else { throw FusionRouteError.internal("no port") }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
  }
}
