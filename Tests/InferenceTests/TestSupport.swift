import Core
import Foundation
import Synchronization
import Testing

@testable import Inference

/// Files the tests decode with. Made once per run of the suite and per weight type, in a scratch directory.
enum TestModels {
  static let directory: URL = {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("fusionroute-inference-tests")
    try? FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    return url
  }()

  /// SmolLM2-135M-Instruct as the set-up fetches it; nil when it has not.
  static let smolLM2: String? = {
    guard let cache = try? CacheDirectory.url() else { return nil }
    let path = cache.appendingPathComponent("models/SmolLM2-135M-Instruct.Q4_1.gguf").path
    return FileManager.default.isReadableFile(atPath: path) ? path : nil
  }()

  static let hasSmolLM2 = smolLM2 != nil
  static let absent: Comment = "SmolLM2 is not in the cache; Deploy/demo fetches it"

  private static let lock = NSLock()

  /// SmolLM2 in another weight type.
  static func smolLM2(type: String) throws -> String {
    let source = try #require(smolLM2)
    if type == "q4_1" { return source }
    lock.lock()
    defer { lock.unlock() }
    let path = directory.appendingPathComponent("smollm2-\(type).gguf").path
    if !FileManager.default.fileExists(atPath: path) {
      try Quantizer.convert(input: source, output: path, type: type, threads: 2)
    }
    return path
  }
}

/// Waits for a request without blocking the cooperative pool.
struct Answer: Sendable {
  var rows: [DecodedRow]
  var summary: DecodeSummary
}

extension BatchingDecoder {
  private static let ids = Atomic<UInt64>(1)

  static func nextID() -> UInt64 { ids.wrappingAdd(1, ordering: .relaxed).oldValue }

  func decode(
    sequence: UInt64, _ tokens: [Token], wanted: [Int]? = nil, hidden: Bool = false
  ) async throws -> Answer {
    let rows = Mutex<[DecodedRow]>([])
    let box = RowBox(rows: rows)
    return try await withCheckedThrowingContinuation { continuation in
      submit(
        DecodeRequest(
          id: Self.nextID(), sequence: sequence, tokens: tokens, wanted: wanted ?? [tokens.count - 1],
          wantsHidden: hidden, deliver: { row in box.append(row) },
          completion: { result in
            continuation.resume(with: result.map { Answer(rows: box.all, summary: $0) })
          }))
    }
  }
}

final class RowBox: Sendable {
  private let rows: Mutex<[DecodedRow]>
  init(rows: consuming Mutex<[DecodedRow]>) { self.rows = rows }
  func append(_ row: DecodedRow) { rows.withLock { $0.append(row) } }
  var all: [DecodedRow] { rows.withLock { $0 } }
}

/// Bits of a row, for exact comparison.
func bits(_ row: LogitsRow) -> [UInt32] { row.buffer.map(\.bitPattern) }
func bits(_ row: [Float]) -> [UInt32] { row.map(\.bitPattern) }

func randomTokens(_ count: Int, vocabulary: Int, seed: UInt64) -> [Token] {
  var generator = SplitMix64(seed: seed)
  return (0..<count).map { _ in Token(Int.random(in: 3..<vocabulary, using: &generator)) }
}
