internal import Foundation

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// What the system says of this process.
struct ProcessStatistics: Sendable {
  var cpuSeconds: Double
  var residentBytes: Int
  var openDescriptors: Int
  var descriptorLimit: Int

  /// nil where the system does not tell.
  static func current() -> ProcessStatistics? {
    var usage = rusage()
    #if canImport(Darwin)
      let who = RUSAGE_SELF
    #else
      let who = Int32(RUSAGE_SELF.rawValue)
    #endif
    guard getrusage(who, &usage) == 0,
      let descriptors = try? FileManager.default.contentsOfDirectory(atPath: "/dev/fd")
    else {
      return nil
    }
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    #if os(Linux)
      guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
        let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
      else { return nil }
      let resident = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    #else
      // The largest so far, which is what is cheaply told here.
      let resident = Int(usage.ru_maxrss)
    #endif
    return ProcessStatistics(
      cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime), residentBytes: resident,
      // One is the reading itself.
      openDescriptors: max(0, descriptors.count - 1), descriptorLimit: DescriptorLimit.current)
  }
}
