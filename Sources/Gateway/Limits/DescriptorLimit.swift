#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// The number of files and sockets that this process may have open.
enum DescriptorLimit {
  #if canImport(Glibc)
    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
  #else
    private static let resource = RLIMIT_NOFILE
  #endif
  /// What POSIX promises, if the system does not say.
  private static let least = 20

  static var current: Int {
    var limit = rlimit()
    return getrlimit(resource, &limit) == 0 ? Int(clamping: limit.rlim_cur) : least
  }

  /// Raises the limit as far as the system lets us, and returns it.
  static func raise() -> Int {
    var limit = rlimit()
    guard getrlimit(resource, &limit) == 0 else { return least }
    if limit.rlim_cur < limit.rlim_max {
      limit.rlim_cur = limit.rlim_max
      #if canImport(Darwin)
        // Darwin names infinity as the maximum and refuses it.
        limit.rlim_cur = min(limit.rlim_max, rlim_t(OPEN_MAX))
      #endif
      _ = setrlimit(resource, &limit)
    }
    return current
  }

  /// Connections that may be open so that `reserved` descriptors remain for others; at least 1.
  static func connections(wanted: Int, descriptors: Int, reserved: Int) -> Int {
    max(1, min(wanted, descriptors - reserved))
  }
}
