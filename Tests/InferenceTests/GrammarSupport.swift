import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

/// Files that tests and the structured-output check share.
enum SchemaFiles {
  private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  private static let folder = tests.appendingPathComponent("Schemas")
  static let validator = tests.appendingPathComponent("Oracle/validate.py").path

  static let names: [String] = {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return files.filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }.sorted()
  }()

  /// The schema's own text: the order of its members matters.
  static func schema(_ name: String) throws -> String {
    let bytes = Array(try Data(contentsOf: folder.appendingPathComponent(name + ".json")))
    guard case .object(let file) = try JSONParser.parse(bytes), case .object(let schema)? = file["schema"] else {
      throw FusionRouteError.badInput("\(name).json has no schema")
    }
    return String(decoding: bytes[schema.range], as: UTF8.self)
  }
}

/// Python programs as judges.
enum Python {
  /// Runs `arguments` with a program that imports `module`; its standard output, nil if it failed.
  static func run(_ arguments: [String], input: Data = Data()) throws -> Data? {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("python-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // Files, not pipes: nothing can fill up while the other side waits.
    func handle(_ name: String, _ contents: Data) throws -> FileHandle {
      let url = folder.appendingPathComponent(name)
      try contents.write(to: url)
      return try FileHandle(forUpdating: url)
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3"] + arguments
    process.standardInput = try handle("in", input)
    process.standardOutput = try handle("out", Data())
    process.standardError = try handle("err", Data())
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let errors = try String(contentsOf: folder.appendingPathComponent("err"), encoding: .utf8)
      Issue.record("python3 ended with \(process.terminationStatus): \(errors.suffix(2000))")
      return nil
    }
    return try Data(contentsOf: folder.appendingPathComponent("out"))
  }

  static let hasJSONSchema: Bool = {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", "-c", "import jsonschema"]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }()

  /// What `jsonschema` has against each text; nil where it is valid.
  static func faults(_ cases: [(schema: String, text: String)]) throws -> [String?] {
    let lines = try cases.map {
      try JSONSerialization.data(withJSONObject: ["schema": $0.schema, "text": $0.text]) + Data("\n".utf8)
    }
    let output = try #require(try run([SchemaFiles.validator], input: lines.reduce(Data(), +)))
    let faults = try String(decoding: output, as: UTF8.self).split(separator: "\n").map {
      try JSONDecoder().decode(String?.self, from: Data($0.utf8))
    }
    try #require(faults.count == cases.count)
    return faults
  }
}

extension TestModels {
  /// The vocabulary of SmolLM2, or a generated one where it is not there; loaded once.
  static func vocabularyModel() throws -> Model { try loadedVocabulary.get() }

  private static let loadedVocabulary = Result {
    let path = hasSmolLM2 ? try smolLM2(type: "q4_1") : try generated(.llama, vocabulary: .bpe)
    return try Model.load(path: path, options: .init(vocabularyOnly: true))
  }

  static func generatedVocabulary(_ kind: ModelRecipe.VocabularyKind) throws -> Model {
    try Model.load(path: try generated(.llama, vocabulary: kind), options: .init(vocabularyOnly: true))
  }
}

/// One answer that grows by random allowed tokens.
struct RandomWalk {
  let model: Model
  var constraint: GrammarConstraint
  var generator: SplitMix64
  private(set) var bytes: [UInt8] = []
  private(set) var steps = 0
  private let closers: [Token]

  /// Steps after which the walk takes what closes strings and values whenever it may.
  private static let patience = 120
  private static let limit = 1500

  init(_ grammar: Grammar, _ model: Model, seed: UInt64) throws {
    self.model = model
    constraint = grammar.makeConstraint()
    generator = SplitMix64(seed: seed)
    closers = try ["\"", "}", "]"].flatMap { try model.vocabulary.tokenize($0, addSpecial: false, parseSpecial: false) }
  }

  var text: String { String(decoding: bytes, as: UTF8.self) }

  private mutating func next() throws -> Token? {
    if steps > Self.patience, let closer = try closers.first(where: { try constraint.allows($0) }) { return closer }
    // Most of a vocabulary is allowed inside strings and next to none elsewhere.
    for _ in 0..<16 {
      let token = Token.random(in: 0..<Token(model.vocabulary.size), using: &generator)
      if try constraint.allows(token) { return token }
    }
    let forbidden = try constraint.forbidden()
    let count = model.vocabulary.size - forbidden.count
    return count == 0 ? nil : Self.allowed(Int.random(in: 0..<count, using: &generator), forbidden)
  }

  /// The allowed token with so many before it.
  private static func allowed(_ index: Int, _ forbidden: [Token]) -> Token {
    var (low, high) = (0, forbidden.count)
    while low < high {
      let middle = (low + high) / 2
      if Int(forbidden[middle]) - middle <= index { low = middle + 1 } else { high = middle }
    }
    return Token(index + low)
  }

  /// False if the walk has ended.
  mutating func step() throws -> Bool {
    guard !constraint.isComplete, steps < Self.limit, let token = try next(), !model.vocabulary.isEndOfGeneration(token)
    else { return false }
    try constraint.accept(token)
    bytes += model.vocabulary.piece(token, special: false)
    steps += 1
    return true
  }

  /// Whether the answer ended as the grammar wants it, within the limit.
  mutating func finish() throws -> Bool {
    while try step() {}
    return steps < Self.limit
  }
}

extension Grammar {
  /// Whether `text` is an answer, as the tokenizer spells it.
  func takes(_ text: String, _ model: Model) throws -> Bool {
    var constraint = makeConstraint()
    for token in try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: false) {
      guard try constraint.allows(token) else { return false }
      try constraint.accept(token)
    }
    return try constraint.isComplete || (model.vocabulary.endOfSequence.map { try constraint.allows($0) } ?? false)
  }
}

/// Our own error, nil if there is none; what else is thrown is passed on.
func refusal(_ body: () throws -> some Any) throws -> FusionRouteError? {
  do {
    _ = try body()
    return nil
  } catch let error as FusionRouteError { return error }
}
