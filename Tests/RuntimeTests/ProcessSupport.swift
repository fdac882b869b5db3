import Core
import Foundation
import ModelFiles
import Testing

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

/// A `fusionroute` process under test: its output in files, its input from a pipe, killed at the latest when the test
/// forgets it.
final class Program: Sendable {
  enum End: Equatable, CustomStringConvertible {
    case exit(Int32)
    case signal(Int32)

    var description: String {
      switch self {
      case .exit(let code): "exit \(code)"
      case .signal(let signal): "signal \(signal)"
      }
    }
  }

  let pid: pid_t
  private let outputPath: String
  private let errorPath: String
  private let input: LockedBox<Int32>
  private let end = LockedBox<End?>(nil)

  /// - Parameter input: what it reads on stdin before that ends; nil keeps stdin open for ``send(_:)``.
  init(
    _ arguments: [String], in scratch: Scratch, input bytes: [UInt8]? = [], environment: [String: String] = [:]
  ) throws {
    let name = "program-\(UInt32.random(in: 0...UInt32.max))"
    outputPath = scratch.path(name + ".out")
    errorPath = scratch.path(name + ".err")
    var variables = ProcessInfo.processInfo.environment
    variables["XDG_RUNTIME_DIR"] = nil
    // Its sockets in our directory, so that what it leaves behind shows; its cache likewise.
    variables["TMPDIR"] = scratch.url.path
    variables["FUSIONROUTE_CACHE"] = FaultModels.cache
    variables["SWIFT_BACKTRACE"] = "enable=no"
    variables.merge(environment) { $1 }
    let ends = try Self.pair()
    pid = try Self.spawn(
      arguments: arguments, environment: variables, input: ends.child, output: outputPath, error: errorPath)
    close(ends.child)
    input = LockedBox(ends.own)
    if let bytes {
      send(bytes)
      closeInput()
    }
  }

  deinit {
    closeInput()
    if poll() == nil {
      kill(pid, SIGKILL)
      var status: Int32 = 0
      waitpid(pid, &status, 0)
    }
  }

  var output: String { Self.read(outputPath) }
  var errors: String { Self.read(errorPath) }
  var lines: [String] { output.split(separator: "\n").map(String.init) }

  private static func read(_ path: String) -> String {
    String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
  }

  /// The lines on stderr that say why it or one of its prompts failed.
  var errorLines: [String] { errors.split(separator: "\n").map(String.init).filter { $0.hasPrefix("error: ") } }

  func send(_ line: String) { send(Array((line + "\n").utf8)) }

  func send(_ bytes: [UInt8]) {
    input.withValue { descriptor in
      var rest = bytes[...]
      while !rest.isEmpty, descriptor >= 0 {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count <= 0 { return }
        rest = rest.dropFirst(count)
      }
    }
  }

  func closeInput() {
    input.withValue { descriptor in
      if descriptor >= 0 { close(descriptor) }
      descriptor = -1
    }
  }

  func signal(_ number: Int32) { if poll() == nil { kill(pid, number) } }

  /// How it ended; nil while it runs.
  func poll() -> End? {
    end.withValue { end in
      if end != nil { return end }
      var status: Int32 = 0
      guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
      let signal = status & 0x7F
      end = signal == 0 ? .exit((status >> 8) & 0xFF) : .signal(signal)
      return end
    }
  }

