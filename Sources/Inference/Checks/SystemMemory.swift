internal import Foundation

/// How much memory a new process may take: the one place that knows /proc and cgroups.
enum SystemMemory {
  /// Bytes that can be had without swapping, within the limits of the process's control group; nil if unknown.
  static func available(root: String = "/") -> UInt64? {
    let system = memoryAvailable(root: root)
    let group = controlGroup(root: root)
    guard let system else { return group ?? fallback }
    return min(system, group ?? .max)
  }

  private static var fallback: UInt64? {
    // Without /proc: all of the machine's memory, as an upper bound.
    ProcessInfo.processInfo.physicalMemory
  }

  /// `MemAvailable` of /proc/meminfo, in bytes.
  static func memoryAvailable(root: String) -> UInt64? {
    guard let text = read(root + "proc/meminfo") else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
      let fields = line.split(separator: " ")
      if fields.count >= 2, let kilobytes = UInt64(fields[1]) { return kilobytes * 1024 }
    }
    return nil
  }

  /// Room left under the tightest memory limit on the way from the process's control group to the root (cgroup v2, and
  /// v1 where v2 says nothing).
  static func controlGroup(root: String) -> UInt64? {
    guard let text = read(root + "proc/self/cgroup") else { return nil }
    var room: UInt64?
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let unified = fields[1].isEmpty
      guard unified || fields[1].split(separator: ",").contains("memory") else { continue }
      let base = root + (unified ? "sys/fs/cgroup" : "sys/fs/cgroup/memory")
      let names = unified ? ("memory.max", "memory.current") : ("memory.limit_in_bytes", "memory.usage_in_bytes")
      var path = String(fields[2])
      while true {
        let folder = base + (path == "/" ? "" : path)
        if let found = self.room(folder: folder, limit: names.0, usage: names.1) { room = min(room ?? .max, found) }
        guard path != "/", !path.isEmpty else { break }
        path = (path as NSString).deletingLastPathComponent
      }
    }
    return room
  }

  private static func room(folder: String, limit: String, usage: String) -> UInt64? {
    guard let limit = number(folder + "/" + limit), let usage = number(folder + "/" + usage) else { return nil }
    // Page cache counts as usage but gives way.
    let cache =
      read(folder + "/memory.stat")?.split(separator: "\n")
      .first { $0.hasPrefix("inactive_file ") || $0.hasPrefix("total_inactive_file ") }
      .flatMap { $0.split(separator: " ").last }.flatMap { UInt64($0) } ?? 0
    return limit > usage ? min(limit, limit - usage + min(cache, usage)) : min(cache, limit)
  }

  private static func number(_ path: String) -> UInt64? {
    guard let text = read(path)?.trimmingCharacters(in: .whitespacesAndNewlines), let value = UInt64(text) else {
      return nil
    }
    // cgroup v1 says "no limit" with a huge number, v2 with "max".
    return value > UInt64.max / 4 ? nil : value
  }

  private static func read(_ path: String) -> String? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return String(decoding: data, as: UTF8.self)
  }
}
