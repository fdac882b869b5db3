import Core
import Foundation
import Inference
import ModelFiles
import Synchronization
import Testing

@testable import fusionroute

/// The built program, run as users run it.
enum Product {
  struct Result: Sendable {
    var code: Int32
    var output: String
    var errors: String
  }

  static let path =
    Bundle.main.executableURL?.deletingLastPathComponent().appendingPathComponent("fusionroute").path ?? ""

  /// Runs `fusionroute` to its end; after 60 s it is killed.
  static func run(_ arguments: [String], input: String? = nil, environment: [String: String] = [:]) async throws
    -> Result
  {
    let running = try Running(arguments, input: input, environment: environment)
    return try await running.result()
  }

  /// A program under way.
  final class Running: Sendable {
    private let process: Process
    private let output = Mutex(Data())
    private let errors = Mutex(Data())

    init(
      _ arguments: [String], input: String? = nil, environment: [String: String] = [:],
      executable: String = Product.path
    ) throws {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: executable)
      process.arguments = arguments
      process.environment = ProcessInfo.processInfo.environment.merging(["NO_COLOR": "1"]) { $1 }.merging(environment) {
        $1
      }
      let (out, err, stdin) = (Pipe(), Pipe(), Pipe())
      process.standardOutput = out
      process.standardError = err
      process.standardInput = input == nil ? FileHandle.nullDevice : stdin
      self.process = process
      try process.run()
      if let input {
        Thread.detachNewThread {
          try? stdin.fileHandleForWriting.write(contentsOf: Data(input.utf8))
          try? stdin.fileHandleForWriting.close()
        }
      }
      Thread.detachNewThread { [self] in
        while case let data = out.fileHandleForReading.availableData, !data.isEmpty { output.withLock { $0 += data } }
      }
      Thread.detachNewThread { [self] in
        while case let data = err.fileHandleForReading.availableData, !data.isEmpty { errors.withLock { $0 += data } }
      }
    }

    var pid: Int32 { process.processIdentifier }
    var outputSoFar: String { output.withLock { String(decoding: $0, as: UTF8.self) } }
    var errorsSoFar: String { errors.withLock { String(decoding: $0, as: UTF8.self) } }
    var isRunning: Bool { process.isRunning }

    func send(_ signal: Int32) { kill(pid, signal) }

    func wait(_ what: String, until condition: () -> Bool) async throws {
      for _ in 0..<6000 {
        if condition() { return }
        guard isRunning else { break }
        try await Task.sleep(for: .milliseconds(10))
      }
      if !condition() { Issue.record("\(what) did not happen: \(errorsSoFar)") }
    }

    func result() async throws -> Result {
      for _ in 0..<12_000 where process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
      if process.isRunning {
        send(SIGKILL)
        Issue.record("the program did not end within 60 s: \(process.arguments ?? [])")
      }
      process.waitUntilExit()
      // The readers see the end of the pipes a moment later.
      try await Task.sleep(for: .milliseconds(50))
      return Result(code: process.terminationStatus, output: outputSoFar, errors: errorsSoFar)
    }
  }

  /// Process ids of workers that dial `socket` in this run's folder, whoever started them; of one expert, or of all.
  static func workers(dialling socket: String, of expert: String? = nil) -> [Int32] {
    let socket = "\(ToyModels.folderName)/\(socket)"
    return processes { arguments in
      guard arguments.contains("worker"), arguments.contains(where: { $0.contains(socket) }) else { return false }
      guard let expert else { return true }
      return arguments.contains(expert)
    }
  }

  /// Process ids of those whose arguments are as wanted.
  static func processes(where isWanted: ([String]) -> Bool) -> [Int32] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { Int32($0) }.filter { pid in
      // Not `contents(atPath:)`: of an empty file, which a kernel thread has here, it leaks 4 KiB.
      guard let file = FileHandle(forReadingAtPath: "/proc/\(pid)/cmdline") else { return false }
      defer { try? file.close() }
      guard let line = try? file.readToEnd() else { return false }
      return isWanted(line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
    }
  }
}

