internal import Core
internal import Journal

/// The lines of a batch's input file.
enum BatchInput {
  static let maximumItems = 50_000
  static let maximumCustomID = 512
  /// Problems that are told; the rest would be more of the same.
  static let maximumProblems = 50

  struct Refused: Error {
    var problems: [StoredBatch.Problem]
  }

  /// All items, or every problem there is.
  ///
  /// - Parameter maximumBody: bytes of one request's body.
  static func items(_ text: [UInt8], endpoint: String, maximumBody: Int) throws(Refused) -> [BatchItem] {
    var items: [BatchItem] = []
    var problems: [StoredBatch.Problem] = []
    // By bytes: to clients, canonically equivalent texts are different ones.
    var seen: Set<ExactText> = []
    var (start, number) = (0, 0)
    // One line after the other: a list of millions of empty ones would be much larger than the file.
    while start < text.count {
      let line = text[start..<(text[start...].firstIndex(of: 0x0A) ?? text.count)]
      start = line.endIndex + 1
      number += 1
      guard line.contains(where: { $0 != 0x20 && $0 != 0x0D && $0 != 0x09 }) else { continue }
      do throws(Wrong) {
        guard items.count < maximumItems else {
          throw Wrong("too_many_tasks", "the file has more than \(maximumItems) requests")
        }
        let item = try item(Array(line), number: items.count, endpoint: endpoint, maximumBody: maximumBody)
        guard seen.insert(ExactText(item.customID)).inserted else {
          throw Wrong("duplicate_custom_id", "the custom_id \"\(item.customID.clipped)\" occurs twice", "custom_id")
        }
        items.append(item)
      } catch {
        problems.append(
          StoredBatch.Problem(code: error.code, message: error.message, line: number, param: error.param))
        if problems.count >= maximumProblems { break }
      }
    }
    if problems.isEmpty, items.isEmpty {
      problems.append(StoredBatch.Problem(code: "empty_file", message: "the file has no requests"))
    }
    guard problems.isEmpty else { throw Refused(problems: problems) }
    return items
  }

  private struct Wrong: Error {
    var code: String
    var message: String
    var param: String?

    init(_ code: String, _ message: String, _ param: String? = nil) {
      self.code = code
      self.message = message
      self.param = param
    }
  }

  private static func item(
    _ line: [UInt8], number: Int, endpoint: String, maximumBody: Int
  ) throws(Wrong) -> BatchItem {
    let object: JSONObject
    do {
      guard case .object(let parsed) = try JSONParser.parse(line) else {
        throw Wrong("invalid_json_line", "the line is no JSON object")
      }
      object = parsed
    } catch let error as JSONParser.Failure {
      throw Wrong("invalid_json_line", "the line is not valid JSON: \(error.message), at byte \(error.offset)")
    } catch let error as Wrong {
      throw error
    } catch {
      throw Wrong("invalid_json_line", "the line is not valid JSON")
    }
    guard case .string(let customID)? = object["custom_id"], !customID.isEmpty,
      customID.utf8.count <= maximumCustomID
    else {
      throw Wrong(
        "invalid_custom_id", "custom_id must be a string of 1 to \(maximumCustomID) bytes, different for each request",
        "custom_id")
    }
    guard object["method"] == .string("POST") else {
      throw Wrong("invalid_method", "method must be \"POST\"", "method")
    }
    guard object["url"] == .string(endpoint) else {
      throw Wrong("mismatched_url", "url must be \"\(endpoint)\", as the batch's endpoint is", "url")
    }
    guard case .object(let body)? = object["body"] else {
      throw Wrong("missing_body", "body must be an object: the request's own body", "body")
    }
    guard body.range.count <= maximumBody else {
      throw Wrong("body_too_large", "body has \(body.range.count) bytes: there may be \(maximumBody)", "body")
    }
    return BatchItem(number: number, customID: customID, body: Array(line[body.range]))
  }
}
