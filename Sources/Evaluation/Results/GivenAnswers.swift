internal import Core

/// Answers that something else than this evaluation has written: another system, or an evaluation elsewhere.
public enum GivenAnswers {
  /// Reads JSON Lines of `{"id": …, "text": …}`, with "method" where a file has the answers of several; of equal ids the last
  /// counts, but of one evaluation's two states of a method neither does. Of lines that an evaluation wrote, tokens, who decided them, and costs are taken too.
  ///
  /// - Parameter method: whose answers are wanted: lines that name another one are left out.
  /// - Returns: records by prompt, not graded and without key. Throws `.badInput` that names `source` and the fault.
  public static func read(_ text: String, source: String, method: String) throws -> [String: AnswerRecord] {
    var records: [String: AnswerRecord] = [:]
    var keys: [String: String] = [:]
    var others: Set<String> = []
    for (number, line) in JSONLines.lines(of: text) {
      let object = try JSONLines.object(line, source: "\(source):\(number)")
      switch object["method"] {
      case .string(let name) where name != method:
        others.insert(name)
        continue
      case nil, .string: break
      default: throw FusionRouteError.badInput("\(source):\(number): \"method\" must be a text")
      }
      guard case .string(let id)? = object["id"], !id.isEmpty, case .string(let answer)? = object["text"] else {
        throw FusionRouteError.badInput("\(source):\(number): an answer needs \"id\" and \"text\", which are texts")
      }
      let none = Grade(passed: false)
      var record =
        AnswerRecord(object) ?? AnswerRecord(key: "", method: method, id: id, task: "", text: answer, grade: none)
      if !record.key.isEmpty, let other = keys.updateValue(record.key, forKey: id), other != record.key {
        throw FusionRouteError.badInput(
          "\(source):\(number): there are answers of two states of \"\(method)\" to \(id): evaluate what is wanted into a folder of "
            + "its own")
      }
      record.key = ""
      record.grade = none
      records[id] = record
    }
    guard !records.isEmpty else {
      throw FusionRouteError.badInput(
        "\(source) has no answers of \"\(method)\""
          + (others.isEmpty ? "" : ", but of \(others.sorted().joined(separator: ", "))"))
    }
    return records
  }
}
