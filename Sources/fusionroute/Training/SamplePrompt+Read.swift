internal import Core
internal import Evaluation
internal import Foundation
internal import Training

extension SamplePrompt {
  /// Reads prompts, a JSON object a line. Throws `.badInput` that names file, line and fault.
  ///
  /// - Parameters:
  ///   - areTasks: each is a line of a task file too, which a persistent grader needs.
  ///   - isRaw: they are continued without a chat template, which messages need.
  static func read(_ path: String, areTasks: Bool = false, isRaw: Bool = false) throws -> [SamplePrompt] {
    let text = try TextFile.read(path)
    let prompts = try JSONLines.lines(of: text).map { number, line in
      let source = "\(path):\(number)"
      var prompt = try parse(line, source: source)
      guard prompt.isText || !isRaw else {
        throw FusionRouteError.badInput(
          "\(source): messages need the chat template, which --raw leaves out: give \"prompt\" as a text, or no --raw")
      }
      if areTasks { prompt.task = try EvaluationTask.parse(line, source: source) }
      return prompt
    }
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
    let isText = if case .string = prompt { true } else { false }
    return SamplePrompt(
      messages: try RecordReader.prompt(prompt, source: source), isText: isText, record: line)
  }
}
