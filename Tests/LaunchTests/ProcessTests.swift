import Foundation
import Synchronization
import Testing

@testable import Launch

/// Collects events and waits for some.
private final class Recorder: Sendable {
  private let events = Mutex<[ProcessSupervisor.Event]>([])

  func record(_ event: ProcessSupervisor.Event) { events.withLock { $0.append(event) } }

  var all: [ProcessSupervisor.Event] { events.withLock { $0 } }

  var lines: [String] {
    all.compactMap { if case .line(_, let text) = $0 { text } else { nil } }
  }

  func wait(_ what: String, until condition: ([ProcessSupervisor.Event]) -> Bool) async throws {
    for _ in 0..<1000 {
      if condition(all) { return }
      try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("\(what) did not happen within 10 s: \(all)")
  }
}

private func isAlive(_ pid: Int32) -> Bool { kill(pid, 0) == 0 }

@Suite(.serialized) struct ProcessTests {
  private func shell(_ name: String, _ script: String) -> ProcessSupervisor.Child {
    ProcessSupervisor.Child(name: name, arguments: ["-c", script])
  }

  private func supervisor(
    _ recorder: Recorder, restarts: Int = 2, grace: Duration = .milliseconds(300)
  ) -> ProcessSupervisor {
    ProcessSupervisor(
      executable: "/bin/sh", limits: .init(restarts: restarts, window: .seconds(60), backOff: .milliseconds(20)),
      grace: grace, handler: recorder.record)
  }

  @Test func linesAndErrorsArrive() async throws {
    let recorder = Recorder()
    let supervisor = supervisor(recorder)
    try supervisor.start(shell("a", "echo out; echo 'error: no such model' >&2; printf 'no end'; exit 65"))
    try await recorder.wait("giving up") { $0.contains { if case .gaveUp = $0 { true } else { false } } }
    #expect(recorder.lines == ["out", "error: no such model", "no end"])
    var gaveUp = false
    for event in recorder.all {
      if case .gaveUp("a", .code(65), let reason, let error) = event {
        gaveUp = true
        #expect(error == "no such model")
        #expect(reason.contains("65"))
      }
      if case .restarting = event { Issue.record("restarted after exit code 65") }
    }
    #expect(gaveUp)
    await supervisor.stop()
  }

  @Test func restartsWithinTheLimit() async throws {
    let recorder = Recorder()
    let supervisor = supervisor(recorder, restarts: 2)
    try supervisor.start(shell("a", "kill -9 $$"))
    try await recorder.wait("giving up") { $0.contains { if case .gaveUp = $0 { true } else { false } } }
    var pids: Set<Int32> = []
    var exits: [ProcessExit] = []
    for event in recorder.all {
      if case .started(_, let pid) = event { pids.insert(pid) }
      if case .ended(_, _, let exit, _) = event { exits.append(exit) }
    }
    #expect(pids.count == 3)
    #expect(exits == [.signal(9), .signal(9), .signal(9)])
    #expect(supervisor.running.isEmpty)
    await supervisor.stop()
  }