  /// Waits for its end. Records an issue, and kills it, when that takes too long.
  @discardableResult
  func wait(
    _ seconds: Double = 30, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> End {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < deadline {
      if let end = poll() { return end }
      try await Task.sleep(for: .milliseconds(5))
    }
    Issue.record("it still runs after \(seconds) s; stderr: \(errors)", sourceLocation: sourceLocation)
    kill(pid, SIGKILL)
    while true {
      if let end = poll() { return end }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Waits until `condition` holds of the program. Records an issue when that takes too long or it ends before.
  func until(
    _ what: String, seconds: Double = 30, sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: (Program) -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while !condition(self) {
      guard ContinuousClock.now < deadline, poll() == nil || condition(self) else {
        Issue.record(
          "\(what) did not happen (\(poll().map { "\($0)" } ?? "it runs on")); stderr: \(errors)",
          sourceLocation: sourceLocation)
        throw CancellationError()
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Values of `key=` in the log lines with that message.
  func logged(_ message: String, _ key: String) -> [String] {
    errors.split(separator: "\n").filter { $0.contains(message) }.compactMap { line in
      line.range(of: " \(key)=").map { String(line[$0.upperBound...].prefix { $0 != " " }) }
    }
  }

  // MARK: Spawning

  private static func pair() throws -> (own: Int32, child: Int32) {
    var ends: [Int32] = [-1, -1]
    #if canImport(Darwin)
      let result = socketpair(AF_UNIX, SOCK_STREAM, 0, &ends)
      for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    #else
      let result = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends)
    #endif
    guard result == 0 else { throw FusionRouteError.internal("no pipe") }
    return (ends[0], ends[1])
  }

  private static func spawn(
    arguments: [String], environment: [String: String], input: Int32, output: String, error: String
  ) throws -> pid_t {
    #if canImport(Darwin)
      var attributes: posix_spawnattr_t?
      var actions: posix_spawn_file_actions_t?
    #else
      var attributes = posix_spawnattr_t()
      var actions = posix_spawn_file_actions_t()
    #endif
    posix_spawnattr_init(&attributes)
    posix_spawn_file_actions_init(&actions)
    defer {
      posix_spawnattr_destroy(&attributes)
      posix_spawn_file_actions_destroy(&actions)
    }
    // Test threads block signals, and would hand that on.
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { sigaddset(&signals, signal) }
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = Int32(POSIX_SPAWN_SETPGROUP) | Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)
    posix_spawnattr_setflags(&attributes, Int16(flags))
    posix_spawn_file_actions_adddup2(&actions, input, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, error, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    let path = TestBinaries.url("fusionroute").path
    var argv = ([path] + arguments).map { strdup($0) } + [nil]
    var envp = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var pid: pid_t = 0
    let result = posix_spawn(&pid, path, &actions, &attributes, &argv, &envp)
    guard result == 0 else {
      throw FusionRouteError.internal("cannot start \(path): \(String(cString: strerror(result)))")
    }
    return pid
  }
}

/// What runs on this machine.
enum ProcessTable {
  struct Entry {
    var pid: pid_t
    var parent: pid_t
    var isZombie: Bool
    var command: String
  }

  #if os(Linux)
    // Not `ps`, which a bare system lacks.
    static func entries() throws -> [Entry] {
      try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { name in
        // pid (name) state ppid …; the name may hold anything, also parentheses.
        guard let pid = pid_t(name), let status = FileManager.default.contents(atPath: "/proc/\(pid)/stat"),
          let file = FileHandle(forReadingAtPath: "/proc/\(pid)/cmdline")
        else { return nil }
        // Not `contents(atPath:)`: of an empty file, which a kernel thread has here, it leaks 4 KiB.
        defer { try? file.close() }
        let command = (try? file.readToEnd()) ?? Data()
        let text = String(decoding: status, as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 1, let parent = pid_t(fields[1]) else { return nil }
        let words = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        return Entry(pid: pid, parent: parent, isZombie: fields[0] == "Z", command: words.joined(separator: " "))
      }
    }
  #else
    static func entries() throws -> [Entry] {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/ps")
      process.arguments = ["-axww", "-o", "pid=,ppid=,stat=,command="]
      let pipe = Pipe()
      process.standardOutput = pipe
      process.standardInput = FileHandle.nullDevice
      try process.run()
      let text = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
      process.waitUntilExit()
      return text.split(separator: "\n").compactMap { line in
        let fields = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: true)
        guard fields.count == 4, let pid = pid_t(fields[0]), let parent = pid_t(fields[1]) else { return nil }
        return Entry(pid: pid, parent: parent, isZombie: fields[2].hasPrefix("Z"), command: String(fields[3]))
      }
    }
  #endif

  static func children(of parent: pid_t) throws -> [Entry] {
    try entries().filter { $0.parent == parent && !$0.isZombie }
  }

  /// Living processes whose command line contains `marker`: a directory or an endpoint of one test.
  static func using(_ marker: String) throws -> [Entry] {
    try entries().filter { !$0.isZombie && $0.command.contains(marker) }
  }

  /// Waits until no process with `marker` in its command line is left; returns how long that took.
  @discardableResult
  static func expectNone(
    using marker: String, within seconds: Double, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> Duration {
    let start = ContinuousClock.now
    while true {
      let left = try using(marker)
      if left.isEmpty { return ContinuousClock.now - start }
      if ContinuousClock.now - start > .seconds(seconds) {
        Issue.record("left running: \(left)", sourceLocation: sourceLocation)
        for entry in left { kill(entry.pid, SIGKILL) }
        return ContinuousClock.now - start
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }
}

/// One set of small models for all tests that start processes.
struct FaultModels: Sendable {
  /// Made once; removed when the test process ends.
  static let shared = Result { try FaultModels() }
  private static let folder = Result { try Scratch("faults") }

  /// The programs' cache of probes, fingerprints and self-tests.
  static var cache: String { (try? folder.get().path("cache")) ?? "/nonexistent" }

  let models: TestModels
  var router: String { models.router }
  var head: String { models.head }
  func expert(_ index: Int) -> String { models.experts[index].path }

  private init() throws {
    let scratch = try Self.folder.get()
    models = try TestModels.make(in: scratch, experts: 2)
    atexit { if let folder = try? FaultModels.folder.get() { try? FileManager.default.removeItem(at: folder.url) } }
  }

  /// Writes their head with another complement scale and returns its path.
  func scaledHead(_ scale: Float, in scratch: Scratch) throws -> String {
    let one = try RoutingHead.read(head)
    let path = scratch.path("head.gguf")
    try RoutingHead(
      experts: one.experts, weight: one.weight, bias: one.bias, complementScale: scale,
      embeddingWidth: one.embeddingWidth
    ).write(path)
    return path
  }

  /// Writes a cluster file for them and returns its path.
  ///
  /// - Parameter extra: further top-level lines.
  func cluster(
    in scratch: Scratch, replicas: Int = 1, context: Int = 1024, router: String? = nil, head: String? = nil,
    experts: [String]? = nil, extra: String = ""
  ) throws -> String {
    let paths = experts ?? [expert(0), expert(1)]
    var text =
      "router: { model: \(router ?? self.router), head: \(head ?? self.head), context: \(context) }\nexperts:\n"
    for (name, path) in zip(["math", "code"], paths) {
      text += "  \(name): { model: \(path), replicas: \(replicas), context: \(context) }\n"
    }
    return try scratch.write(text + extra, to: "cluster-\(UInt32.random(in: 0...UInt32.max)).yaml")
  }
}

extension Scratch {
  func write(_ text: String, to name: String) throws -> String {
    try Data(text.utf8).write(to: url.appendingPathComponent(name))
    return path(name)
  }
}

/// What `--format json` printed for one prompt.
struct PrintedAnswer: Decodable {
  struct Token: Decodable, Equatable {
    var id: Int32
    var expert: String?
    var degraded: Bool?
  }
  struct Problem: Decodable {
    var code: String
    var message: String
  }
  struct Timing: Decodable {
    var prefill_ms: Double?
    var decode_ms: Double?
    var milliseconds: Double { (prefill_ms ?? 0) + (decode_ms ?? 0) }
  }
  var tokens: [Token]
  var text: String
  var finish_reason: String
  var failovers: Int?
  var timing: Timing
  var error: Problem?

  init(_ line: String) throws { self = try JSONDecoder().decode(Self.self, from: Data(line.utf8)) }
}

/// Tests that start processes, one after the other: they measure times, and the machine may be small.
@Suite(.serialized) enum ProcessSuites {}
