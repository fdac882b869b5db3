internal import Core

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// A body of `multipart/form-data` (RFC 7578), taken apart.
struct Multipart: Sendable, Equatable {
  struct Part: Sendable, Equatable {
    var name: String
    /// Nil for a plain field.
    var filename: String?
    /// Where its content stands in the body.
    var content: Range<Int>
  }

  static let maximumParts = 16
  static let maximumHeader = 8 << 10
  /// RFC 2046.
  static let maximumBoundary = 70

  let parts: [Part]

  /// Throws what is wrong with it, as a sentence.
  init(_ body: [UInt8], contentType: String) throws(GatewayError) {
    guard let boundary = Self.boundary(contentType) else {
      throw Self.wrong("its content type must be multipart/form-data with a boundary")
    }
    let delimiter = Array("\r\n--\(boundary)".utf8)
    // The first delimiter has no line break before it if nothing precedes it.
    let first = Array(delimiter.dropFirst(2))
    var at: Int
    if body.starts(with: first) {
      at = first.count
    } else if let found = Self.find(delimiter, in: body, from: 0) {
      at = found + delimiter.count
    } else {
      throw Self.wrong("its boundary does not occur in it")
    }
    var parts: [Part] = []
    while !body[at...].starts(with: "--".utf8) {
      guard parts.count < Self.maximumParts else { throw Self.wrong("it has more than \(Self.maximumParts) parts") }
      // Space after a boundary is allowed and means nothing.
      while at < body.count, body[at] == 0x20 || body[at] == 0x09 { at += 1 }
      guard body[at...].starts(with: "\r\n".utf8) else {
        throw Self.wrong("a boundary is not followed by a line break")
      }
      let head = at
      guard
        let blank = Self.find(
          Array("\r\n\r\n".utf8), in: body, from: head, to: min(body.count, head + Self.maximumHeader))
      else { throw Self.wrong("the headers of a part do not end within \(Self.maximumHeader) bytes") }
      let start = blank + 4
      // An empty part's delimiter begins with the line break that ends its headers.
      guard let end = Self.find(delimiter, in: body, from: start - 2) else {
        throw Self.wrong("its last part does not end")
      }
      parts.append(try Self.part(Array(body[head..<blank]), content: start..<max(start, end)))
      at = end + delimiter.count
    }
    self.parts = parts
  }

  func part(_ name: String) -> Part? { parts.first { $0.name == name } }

  static func wrong(_ what: String) -> GatewayError {
    .invalid(nil, "the request's body is no form: \(what)", code: "invalid_form")
  }

  // MARK: Headers

  private static func part(_ head: [UInt8], content: Range<Int>) throws(GatewayError) -> Part {
    guard let text = String(validating: head, as: UTF8.self) else { throw wrong("a part's headers are not UTF-8") }
    for line in text.split(separator: "\r\n") {
      guard let colon = line.firstIndex(of: ":"), line[..<colon].lowercased() == "content-disposition" else { continue }
      let (value, parameters) = fields(line[line.index(after: colon)...])
      guard value == "form-data", let name = parameters["name"] else { break }
      return Part(name: name, filename: parameters["filename"], content: content)
    }
    throw wrong("a part has no Content-Disposition: form-data with a name")
  }

  static func boundary(_ contentType: String) -> String? {
    let (type, parameters) = fields(contentType[...])
    guard type == "multipart/form-data", let boundary = parameters["boundary"],
      (1...maximumBoundary).contains(boundary.utf8.count), boundary.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else { return nil }
    return boundary
  }

  /// `value; name=text; name="quoted"`, names in lower case.
  private static func fields(_ text: Substring) -> (value: String, parameters: [String: String]) {
    var rest = text
    let value = rest.prefix { $0 != ";" }
    rest = rest.dropFirst(value.count)
    var parameters: [String: String] = [:]
    while rest.first == ";" {
      rest = rest.dropFirst().drop { $0 == " " || $0 == "\t" }
      let name = rest.prefix { $0 != "=" && $0 != ";" }
      rest = rest.dropFirst(name.count)
      guard rest.first == "=" else { continue }
      rest = rest.dropFirst()
      var content = ""
      if rest.first == "\"" {
        rest = rest.dropFirst()
        while let character = rest.first, character != "\"" {
          if character == "\\", let next = rest.dropFirst().first, next == "\"" || next == "\\" {
            content.append(next)
            rest = rest.dropFirst(2)
          } else {
            content.append(character)
            rest = rest.dropFirst()
          }
        }
        rest = rest.drop { $0 != ";" }
      } else {
        content = String(rest.prefix { $0 != ";" })
        rest = rest.dropFirst(content.count)
        while content.last == " " { content.removeLast() }
      }
      parameters[name.lowercased()] = content
    }
    return (value.lowercased().filter { $0 != " " && $0 != "\t" }, parameters)
  }

  // MARK: Search

  /// Where `pattern` first begins in `body[start..<end]`.
  private static func find(_ pattern: [UInt8], in body: [UInt8], from start: Int, to end: Int? = nil) -> Int? {
    let end = end ?? body.count
    guard let first = pattern.first else { return nil }
    return body.withUnsafeBytes { bytes in
      var at = start
      while at + pattern.count <= end, let base = bytes.baseAddress,
        let found = memchr(base + at, Int32(first), end - pattern.count + 1 - at)
      {
        at = UnsafeRawPointer(found) - base
        if bytes[at..<at + pattern.count].elementsEqual(pattern) { return at }
        at += 1
      }
      return nil
    }
  }
}
