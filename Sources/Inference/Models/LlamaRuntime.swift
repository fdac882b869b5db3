internal import CLlama
internal import CLlamaExtras
internal import Core
internal import Foundation
internal import Logging
internal import Synchronization

/// Process-wide set-up of llama.cpp: quiet aborts, backends, and its log routed to swift-log.
enum LlamaRuntime {
  static let logger = Logger(label: "fusionroute.inference")

  /// Runs once, before any other call into llama.cpp.
  private static let ready: Void = {
    // Otherwise a failed assertion starts gdb on our own process.
    setenv("GGML_NO_BACKTRACE", "1", 1)
    llama_log_set(
      { level, text, _ in
        guard let text else { return }
        LlamaLog.shared.receive(level: level.rawValue, text: String(cString: text))
      }, nil)
    fr_load_backends()
    llama_backend_init()
  }()

  static func prepare() { _ = ready }

  /// Version of the linked llama.cpp, with the CPU features it was built for: part of the numerics class.
  static var engine: String {
    prepare()
    return "llama.cpp \(String(cString: llama_version())) \(systemInformation)"
  }

  static var systemInformation: String {
    prepare()
    return String(cString: llama_print_system_info()).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Calls `body` with a place for an error text of the C++ shim and takes that text over.
  static func withShimError<R>(_ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R) -> (R, String?) {
    var error: UnsafeMutablePointer<CChar>?
    let result = body(&error)
    guard let error else { return (result, nil) }
    defer { fr_free(error) }
    return (result, String(cString: error))
  }
}

/// llama.cpp's log: every line goes to swift-log at debug level, and to whoever is capturing on the same thread.
final class LlamaLog: Sendable {
  static let shared = LlamaLog()

  /// ggml's levels: 1 debug, 2 info, 3 warning, 4 error, 5 continuation of the previous line.
  static let informationLevel: UInt32 = 2
  static let warningLevel: UInt32 = 3
  private static let continuationLevel: UInt32 = 5
  private static let capturedLines = 256

  private struct Capture {
    var thread: ObjectIdentifier
    var leastLevel: UInt32
    var lines: [String] = []
    var lastLevel: UInt32 = 0
  }

  private let captures = Mutex<[Capture]>([])

  func receive(level: UInt32, text: String) {
    let line = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard !line.isEmpty else { return }
    LlamaRuntime.logger.debug("llama.cpp", metadata: ["line": "\(line)"])
    let thread = Self.currentThread
    captures.withLock { captures in
      for index in captures.indices where captures[index].thread == thread {
        let effective = level == Self.continuationLevel ? captures[index].lastLevel : level
        captures[index].lastLevel = effective
        if effective >= captures[index].leastLevel, captures[index].lines.count < Self.capturedLines {
          captures[index].lines.append(line)
        }
      }
    }
  }

  /// Runs `body` and returns with its result the warnings and errors (or what `level` says) that llama.cpp logged
  /// meanwhile on this thread.
  func capturing<R>(from level: UInt32 = warningLevel, _ body: () throws -> R) rethrows -> (R, [String]) {
    let thread = Self.currentThread
    captures.withLock { $0.append(Capture(thread: thread, leastLevel: level)) }
    var taken: [String] = []
    func finish() {
      taken = captures.withLock { captures in
        guard let index = captures.lastIndex(where: { $0.thread == thread }) else { return [] }
        return captures.remove(at: index).lines
      }
    }
    do {
      let result = try body()
      finish()
      return (result, taken)
    } catch {
      finish()
      throw error
    }
  }

  /// The logged lines as the end of a sentence: `": reason; reason"`, or nothing.
  static func reason(_ lines: [String], shim: String?) -> String {
    var seen: Set<String> = []
    let texts = ([shim].compactMap { $0 } + lines)
      .map(withoutFunctionName)
      .filter { !$0.isEmpty && !$0.hasPrefix("failed to load model") && seen.insert($0).inserted }
    return texts.isEmpty ? "" : ": " + texts.prefix(3).joined(separator: "; ")
  }

  /// llama.cpp starts its lines with `function: `; users need the rest.
  private static func withoutFunctionName(_ line: String) -> String {
    guard let colon = line.firstIndex(of: ":") else { return line }
    let head = line[..<colon]
    guard !head.isEmpty, head.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" }), head.contains("_") else {
      return line
    }
    return line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
  }

  private static var currentThread: ObjectIdentifier { ObjectIdentifier(Thread.current) }
}
