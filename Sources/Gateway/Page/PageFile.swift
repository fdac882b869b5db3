internal import Core
internal import NIOCore
internal import PageFiles

/// A file of the page, as the compiler put it into the program.
struct PageFile: Sendable {
  let type: String
  let content: ByteBuffer
  /// An entity tag (RFC 9110): another content has another.
  let tag: String

  /// By name, as they lie in `Site`.
  static let all: [String: PageFile] = {
    var files: [String: PageFile] = [:]
    for index in 0..<page_file_count() {
      let file = page_file_at(index)
      let name = String(cString: file.name)
      files[name] = PageFile(name: name, bytes: UnsafeBufferPointer(start: file.bytes, count: file.size))
    }
    return files
  }()

  private init(name: String, bytes: UnsafeBufferPointer<UInt8>) {
    type = Self.type(of: name)
    content = ByteBuffer(bytes: bytes)
    tag = "\"" + SHA256Digest(hashing: bytes).hex.prefix(32) + "\""
  }

  private static func type(of name: String) -> String {
    switch name.split(separator: ".").last {
    case "html": "text/html; charset=utf-8"
    case "css": "text/css; charset=utf-8"
    case "js": "text/javascript; charset=utf-8"
    case "svg": "image/svg+xml"
    default: "application/octet-stream"
    }
  }
}
