internal import Core
internal import Foundation
internal import Synchronization

/// What tells a file's content from an earlier one without reading it: device, inode, size, and the times of the last
/// write and of the last change of anything. The second cannot be set back by tools that preserve the first.
struct FileIdentity: Hashable, Codable {
  var device: Int64
  var inode: UInt64
  var size: Int64
  var modified: Int64
  var changed: Int64

  init(path: String, what: String) throws {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw FusionRouteError.badInput("the \(what) \(path) cannot be read: \(String(cString: strerror(errno)))")
    }
    device = Int64(status.st_dev)
    inode = UInt64(status.st_ino)
    size = Int64(status.st_size)
    #if canImport(Darwin)
      let (written, touched) = (status.st_mtimespec, status.st_ctimespec)
    #else
      let (written, touched) = (status.st_mtim, status.st_ctim)
    #endif
    modified = Int64(written.tv_sec) &* 1_000_000_000 &+ Int64(written.tv_nsec)
    changed = Int64(touched.tv_sec) &* 1_000_000_000 &+ Int64(touched.tv_nsec)
  }

  /// Name for a cache entry.
  var key: String {
    SHA256Digest(hashing: Array("\(device)/\(inode)/\(size)/\(modified)/\(changed)".utf8)).hex.prefix(32).description
  }
}

/// Small results kept between runs in `CacheDirectory`, one JSON file each. A cache that cannot be written is not an
/// error: the result is computed again next time.
enum ResultCache {
  /// Where results go instead; for tests, whose results are nobody else's.
  static let root = Mutex<URL?>(nil)

  static func read<Value: Decodable>(_ type: Value.Type, folder: String, key: String) -> Value? {
    guard let url = location(folder: folder, key: key), let data = try? Data(contentsOf: url) else { return nil }
    return try? JSONDecoder().decode(type, from: data)
  }

  static func write(_ value: some Encodable, folder: String, key: String) {
    guard let url = location(folder: folder, key: key), let data = try? JSONEncoder().encode(value) else { return }
    try? FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try? data.write(to: url, options: .atomic)
  }

  private static func location(folder: String, key: String) -> URL? {
    let root = root.withLock { $0 } ?? (try? CacheDirectory.url())
    return root?.appendingPathComponent(folder).appendingPathComponent(key + ".json")
  }
}
