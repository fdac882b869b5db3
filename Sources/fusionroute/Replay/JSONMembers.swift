internal import Foundation

/// The members of a JSON object with their values' bytes as they stand, order and spelling kept.
///
/// Rewriting a request by a parser would sort the keys of a schema, and so change what it allows first.
struct JSONMembers {
  struct Member: Equatable {
    var key: String
    /// Of the value, in the object's bytes.
    var value: Range<Int>
  }

  let bytes: [UInt8]
  private(set) var members: [Member] = []

  /// Nil unless `bytes` are one JSON object; values are taken as they are.
  init?(_ bytes: [UInt8]) {
    self.bytes = bytes
    guard (try? JSONSerialization.jsonObject(with: Data(bytes))) is [String: Any] else { return nil }
    var at = Self.skipSpace(bytes, 0) + 1
    while true {
      at = Self.skipSpace(bytes, at)
      guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { return }
      let end = Self.skipString(bytes, at)
      guard let key = try? JSONDecoder().decode(String.self, from: Data(bytes[at..<end])) else { return nil }
      at = Self.skipSpace(bytes, end) + 1
      at = Self.skipSpace(bytes, at)
      let value = at..<Self.skipValue(bytes, at)
      members.append(Member(key: key, value: value))
      at = Self.skipSpace(bytes, value.upperBound) + 1
    }
  }

  /// The bytes of a member's value; nil if there is none or it is null.
  func value(_ key: String) -> [UInt8]? {
    guard let range = members.first(where: { $0.key == key })?.value, !bytes[range].elementsEqual("null".utf8) else {
      return nil
    }
    return Array(bytes[range])
  }

  /// The object with one member's value set.
  func setting(_ key: String, to value: String) -> [UInt8] {
    var result = bytes
    if let range = members.first(where: { $0.key == key })?.value {
      result.replaceSubrange(range, with: value.utf8)
    } else {
      let start = Self.skipSpace(bytes, 0) + 1
      result.insert(contentsOf: Array("\(JSONText.string(key)):\(value)\(members.isEmpty ? "" : ",")".utf8), at: start)
    }
    return result
  }

  private static func skipSpace(_ bytes: [UInt8], _ start: Int) -> Int {
    var at = start
    while at < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[at]) { at += 1 }
    return at
  }

  /// Behind the closing quote.
  private static func skipString(_ bytes: [UInt8], _ start: Int) -> Int {
    var at = start + 1
    while at < bytes.count, bytes[at] != UInt8(ascii: "\"") { at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1 }
    return min(at + 1, bytes.count)
  }

  private static func skipValue(_ bytes: [UInt8], _ start: Int) -> Int {
    var (at, depth) = (start, 0)
    while at < bytes.count {
      switch bytes[at] {
      case UInt8(ascii: "\""):
        at = skipString(bytes, at)
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return trimmed(bytes, start, at) }
        depth -= 1
      case UInt8(ascii: ",") where depth == 0: return trimmed(bytes, start, at)
      default: break
      }
      at += 1
    }
    return at
  }

  private static func trimmed(_ bytes: [UInt8], _ start: Int, _ end: Int) -> Int {
    var end = end
    while end > start, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[end - 1]) { end -= 1 }
    return end
  }
}
