internal import Core
internal import Foundation

/// Text files that users name.
enum TextFile {
  /// The text of a file, without a byte order mark at its start.
  ///
  /// - Parameters:
  ///   - what: as messages call it, such as "the plan"; nil: by its path alone.
  ///   - maximumBytes: larger files are refused.
  ///
  /// Throws `.badInput` that names the file and says whether it is missing, no file, compressed, too large or no UTF-8.
  static func read(_ path: String, what: String? = nil, maximumBytes: Int = .max) throws -> String {
    let name = what.map { "\($0) \(path)" } ?? path
    func fault(_ text: String) -> FusionRouteError { .badInput("\(name) \(text)") }
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { throw fault("does not exist") }
    guard !isDirectory.boolValue else { throw fault("is a directory; a file is needed") }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault("cannot be read: it must be a file, and its permissions must allow it")
    }
    guard data.count <= maximumBytes else {
      throw fault("has \(data.count) bytes; \(maximumBytes) are the most that are read")
    }
    guard let text = String(validating: data, as: UTF8.self) else {
      if let format = compression(data) { throw fault("is compressed (\(format)): unpack it first") }
      throw fault("cannot be read as UTF-8 text")
    }
    // By scalars: the mark is one Character with what it stands before.
    return text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
  }

  /// What a file that starts like this was packed by.
  private static func compression(_ data: Data) -> String? {
    let formats: [(String, [UInt8])] = [
      ("gzip", [0x1F, 0x8B]), ("zip", [0x50, 0x4B, 0x03, 0x04]), ("xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A]),
      ("zstd", [0x28, 0xB5, 0x2F, 0xFD]), ("bzip2", [0x42, 0x5A, 0x68]),
    ]
    return formats.first { data.starts(with: $0.1) }?.0
  }
}
