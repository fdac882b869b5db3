internal import Core
internal import Foundation

/// Tries a model file in a short-lived child process: llama.cpp asserts on much that a malformed file may hold, and the
/// child's death must not be ours.
public enum ModelProbe {
  /// Name of the command line's hidden command that calls `runInChild`.
  public static let command = "__probe-model"
  private static let timeout: TimeInterval = 600
  private static let errorBytes = 1 << 16

  private struct Verdict: Codable {
    /// Nil: the file loads and decodes.
    var problem: String?
  }

  /// Loads `path` with `adapters` in a child that runs `executable __probe-model PATH [--lora FILE]...`.
  ///
  /// The verdict is cached by the files' identity and the engine's version. Blocks while the child runs.
  /// - Throws: `badInput` with the child's reason.
  public static func check(path: String, adapters: [AdapterFile], executable: String) throws {
    var key = SHA256Hasher()
    key.update(field: LlamaRuntime.engine)
    key.update(field: try FileIdentity(path: path, what: "model file").key)
    for adapter in adapters { key.update(field: try FileIdentity(path: adapter.path, what: "adapter file").key) }
    let name = key.finalize().hex
    if let verdict = ResultCache.read(Verdict.self, folder: "probes", key: name) {
      guard let problem = verdict.problem else { return }
      throw FusionRouteError.badInput(problem)
    }
    let problem = try probe(path: path, adapters: adapters, executable: executable)
    ResultCache.write(Verdict(problem: problem), folder: "probes", key: name)
    if let problem { throw FusionRouteError.badInput(problem) }
  }

  /// Nil if the child was content; throws what says nothing about the file (killed, timed out, not started).
  private static func probe(path: String, adapters: [AdapterFile], executable: String) throws -> String? {
    let child = Process()
    child.executableURL = URL(fileURLWithPath: executable)
    child.arguments = [command, path] + adapters.flatMap { ["--lora", $0.path] }
    child.standardInput = FileHandle.nullDevice
    child.standardOutput = FileHandle.nullDevice
    let pipe = Pipe()
    child.standardError = pipe
    // The child's own way of dying is the message; no crash reporter in between.
    child.environment = ProcessInfo.processInfo.environment.merging(
      ["GGML_NO_BACKTRACE": "1", "SWIFT_BACKTRACE": "enable=no"]
    ) { $1 }
    do { try child.run() } catch {
      throw FusionRouteError.internal("cannot start \(executable) to try the model file \(path)", cause: error)
    }
    // Not SIGTERM: a child started from a dispatch thread inherits a mask that blocks it.
    let watchdog = DispatchWorkItem { kill(child.processIdentifier, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + timeout, execute: watchdog)
    // Read to the end before waiting: a full pipe would stop the child.
    let output = readToEnd(pipe.fileHandleForReading).suffix(errorBytes)
    child.waitUntilExit()
    watchdog.cancel()
    let reason = self.reason(String(decoding: output, as: UTF8.self))
    switch (child.terminationReason, child.terminationStatus) {
    case (.exit, 0): return nil
    case (.exit, FusionRouteError.Code.badInput.exitCode):
      return reason ?? "the model file \(path) cannot be loaded"
    case (.uncaughtSignal, SIGKILL), (.uncaughtSignal, SIGTERM), (.uncaughtSignal, SIGINT):
      throw FusionRouteError.unavailable(
        "trying the model file \(path) was stopped by signal \(child.terminationStatus); is there enough memory?")
    case (.uncaughtSignal, let signal):
      return "the model file \(path) is malformed: loading it ended with signal \(signal)"
        + (reason.map { " (\($0))" } ?? "")
    case (_, let status):
      throw FusionRouteError.unavailable(
        "trying the model file \(path) failed with status \(status)" + (reason.map { ": \($0)" } ?? ""))
    }
  }

  /// Everything until the writers have closed. Foundation's own call traps when a signal interrupts it.
  static func readToEnd(_ file: FileHandle) -> [UInt8] {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(file.fileDescriptor, &buffer, buffer.count)
      if count > 0 { all.append(contentsOf: buffer[..<count]) } else if count == 0 || errno != EINTR { return all }
    }
  }

  /// The most telling line of the child's standard error: a failed assertion, else the last one.
  private static func reason(_ text: String) -> String? {
    let lines = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    return lines.first { $0.contains("GGML_ASSERT") || $0.contains("Fatal error") } ?? lines.last
  }

  /// The child's side: loads everything, renders the chat template and decodes one token. The exit code tells.
  public static func runInChild(path: String, adapters: [AdapterFile]) -> Int32 {
    runInChild(path: path, adapters: adapters, monitor: DecoderMonitor())
  }

  static func runInChild(path: String, adapters: [AdapterFile], monitor: DecoderMonitor) -> Int32 {
    do {
      let model = try Model.load(path: path, options: .init(adapters: adapters))
      _ = model.vocabulary.fingerprint
      _ = try model.vocabulary.tokenize("Hello, 12 worlds! \u{e9}\u{4e16}", addSpecial: true, parseSpecial: true)
      if model.chatTemplate != nil {
        // A template may refuse messages; only a crash matters here.
        _ = try? model.renderChat([ChatMessage(role: "user", content: "Hello")], addGenerationPrompt: true)
      }
      let configuration = DecoderConfiguration(slots: 2, contextPerSequence: 256, maximumBatch: 32)
      let context = try LlamaContext(model: model, configuration: configuration, monitor: monitor)
      context.begin(hidden: false)
      for slot in 0..<2 { context.add(0, position: 0, slot: slot, output: true) }
      switch context.decode() {
      case .done: return 0
      case .refused(let reason):
        throw FusionRouteError.badInput("the model file \(path) loads but cannot be evaluated: \(reason)")
      // It may have been for want of memory, which is no verdict on the file.
      case .lost(let reason, _):
        throw FusionRouteError.unavailable("the model file \(path) loads, but evaluating it failed: \(reason)")
      }
    } catch let error as FusionRouteError {
      FileHandle.standardError.write(Data((error.description + "\n").utf8))
      return error.code.exitCode
    } catch {
      FileHandle.standardError.write(Data("\(error)\n".utf8))
      return FusionRouteError.Code.internal.exitCode
    }
  }
}
