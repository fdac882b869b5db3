/// Text fields: UTF-8, no control characters (they end up in logs and terminals), bounded.
enum Text {
  /// A sentence that every receiver accepts: control characters become spaces, the end is cut at a whole character.
  static func clean(_ sentence: String, limit: Int = WireLimits().sentenceBytes) -> [UInt8] {
    var bytes = [UInt8]()
    for scalar in sentence.unicodeScalars {
      let utf8 = UTF8.encode(isControl(scalar) ? " " : scalar)
      guard let utf8, bytes.count + utf8.count <= limit else { break }
      bytes.append(contentsOf: utf8)
    }
    return bytes
  }

  /// The text of a field; nil if it is too long, not UTF-8 or holds a control character (NUL among them).
  static func parse(_ bytes: UnsafeBufferPointer<UInt8>, limit: Int) -> String? {
    guard bytes.count <= limit, let text = String(validating: bytes, as: UTF8.self),
      !text.unicodeScalars.contains(where: isControl)
    else { return nil }
    return text
  }

  /// C0 and C1 controls and DEL, but for tab and newline.
  static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    (scalar.value < 0x20 && scalar != "\n" && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
  }
}
