#if os(Linux)
  import Foundation
  import Glibc

  /// A disk of some bytes of its own, gone at the end.
  final class SmallDisk: Sendable {
    let path: String

    init?(bytes: Int) {
      path = FileManager.default.temporaryDirectory.appendingPathComponent("disk-\(UInt32.random(in: 0...(.max)))").path
      guard mkdir(path, 0o700) == 0 else { return nil }
      guard mount("tmpfs", path, "tmpfs", 0, "size=\(bytes)") == 0 else {
        rmdir(path)
        return nil
      }
    }

    deinit {
      umount2(path, CInt(MNT_DETACH))
      rmdir(path)
    }

    func grow(to bytes: Int) -> Bool { mount("tmpfs", path, "tmpfs", UInt(MS_REMOUNT), "size=\(bytes)") == 0 }

    func names(_ folder: String) -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: "\(path)/\(folder)")) ?? []).sorted()
    }

    static var isPossible: Bool { SmallDisk(bytes: 1 << 16) != nil }
  }
#endif
