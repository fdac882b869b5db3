internal import Core
internal import Foundation

#if canImport(Darwin)
  internal import Darwin
#else
  internal import Glibc
#endif

/// Where prompts come from: the command line, or stdin line by line as they arrive.
enum PromptSource: Sendable {
  case given([String])
  case standardInput

  typealias Item = Result<Prompt, FusionRouteError>

  /// Prompts in order. A line that is no prompt comes as its error; a stream that cannot be read ends.
  func items() -> AsyncStream<Item> {
    switch self {
    case .given(let texts):
      AsyncStream { continuation in
        for (index, text) in texts.enumerated() {
          let label = texts.count == 1 ? nil : "prompt \(index + 1)"
          continuation.yield(.success(Prompt(label: label, content: .text(text))))
        }
        continuation.finish()
      }
    case .standardInput:
      AsyncStream { continuation in
        // Reading blocks for as long as nobody types: a thread of its own, which ends with the process.
        Thread.detachNewThread {
          var number = 0
          Self.readLines(from: STDIN_FILENO) { bytes in
            number += 1
            do {
              if let prompt = try Prompt.line(bytes, number: number) { continuation.yield(.success(prompt)) }
            } catch let error as FusionRouteError {
              continuation.yield(.failure(error))
            } catch {
              continuation.yield(.failure(.internal("line \(number) of the prompts cannot be read", cause: error)))
            }
          }
          continuation.finish()
        }
      }
    }
  }

  /// Says on stderr what a terminal's user can do now.
  static func inviteToType() {
    try? FileHandle.standardError.write(contentsOf: Data("Ready: one prompt a line, Ctrl-D to end.\n".utf8))
  }

  /// Calls `line` with each line, without its line feed. Lines over the limit are cut one byte above it.
  static func readLines(from descriptor: Int32, line: ([UInt8]) -> Void) {
    var reader = LineReader(descriptor)
    while let next = reader.next() { line(next) }
  }
}
