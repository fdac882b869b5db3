internal import Core
internal import Evaluation
internal import Foundation
internal import Inference

/// A prompt to sample answers for.
struct SamplePrompt: Sendable {
  var messages: [ChatMessage]
  /// Whether it was given as a text, of which ``messages`` has one of the user.
  var isText: Bool
  /// The whole line, for a grader.
  var record: String
  /// The line as a persistent grader needs it; nil where there is none.
  var task: EvaluationTask?

  /// How a model is asked. Messages need its chat template; a text is continued where there is none, or none is wanted.
  var content: Prompt.Content {
    if isText, let text = messages.first?.content { .text(text) } else { .messages(messages) }
  }

  var json: JSONText {
    .array(messages.map { .object([("role", .text($0.role)), ("content", .text($0.content))]) })
  }
}

/// One sampled and graded answer.
struct SampledAnswer: Sendable, Equatable {
  var prompt: Int
  var sample: Int
  var text: String
  var isComplete: Bool
  var score: Double
  /// Tokens of the answer; nil in files of older versions.
  var tokens: Int?
}

/// Answers on disk as they come, so that sampling goes on where it stopped.
final class SampleStore {
  private var file: LineFile
  private(set) var answers: [SampledAnswer] = []

  /// - Parameter identity: of prompts and settings; a file of others is refused.
  init(path: String, identity: String) throws {
    if FileManager.default.fileExists(atPath: path) {
      guard let data = FileManager.default.contents(atPath: path) else {
        throw FusionRouteError.unavailable("\(path) cannot be read")
      }
      // Repaired, not refused: a crash may have cut off the last line within a character.
      let lines = String(decoding: data, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
      // A run that failed before its first answer leaves its first line alone.
      let isEmpty = lines.allSatisfy(\.isEmpty) || (lines.count == 2 && lines[1].isEmpty && Self.isHead(lines[0]))
      guard isEmpty || lines.first.map(String.init) == Self.head(identity) else {
        throw FusionRouteError.badInput(
          "\(path) holds answers to other prompts or of other settings: give another --out, or remove it")
      }
      // A line that a crash cut off is dropped.
      answers = lines.dropFirst().compactMap(Self.answer)
    }
    var whole = try AtomicFile(path: path)
    try whole.write(Array((Self.head(identity) + "\n").utf8))
    for answer in answers { try whole.write(Array((Self.line(answer) + "\n").utf8)) }
    try whole.commit()
    file = try LineFile(path: path)
  }

  func add(_ answer: SampledAnswer) throws {
    try file.add(Self.line(answer))
    answers.append(answer)
  }

  private static func head(_ identity: String) -> String { JSONText.object([("samples_of", .text(identity))]).rendered }

  private static func isHead(_ line: Substring) -> Bool {
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)), object.members.count == 1 else {
      return false
    }
    return object["samples_of"] != nil
  }

  private static func line(_ answer: SampledAnswer) -> String {
    let tokens = answer.tokens.map { [("tokens", JSONText.integer($0))] } ?? []
    let verdict: [(String, JSONText)] = [
      ("prompt", .integer(answer.prompt)), ("sample", .integer(answer.sample)), ("complete", .bool(answer.isComplete)),
      ("score", .number(answer.score)),
    ]
    return JSONText.object(verdict + tokens + [("text", .text(answer.text))]).rendered
  }

  private static func answer(_ line: Substring) -> SampledAnswer? {
    guard case .object(let object)? = try? JSONParser.parse(Array(line.utf8)),
      case .integer(let prompt)? = object["prompt"], case .integer(let sample)? = object["sample"],
      case .bool(let isComplete)? = object["complete"], case .string(let text)? = object["text"]
    else { return nil }
    let score: Double
    switch object["score"] {
    case .integer(let value)?: score = Double(value)
    case .number(let value)?: score = value
    default: return nil
    }
    var tokens: Int?
    if case .integer(let count)? = object["tokens"] { tokens = Int(exactly: count) }
    return SampledAnswer(
      prompt: Int(prompt), sample: Int(sample), text: text, isComplete: isComplete, score: score, tokens: tokens)
  }
}

/// Which answers become data.
struct SampleSelection: Sendable {
  /// Answers with at least this score pass.
  var threshold: Double
  /// Examples of one prompt at most.
  var perPrompt: Int
  /// Pairs whose answers differ in length, in bytes, by a larger factor are not made; nil: all.
  var lengthRatio: Double?

  /// Whether it can be learnt from: models do write NUL, which no chat message may hold.
  private static func isText(_ answer: SampledAnswer) -> Bool {
    !answer.text.allSatisfy(\.isWhitespace) && !answer.text.unicodeScalars.contains("\0")
  }

  /// The passed, complete answers of one prompt: the best first, each text once.
  func passed(_ answers: [SampledAnswer]) -> [SampledAnswer] {
    var seen: Set<String> = []
    return answers.filter { $0.isComplete && $0.score >= threshold }
      .sorted { ($1.score, $0.sample) < ($0.score, $1.sample) }
      .filter { Self.isText($0) && seen.insert($0.text).inserted }.prefix(perPrompt).map { $0 }
  }

  /// Passed answers against failed ones of similar length, each answer once.
  func pairs(_ answers: [SampledAnswer]) -> [(chosen: SampledAnswer, rejected: SampledAnswer)] {
    var seen: Set<String> = []
    var failed = answers.filter { $0.isComplete && $0.score < threshold }.sorted {
      ($0.score, $0.sample) < ($1.score, $1.sample)
    }
    .filter { Self.isText($0) && seen.insert($0.text).inserted }
    var pairs: [(SampledAnswer, SampledAnswer)] = []
    let all = SampleSelection(threshold: threshold, perPrompt: answers.count, lengthRatio: nil).passed(answers)
    for answer in all where pairs.count < perPrompt {
      func ratio(_ other: SampledAnswer) -> Double {
        let (a, b) = (Double(answer.text.utf8.count), Double(other.text.utf8.count))
        return max(a, b) / min(a, b)
      }
      let nearest = failed.indices.min { ratio(failed[$0]) < ratio(failed[$1]) }
      guard let nearest, lengthRatio.map({ ratio(failed[nearest]) <= $0 }) ?? true else { continue }
      pairs.append((answer, failed.remove(at: nearest)))
    }
    return pairs
  }
}
