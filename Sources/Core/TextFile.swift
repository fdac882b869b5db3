internal import Foundation

/// Text files that users name.
public enum TextFile {
  /// The bytes of a file.
  ///
  /// - Parameters:
  ///   - what: as messages call it, such as "the plan"; nil: by its path alone.
  ///   - maximumBytes: larger files are refused.
  ///
  /// Throws `.badInput` that names the file and says whether it is missing, no file, unreadable, too large or compressed.
  public static func bytes(_ path: String, what: String? = nil, maximumBytes: Int = .max) throws -> [UInt8] {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw fault("does not exist", path, what)
    }
    guard !isDirectory.boolValue else { throw fault("is a directory; a file is needed", path, what) }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault("cannot be read: it must be a file, not a pipe, and its permissions must allow it", path, what)
    }
    guard data.count <= maximumBytes else {
      throw fault("has \(data.count) bytes; \(maximumBytes) are the most that are read", path, what)
    }
    if let format = compression(data) { throw fault("is compressed (\(format)): unpack it first", path, what) }
    return Array(data)
  }

  /// The text of a file, without a byte order mark at its start. Throws as ``bytes(_:what:maximumBytes:)`` does, and for a
  /// file that is no UTF-8.
  public static func read(_ path: String, what: String? = nil, maximumBytes: Int = .max) throws -> String {
    let bytes = try bytes(path, what: what, maximumBytes: maximumBytes)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw fault("cannot be read as UTF-8 text", path, what)
    }
    // By scalars: the mark is one Character with what it stands before.
    return text.unicodeScalars.first == "\u{FEFF}" ? String(text.unicodeScalars.dropFirst()) : text
  }

  private static func fault(_ text: String, _ path: String, _ what: String?) -> FusionRouteError {
    .badInput("\(what.map { "\($0) \(path)" } ?? path) \(text)")
  }

  /// What a file that starts like this was packed by; no text does.
  private static func compression(_ data: Data) -> String? {
    let formats: [(name: String, offset: Int, bytes: [UInt8])] = [
      ("gzip", 0, [0x1F, 0x8B]), ("zip", 0, [0x50, 0x4B, 0x03, 0x04]), ("xz", 0, [0xFD, 0x37, 0x7A, 0x58, 0x5A]),
      ("zstd", 0, [0x28, 0xB5, 0x2F, 0xFD]), ("bzip2", 4, [0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
    ]
    return formats.first { data.dropFirst($0.offset).starts(with: $0.bytes) }?.name
  }
}