/// Small models with random weights, made once, and cluster files over them.
struct ToyModels: Sendable {
  static let experts = ["ant", "bee", "cat"]
  static let shared = Result { try ToyModels() }
  /// Of this run alone; others may go on beside it.
  static let folderName = "command-tests-\(getpid())"

  let folder: URL

  /// The router's.
  static var recipe: ModelRecipe {
    var recipe = ModelRecipe(seed: 5)
    recipe.width = 128
    recipe.feedForward = 512
    recipe.layers = 6
    recipe.context = 8192
    return recipe
  }

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(Self.folderName)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let folder = folder.path
    atexit_b_remove(folder)
    try ModelMaker.make(Self.recipe, to: "\(folder)/router.gguf")
    for (index, name) in Self.experts.enumerated() {
      try ModelMaker.perturb(
        "\(folder)/router.gguf", to: "\(folder)/\(name).gguf", strength: 0.3, seed: UInt64(index + 1))
    }
    let text = (0..<60).map { "word\($0) and then some more of it" }.joined(separator: " ")
    let states = try HiddenStates.capture(model: "\(folder)/router.gguf", texts: [text], chat: false)
    try RoutingHead.calibrated(hidden: states, experts: Self.experts, seed: 3).write("\(folder)/head.gguf")
  }

  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  /// Writes a cluster file of its own and returns its path. Its workers dial `NAME.sock`.
  func cluster(
    _ name: String, router: String = "router.gguf", head: String = "head.gguf", expert: String = "", more: String = "",
    context: Int = 4096, replicas: Int = 1
  ) throws -> String {
    var text = "router: { model: \(router), head: \(head), context: \(context), slots: 3 }\nexperts:\n"
    for name in Self.experts {
      let model = name == "bee" && !expert.isEmpty ? expert : "\(name).gguf"
      text += "  \(name): { model: \(model), context: \(context), replicas: \(replicas) }\n"
    }
    if !more.contains("listen:") { text += "listen: { workers: \"ipc://\(name).sock\" }\n" }
    let file = path("\(name).yaml")
    try (text + more + "\n").write(toFile: file, atomically: true, encoding: .utf8)
    return file
  }
}

/// Folders to remove at exit; `atexit` takes a C function without context.
private let leftovers = Mutex<[String]>([])

private func atexit_b_remove(_ folder: String) {
  leftovers.withLock { $0.append(folder) }
  atexit { for folder in leftovers.withLock({ $0 }) { try? FileManager.default.removeItem(atPath: folder) } }
}

/// `--format json` of one answer, read back by Foundation.
struct AnswerObject: Decodable {
  struct Token: Decodable {
    var id: Int32
    var text: String
    var expert: String?
    var logit: Float
    var drafted: Bool
  }

  struct Failure: Decodable {
    var code: String
    var message: String
  }

  var prompt_tokens: [Int32]
  var tokens: [Token]
  var text: String
  var finish_reason: String
  /// Not told where there was none.
  var failovers: Int?
  var error: Failure?

  static func list(_ text: String) throws -> [AnswerObject] {
    try text.split(separator: "\n").map { try JSONDecoder().decode(AnswerObject.self, from: Data($0.utf8)) }
  }
}

/// Answers a token that an expert decided for itself or in another's place.
struct OneToken: Answerer {
  var isDegraded: Bool
  var experts: [String] { ["ant"] }
  var parallelism: Int { 1 }

  func answer(
    _ prompt: Prompt, options: GenerationOptions, emit: @Sendable (AnswerEvent) -> Void
  ) async throws {
    emit(.prompt([1]))
    emit(.token(AnswerToken(id: 2, text: "a", expert: "ant", logit: 0, degraded: isDegraded)))
    emit(.finished(AnswerSummary(finishReason: "stop", promptTokens: 1, generatedTokens: 1)))
  }
}
