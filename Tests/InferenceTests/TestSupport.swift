import Core
import Foundation
import ModelFiles
import Synchronization
import Testing

@testable import Inference

/// Model files for the tests, made once per process in a directory of their own.
enum TestModels {
  static let directory: URL = {
    let url = FileManager.default.temporaryDirectory
      .appendingPathComponent("fusionroute-inference-tests-\(ProcessInfo.processInfo.processIdentifier)")
    try? FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(at: TestModels.directory) }
    return url
  }()

  /// SmolLM2-135M-Instruct as the set-up fetches it; nil when it has not. Results of the tests stay out of that cache;
  /// the environment is left alone, since the other suites of this process read it too.
  static let smolLM2: String? = {
    ResultCache.root.withLock { $0 = directory.appendingPathComponent("cache") }
    guard let cache = try? CacheDirectory.url() else { return nil }
    let path = cache.appendingPathComponent("models/SmolLM2-135M-Instruct.Q4_1.gguf").path
    return FileManager.default.isReadableFile(atPath: path) ? path : nil
  }()

  static let hasSmolLM2 = smolLM2 != nil
  static let absent: Comment = "SmolLM2 is not in the cache; Deploy/demo fetches it"

  private static let lock = NSLock()

  private static func made(_ name: String, by make: (String) throws -> Void) throws -> String {
    lock.lock()
    defer { lock.unlock() }
    let path = directory.appendingPathComponent(name).path
    if !FileManager.default.fileExists(atPath: path) { try make(path) }
    return path
  }

  /// SmolLM2 in another weight type.
  static func smolLM2(type: String) throws -> String {
    let source = try #require(smolLM2)
    if type == "q4_1" { return source }
    return try made("smollm2-\(type).gguf") {
      try Quantizer.convert(input: source, output: $0, type: type, threads: 2)
    }
  }

  /// A small generated model: `llama`, `gemma2` or `gemma3`, the latter two with a window of 64.
  static func generated(
    _ architecture: ModelRecipe.Architecture, type: String = "f32", vocabulary: ModelRecipe.VocabularyKind = .spm,
    seed: UInt64 = 1
  ) throws -> String {
    try made("\(architecture.rawValue)-\(type)-\(vocabulary.rawValue)-\(seed).gguf") { path in
      var recipe = ModelRecipe(architecture: architecture, seed: seed)
      recipe.layers = architecture == .llama ? 3 : 6
      recipe.width = 64
      recipe.heads = 4
      recipe.kvHeads = 2
      recipe.feedForward = 128
      recipe.vocabularyKind = vocabulary
      recipe.vocabularySize = 640
      if architecture != .llama { recipe.window = 64 }
      recipe.type = try #require(TensorType(name: type))
      try ModelMaker.make(recipe, to: path)
    }
  }

  static func model(_ name: String) throws -> Model {
    let parts = name.split(separator: " ").map(String.init)
    if parts[0] == "smollm2" { return try Model.load(path: try smolLM2(type: parts[1])) }
    let architecture = try #require(ModelRecipe.Architecture(rawValue: parts[0]))
    return try Model.load(path: try generated(architecture, type: parts[1]))
  }
}

struct Answer: Sendable {
  var rows: [DecodedRow]
  var summary: DecodeSummary
}

final class RowBox: Sendable {
  private let rows = Mutex<[DecodedRow]>([])
  func append(_ row: DecodedRow) { rows.withLock { $0.append(row) } }
  var all: [DecodedRow] { rows.withLock { $0 } }
}

extension BatchingDecoder {
  private static let ids = Atomic<UInt64>(1)

  static func nextID() -> UInt64 { ids.wrappingAdd(1, ordering: .relaxed).oldValue }

  /// One request, awaited.
  func decode(
    sequence: UInt64, _ tokens: [Token], wanted: [Int]? = nil, hidden: Bool = false, id: UInt64 = nextID()
  ) async throws -> Answer {
    let box = RowBox()
    return try await withCheckedThrowingContinuation { continuation in
      submit(
        DecodeRequest(
          id: id, sequence: sequence, tokens: tokens, wanted: wanted ?? [tokens.count - 1], wantsHidden: hidden,
          deliver: { box.append($0) },
          completion: { result in
            continuation.resume(with: result.map { Answer(rows: box.all, summary: $0) })
          }))
    }
  }
}

extension BatchingDecoder {
  /// Decodes `requests` in one turn of the decoder: they are submitted while it is busy delivering to another.
  func together(_ requests: [(sequence: UInt64, tokens: [Token])]) async
    -> [Answer?]
  {
    let boxes = requests.map { _ in RowBox() }
    let left = OrderBox()
    return await withCheckedContinuation { continuation in
      let start: @Sendable () -> Void = {
        for (index, request) in requests.enumerated() {
          self.submit(
            DecodeRequest(
              id: BatchingDecoder.nextID(), sequence: request.sequence, tokens: request.tokens,
              wanted: [request.tokens.count - 1], deliver: { boxes[index].append($0) },
              completion: { result in
                guard left.append((try? result.get()) == nil ? -1 : index) == requests.count else { return }
                let summary = DecodeSummary(
                  evaluatedTokens: 0, reusedTokens: 0, queueNanoseconds: 0, computeNanoseconds: 0)
                continuation.resume(returning: boxes.map { Answer(rows: $0.all, summary: summary) })
              }))
        }
      }
      submit(
        DecodeRequest(
          id: BatchingDecoder.nextID(), sequence: 99, tokens: [5], wanted: [0], deliver: { _ in start() },
          completion: { _ in }))
    }
  }
}

final class OrderBox: Sendable {
  private let values = Mutex<[Int]>([])
  func append(_ value: Int) -> Int {
    values.withLock {
      $0.append(value)
      return $0.count
    }
  }
  var all: [Int] { values.withLock { $0 } }
}

/// Digest of a row's bits, for exact comparison without megabytes of output.
func bits(_ row: LogitsRow) -> SHA256Digest {
  withExtendedLifetime(row) { SHA256Digest(hashing: UnsafeRawBufferPointer(row.buffer)) }
}
func values(_ row: LogitsRow) -> [Float] { withExtendedLifetime(row) { Array(row.buffer) } }
func bits(_ row: [Float]?) -> SHA256Digest? { row.map { $0.withUnsafeBytes { SHA256Digest(hashing: $0) } } }

/// Text-like tokens: no control tokens.
func randomTokens(_ count: Int, vocabulary: Int, seed: UInt64) -> [Token] {
  var generator = SplitMix64(seed: seed)
  return (0..<count).map { _ in Token.random(in: 3..<Token(vocabulary), using: &generator) }
}
