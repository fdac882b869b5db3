internal import Core
internal import Evaluation
internal import Foundation
internal import Training

extension SamplePrompt {
  /// Reads prompts, a JSON object a line. Throws `.badInput` that names file, line and fault.
  static func read(_ path: String) throws -> [SamplePrompt] {
    let text = try TextFile.read(path)
    let prompts = try JSONLines.lines(of: text).map { try parse($0.line, source: "\(path):\($0.number)") }
    guard !prompts.isEmpty else { throw FusionRouteError.badInput("\(path) has no prompts") }
    return prompts
  }

  private static func parse(_ line: String, source: String) throws -> SamplePrompt {
    let value: JSONValue
    do { value = try JSONParser.parse(Array(line.utf8)) } catch let failure as JSONParser.Failure {
      throw FusionRouteError.badInput("\(source): this is no JSON: \(failure.message)")
    }
    guard case .object(let object) = value, let prompt = object["prompt"] ?? object["messages"] else {
      throw FusionRouteError.badInput("\(source): a prompt must be an object with \"prompt\" or \"messages\"")
    }
    return SamplePrompt(messages: try RecordReader.prompt(prompt, source: source), record: line)
  }
}
