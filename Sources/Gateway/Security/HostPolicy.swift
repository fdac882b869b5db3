/// Names of this machine that only it can reach.
enum LoopbackName {
  /// `localhost`, names under it (RFC 6761), 127.0.0.0/8 and ::1.
  static func matches(_ host: String) -> Bool {
    let name = host.lowercased()
    if name == "localhost" || name.hasSuffix(".localhost") || name == "::1" || name == "[::1]" { return true }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}

/// Which web pages may reach the service through somebody's browser.
///
/// A page of a stranger can send requests to a service on loopback, and by rebinding its own name to 127.0.0.1 can even
/// read the answers. Its requests betray themselves by their `Origin`, after rebinding by their `Host`.
struct HostPolicy: Sendable {
  /// Whether `Host` must be a loopback name or one of `allowedHosts`.
  let checksHost: Bool
  let allowedHosts: Set<String>
  /// `*`: all.
  let allowedOrigins: Set<String>
  let scheme: String

  init(_ configuration: GatewayConfiguration) {
    checksHost = configuration.isLoopback
    allowedHosts = Set(configuration.allowedHosts.map { $0.lowercased() })
    allowedOrigins = Set(configuration.allowedOrigins.map { $0.lowercased() })
    scheme = configuration.certificate == nil ? "http" : "https"
  }

  /// - Parameter authority: the request's `Host`, with its port.
  func admits(authority: String?) -> Bool {
    guard checksHost else { return true }
    // HTTP/1.0 has none; browsers always send it.
    guard let authority else { return true }
    let host = Self.name(of: authority)
    return LoopbackName.matches(host) || allowedHosts.contains(host)
  }

  enum Origin: Equatable {
    /// No browser, or the service's own page.
    case own
    /// A page that may call.
    case allowed(String)
    case refused
  }

  func origin(_ origin: String?, authority: String?) -> Origin {
    guard let origin = origin?.lowercased() else { return .own }
    if let authority, origin == "\(scheme)://\(authority.lowercased())" { return .own }
    return allowedOrigins.contains(origin) || allowedOrigins.contains("*") ? .allowed(origin) : .refused
  }

  /// The host without its port and brackets, in lower case.
  private static func name(of authority: String) -> String {
    let text = authority.lowercased()
    if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
      return String(text[text.index(after: text.startIndex)..<end])
    }
    guard let colon = text.firstIndex(of: ":"), text[text.index(after: colon)...].allSatisfy(\.isNumber) else {
      return text
    }
    return String(text[..<colon])
  }
}
