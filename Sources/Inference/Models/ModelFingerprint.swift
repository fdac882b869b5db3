public import Core
internal import Foundation

/// Identity of an expert: its model file, its adapters and the settings that change its numbers.
public enum ModelFingerprint {
  private static let chunkBytes = 4 << 20

  /// SHA-256 over the SHA-256 of each whole file, the adapters' scales and `settings`.
  ///
  /// The digest of a file is cached by device, inode, size and time of last change, so a second start reads nothing.
  /// - Throws: `badInput` if a file cannot be read.
  public static func compute(
    model path: String, adapters: [AdapterFile], settings: [String: String]
  ) throws -> SHA256Digest {
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/model/1")
    hasher.update(try digest(ofFile: path, what: "model file").bytes)
    hasher.update(littleEndian: UInt32(adapters.count))
    for adapter in adapters {
      hasher.update(try digest(ofFile: adapter.path, what: "adapter file").bytes)
      hasher.update(littleEndian: adapter.scale.bitPattern)
    }
    for (key, value) in settings.sorted(by: { $0.key < $1.key }) {
      hasher.update(field: key)
      hasher.update(field: value)
    }
    return hasher.finalize()
  }

  /// SHA-256 of a whole file, cached.
  public static func digest(ofFile path: String, what: String) throws -> SHA256Digest {
    let before = try FileIdentity(path: path, what: what)
    if let cached = ResultCache.read([UInt8].self, folder: "fingerprints", key: before.key),
      let digest = SHA256Digest(cached)
    {
      return digest
    }
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw FusionRouteError.badInput("the \(what) \(path) cannot be read; check its permissions")
    }
    defer { try? file.close() }
    var hasher = SHA256Hasher()
    do {
      while let data = try file.read(upToCount: chunkBytes), !data.isEmpty {
        data.withUnsafeBytes { hasher.update($0) }
      }
    } catch {
      throw FusionRouteError.badInput("the \(what) \(path) cannot be read to its end", cause: error)
    }
    let digest = hasher.finalize()
    guard try FileIdentity(path: path, what: what) == before else {
      throw FusionRouteError.badInput("the \(what) \(path) changed while it was read; try again when it is complete")
    }
    ResultCache.write(digest.bytes, folder: "fingerprints", key: before.key)
    return digest
  }
}
