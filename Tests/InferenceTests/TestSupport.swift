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

  /// A small llama whose rows are whole blocks of every type, K-quants' 256 included.
  static func wide() throws -> String {
    try made("llama-wide.gguf") { path in
      var recipe = ModelRecipe(seed: 1)
      recipe.layers = 2
      recipe.width = 256
      recipe.heads = 4
      recipe.kvHeads = 2
      recipe.feedForward = 512
      recipe.vocabularySize = 640
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
  /// Decodes `requests` in one turn of the decoder: they are submitted while it is busy delivering to another, of
  /// sequence 99.
  ///
  /// - Parameter wanted: the positions that each of them wants; nil: its last one.
  /// - Returns: an answer for each of them, nil where it failed.
  func together(_ requests: [(sequence: UInt64, tokens: [Token])], wanted: [[Int]]? = nil) async -> [Answer?] {
    let boxes = requests.map { _ in RowBox() }
    let answers = AnswerBox(requests.count)
    return await withCheckedContinuation { continuation in
      let start: @Sendable () -> Void = {
        for (index, request) in requests.enumerated() {
          self.submit(
            DecodeRequest(
              id: BatchingDecoder.nextID(), sequence: request.sequence, tokens: request.tokens,
              wanted: wanted?[index] ?? [request.tokens.count - 1], deliver: { boxes[index].append($0) },
              completion: { result in
                let answer = (try? result.get()).map { Answer(rows: boxes[index].all, summary: $0) }
                guard let all = answers.put(answer, at: index) else { return }
                continuation.resume(returning: all)
              }))
        }
      }
      submit(
        DecodeRequest(
          id: BatchingDecoder.nextID(), sequence: 99, tokens: [5], wanted: [0], deliver: { _ in start() },
          completion: { result in
            // Then nothing has been delivered, and none of the requests was submitted.
            if case .failure = result { continuation.resume(returning: requests.map { _ in nil }) }
          }))
    }
  }
}

/// Answers in the order of their requests.
final class AnswerBox: Sendable {
  private struct State {
    var answers: [Answer?]
    var missing: Int
  }

  private let state: Mutex<State>

  init(_ count: Int) { state = Mutex(State(answers: Array(repeating: nil, count: count), missing: count)) }

  /// All of them, once the last one is there.
  func put(_ answer: Answer?, at index: Int) -> [Answer?]? {
    state.withLock {
      $0.answers[index] = answer
      $0.missing -= 1
      return $0.missing == 0 ? $0.answers : nil
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