  @Test func stopAsksThenKills() async throws {
    let recorder = Recorder()
    let supervisor = supervisor(recorder)
    try supervisor.start(shell("polite", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
    try supervisor.start(shell("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
    try await recorder.wait("both ready") { _ in recorder.lines.count == 2 }
    let pids = supervisor.running
    #expect(Set(pids.keys) == ["polite", "stubborn"])
    let start = ContinuousClock.now
    await supervisor.stop()
    let took = ContinuousClock.now - start
    #expect(took >= .milliseconds(300) && took < .seconds(5), "\(took)")
    for pid in pids.values { #expect(!isAlive(pid)) }
    var exits: [String: ProcessExit] = [:]
    for event in recorder.all { if case .ended(let name, _, let exit, _) = event { exits[name] = exit } }
    #expect(exits == ["polite": .code(0), "stubborn": .signal(9)])
    #expect(throws: (any Error).self) { try supervisor.start(shell("late", "true")) }
  }

  /// One leaves for good, in order or by force; the others go on, and its name can be given anew.
  @Test func stopsOneOfThem() async throws {
    let recorder = Recorder()
    let supervisor = supervisor(recorder)
    let loop = "echo ready; while :; do sleep 0.05; done"
    try supervisor.start(shell("polite", "trap 'exit 0' TERM; \(loop)"))
    try supervisor.start(shell("stubborn", "trap '' TERM; \(loop)"))
    try supervisor.start(shell("other", loop))
    try await recorder.wait("all ready") { _ in recorder.lines.count == 3 }
    let other = supervisor.running["other"]
    supervisor.stop("polite")
    supervisor.stop("stubborn")
    supervisor.stop("nobody")
    #expect(supervisor.kept == ["other"])
    try await recorder.wait("both ends") { $0.count { if case .ended = $0 { true } else { false } } == 2 }
    var exits: [String: ProcessExit] = [:]
    for event in recorder.all { if case .ended(let name, _, let exit, _) = event { exits[name] = exit } }
    #expect(exits == ["polite": .code(0), "stubborn": .signal(9)])
    for _ in 0..<500 where supervisor.taken != ["other"] { try await Task.sleep(for: .milliseconds(10)) }
    #expect(supervisor.taken == ["other"] && supervisor.running == ["other": other])
    try supervisor.start(shell("polite", loop))
    try await recorder.wait("the new one") { _ in recorder.lines.count == 4 }
    // One that waits for its restart is gone at once.
    try supervisor.start(shell("crashing", "exit 1"))
    try await recorder.wait("a restart") {
      $0.contains { if case .restarting("crashing", _) = $0 { true } else { false } }
    }
    supervisor.stop("crashing")
    try await recorder.wait("it to go") { _ in !supervisor.kept.contains("crashing") }
    await supervisor.stop()
  }

  @Test func stopDuringTheBackOffStartsNothing() async throws {
    let recorder = Recorder()
    let supervisor = ProcessSupervisor(
      executable: "/bin/sh", limits: .init(backOff: .seconds(30)), handler: recorder.record)
    let start = ContinuousClock.now
    try supervisor.start(shell("a", "exit 1"))
    try await recorder.wait("a restart") { $0.contains { if case .restarting = $0 { true } else { false } } }
    await supervisor.stop()
    // The wait of 30 seconds was cut short, and nothing came of it.
    #expect(ContinuousClock.now - start < .seconds(25))
    try await Task.sleep(for: .milliseconds(400))
    #expect(recorder.all.count { if case .started = $0 { true } else { false } } == 1)
  }

  /// A name that was given up in its back-off and given anew: the old wait starts nothing over the new process.
  @Test func anOldWaitStartsNothing() async throws {
    let recorder = Recorder()
    let supervisor = ProcessSupervisor(
      executable: "/bin/sh", limits: .init(backOff: .milliseconds(500)), handler: recorder.record)
    try supervisor.start(shell("a", "exit 1"))
    try await recorder.wait("a restart") { $0.contains { if case .restarting("a", _) = $0 { true } else { false } } }
    supervisor.stop("a")
    for _ in 0..<500 where supervisor.taken.contains("a") { try await Task.sleep(for: .milliseconds(10)) }
    try supervisor.start(shell("a", "exec sleep 30"))
    // This one's wait begins later and is as long: once it is over, the other is, too.
    try supervisor.start(shell("clock", "exit 1"))
    try await recorder.wait("the clock's restart") {
      $0.count { if case .started("clock", _) = $0 { true } else { false } } >= 2
    }
    let pids: [Int32] = recorder.all.compactMap { if case .started("a", let pid) = $0 { pid } else { nil } }
    #expect(pids.count == 2 && supervisor.running["a"] == pids.last)
    await supervisor.stop()
    for pid in pids.dropFirst() { #expect(!isAlive(pid)) }
  }

  @Test func aMissingProgramIsAnError() {
    let supervisor = ProcessSupervisor(executable: "/no/such/program") { _ in }
    #expect(throws: (any Error).self) { try supervisor.start(shell("a", "")) }
    #expect(supervisor.running.isEmpty)
  }

  /// stdin ends with our end of the pipe, which nobody else may hold: neither its siblings nor itself.
  @Test func theLifelineIsOursAlone() async throws {
    let ended = Mutex<ProcessExit?>(nil)
    var children: [ChildProcess] = []
    for index in 0..<3 {
      children.append(
        try ChildProcess(
          executable: "/bin/sh", arguments: ["-c", "exec cat"], environment: [:], line: { _ in },
          ended: { _, exit in if index == 0 { ended.withLock { $0 = exit } } }))
    }
    defer { for child in children { child.send(signal: SIGKILL) } }
    #if os(Linux)
      let lifelines = try children.map { child -> String in
        var status = stat()
        try #require(fstat(child.lifeline, &status) == 0)
        return "socket:[\(status.st_ino)]"
      }
      for child in children {
        let folder = "/proc/\(child.pid)/fd"
        let open = try FileManager.default.contentsOfDirectory(atPath: folder).compactMap {
          try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
        }
        #expect(open.count >= 3)
        for lifeline in lifelines { #expect(!open.contains(lifeline)) }
      }
    #endif
    #expect(ended.withLock { $0 } == nil)
    // What the kernel does when this process dies.
    #expect(shutdown(children[0].lifeline, Int32(SHUT_RDWR)) == 0)
    for _ in 0..<500 where ended.withLock({ $0 }) == nil { try await Task.sleep(for: .milliseconds(10)) }
    #expect(ended.withLock { $0 } == .code(0))
  }

  #if os(Linux)
    /// Children have default signals and none blocked, even when started from a Dispatch thread, which blocks them.
    @Test func childrenHaveOrdinarySignalsAndAGroupOfTheirOwn() async throws {
      let recorder = Recorder()
      let supervisor = supervisor(recorder)
      let child = shell("a", "grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5 /proc/$$/stat; echo $$; sleep 5")
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        DispatchQueue.global().async {
          continuation.resume(with: Result { try supervisor.start(child) })
        }
      }
      try await recorder.wait("four lines") { _ in recorder.lines.count == 4 }
      #expect(recorder.lines[0] == "SigBlk:\t0000000000000000")
      #expect(recorder.lines[1].hasSuffix("0000"), "\(recorder.lines[1])")
      #expect(recorder.lines[2] == recorder.lines[3])
      await supervisor.stop()
    }
  #endif

  @Test func overlongLinesAreCut() async throws {
    let recorder = Recorder()
    let supervisor = supervisor(recorder)
    try supervisor.start(shell("a", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next; exit 65"))
    try await recorder.wait("the end") { $0.contains { if case .gaveUp = $0 { true } else { false } } }
    #expect(recorder.lines.map(\.count) == [ChildProcess.maximumLineBytes, 4])
    await supervisor.stop()
  }

  @Test func signalsBecomeCalls() async throws {
    let seen = Mutex<[(Int32, Int)]>([])
    let trap = try SignalTrap([SIGUSR1]) { signal, count in seen.withLock { $0.append((signal, count)) } }
    for expected in 1...3 {
      kill(getpid(), SIGUSR1)
      for _ in 0..<500 where seen.withLock({ $0.count }) < expected { try await Task.sleep(for: .milliseconds(5)) }
    }
    trap.cancel()
    #expect(seen.withLock { $0.map(\.1) } == [1, 2, 3])
    #expect(seen.withLock { $0.allSatisfy { $0.0 == SIGUSR1 } })
  }
}

@Suite struct RuntimeDirectoryTests {
  @Test func isPrivateShortAndRemoved() throws {
    try withScratch { scratch in
      let path: String
      do {
        let directory = try RuntimeDirectory(environment: ["XDG_RUNTIME_DIR": scratch.path])
        path = directory.path
        #expect(path.hasPrefix(scratch.path + "/"))
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o700)
        guard case .ipc(let socket) = directory.endpoint("workers") else { return }
        #expect(socket.utf8.count <= Endpoint.maximumPathBytes)
        try Data().write(to: URL(fileURLWithPath: socket))
        directory.remove()
      }
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }

  @Test func leftOversOfDeadRunsGoAndOthersStay() throws {
    try withScratch { scratch in
      let manager = FileManager.default
      // No process has this id: the kernel's limit is 2^22.
      let dead = scratch.appendingPathComponent("fusionroute-\(Int32.max)-abcdef")
      let alive = scratch.appendingPathComponent("fusionroute-\(getpid())-abcdef")
      let foreign = scratch.appendingPathComponent("fusionroute-notes")
      for url in [dead, alive, foreign] { try manager.createDirectory(at: url, withIntermediateDirectories: true) }
      let directory = try RuntimeDirectory(environment: ["XDG_RUNTIME_DIR": scratch.path])
      #expect(!manager.fileExists(atPath: dead.path))
      #expect(manager.fileExists(atPath: alive.path))
      #expect(manager.fileExists(atPath: foreign.path))
      directory.remove()
    }
  }

  @Test func tooLongParentsAreSkipped() throws {
    let directory = try RuntimeDirectory(environment: ["XDG_RUNTIME_DIR": "/" + String(repeating: "x", count: 200)])
    #expect(directory.path.utf8.count < 80)
    directory.remove()
  }
}
