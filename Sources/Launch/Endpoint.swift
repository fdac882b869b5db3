/// Where workers and the coordinator meet: `tcp://HOST:PORT` or `ipc://PATH`.
public enum Endpoint: Sendable, Hashable, CustomStringConvertible {
  /// Port 0, written `*`, lets the system choose; host `*` is every interface.
  case tcp(host: String, port: Int)
  case ipc(path: String)

  /// Bytes of a socket path that every supported system takes (`sun_path` has 104 on macOS, 108 on Linux).
  public static let maximumPathBytes = 103

  /// Nil unless the text is a well-formed endpoint.
  public init?(_ text: String) {
    if text.hasPrefix("ipc://") {
      let path = String(text.dropFirst(6))
      guard !path.isEmpty, path.first != "@", !path.utf8.contains(0) else { return nil }
      self = .ipc(path: path)
    } else if text.hasPrefix("tcp://") {
      guard let (host, port) = Self.hostAndPort(text.dropFirst(6)) else { return nil }
      self = .tcp(host: host, port: port)
    } else {
      return nil
    }
  }

  public var description: String {
    switch self {
    case .tcp(let host, let port): "tcp://\(host.contains(":") ? "[\(host)]" : host):\(port == 0 ? "*" : String(port))"
    case .ipc(let path): "ipc://\(path)"
    }
  }

  /// Whether only processes of this machine reach it.
  public var isLocal: Bool {
    switch self {
    case .tcp(let host, _): Self.isLoopback(host: host)
    case .ipc: true
    }
  }

  /// Whether it names every interface, which can be bound but not connected to.
  public var isWildcard: Bool {
    if case .tcp(let host, let port) = self { ["*", "0.0.0.0", "::"].contains(host) || port == 0 } else { false }
  }

  /// 127.0.0.0/8, ::1 and `localhost`.
  public static func isLoopback(host: String) -> Bool {
    if host == "localhost" || host == "::1" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }

  /// `HOST:PORT` with `[…]` around IPv6 addresses.
  public static func hostAndPort(_ text: some StringProtocol) -> (host: String, port: Int)? {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...] == "*" ? "0" : text[text.index(after: colon)...]
    guard digits.allSatisfy({ ("0"..."9").contains($0) }), let port = Int(digits), port <= 65_535 else { return nil }
    var host = String(text[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = String(host.dropFirst().dropLast())
      guard host.contains(":"), host.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." }) else { return nil }
      return (host, port)
    }
    return isHostName(host) ? (host, port) : nil
  }

  /// An IPv6 address without brackets; a zone may follow a `%`.
  static func isNumericIPv6(_ host: String) -> Bool {
    let parts = host.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
    guard let address = parts.first, address.contains(":"),
      address.allSatisfy({ $0.isHexDigit || $0 == ":" || $0 == "." })
    else { return false }
    return parts.count == 1 || (!parts[1].isEmpty && parts[1].utf8.count <= 15 && isHostName(String(parts[1])))
  }

  /// A DNS name, an IPv4 address or `*`.
  static func isHostName(_ host: String) -> Bool {
    host == "*"
      || (!host.isEmpty && host.utf8.count <= 253
        && host.utf8.allSatisfy { byte in
          (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
            || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
        })
  }
}
