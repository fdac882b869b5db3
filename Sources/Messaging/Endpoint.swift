internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A checked `tcp://HOST:PORT` or `ipc://PATH`.
struct Endpoint: Sendable, Hashable {
  enum Transport: Sendable, Hashable {
    case tcp(host: String, port: String)
    case ipc(path: String)
  }

  let transport: Transport
  let text: String

  /// Longest path of a UNIX socket on this system, without the NUL.
  static let longestPath = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

  /// - Throws: `.badInput` with a sentence that says what is allowed.
  init(parsing text: String) throws {
    self.text = text
    guard !text.utf8.contains(0) else { throw Self.bad(text, "holds a NUL character") }
    if text.hasPrefix("ipc://") {
      let path = String(text.dropFirst("ipc://".count))
      guard !path.isEmpty, path != "*", !path.hasPrefix("@") else {
        throw Self.bad(text, "needs the path of a socket file after ipc://")
      }
      guard path.utf8.count <= Self.longestPath else {
        throw Self.bad(
          text, "has a path of \(path.utf8.count) bytes; this system allows \(Self.longestPath), so use a shorter one")
      }
      transport = .ipc(path: path)
      return
    }
    guard text.hasPrefix("tcp://") else { throw Self.bad(text, "must start with tcp:// or ipc://") }
    let rest = text.dropFirst("tcp://".count)
    guard let colon = rest.lastIndex(of: ":") else { throw Self.bad(text, "lacks a port, as in tcp://127.0.0.1:5570") }
    let host = String(rest[..<colon])
    let port = String(rest[rest.index(after: colon)...])
    guard !host.isEmpty, !host.contains(where: { $0.isWhitespace || $0 == "/" || $0 == ";" || $0 == "@" }) else {
      throw Self.bad(text, "lacks a host name or address")
    }
    let bracketed = host.hasPrefix("[") && host.hasSuffix("]")
    guard bracketed || !host.contains(":") else { throw Self.bad(text, "needs brackets around its IPv6 address") }
    guard port == "*" || (port.utf8.allSatisfy { (48...57).contains($0) } && UInt16(port) != nil) else {
      throw Self.bad(text, "has no valid port: use 1 to 65535, or * for any free one")
    }
    transport = .tcp(host: host, port: port)
  }

  private static func bad(_ text: String, _ why: String) -> FusionRouteError {
    .badInput("the endpoint \"\(text)\" \(why)")
  }

  /// Whether only this machine can reach it. A name counts if every address it stands for is loopback.
  var isLocal: Bool {
    switch transport {
    case .ipc: true
    case .tcp(let host, _): Self.isLoopback(host: host)
    }
  }

  /// Whether ZeroMQ must be told to use IPv6.
  var needsIPv6: Bool {
    guard case .tcp(let host, _) = transport else { return false }
    if host.hasPrefix("[") { return true }
    if host == "*" { return false }
    let addresses = Self.addresses(of: host)
    return !addresses.isEmpty && addresses.allSatisfy { $0.contains(":") }
  }

  /// What to bind: ZeroMQ resolves no names when it binds, only addresses and interfaces.
  var bindText: String {
    guard case .tcp(let host, let port) = transport, host != "*", !host.hasPrefix("[") else { return text }
    guard let address = Self.addresses(of: host).sorted(by: { !$0.contains(":") && $1.contains(":") }).first else {
      return text
    }
    return address.contains(":") ? "tcp://[\(address)]:\(port)" : "tcp://\(address):\(port)"
  }

  /// - Throws: `.badInput` if others than this machine can reach it and there is no security.
  func requireSecurity(_ isSecured: Bool) throws {
    guard !isLocal, !isSecured else { return }
    throw FusionRouteError.badInput(
      "the endpoint \"\(text)\" can be reached from other machines but no keys are set: make some with `fusionroute keys` "
        + "and name their directory under security.keys, or use a loopback or ipc:// endpoint")
  }

  private static func isLoopback(host: String) -> Bool {
    guard host != "*" else { return false }
    let bare = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    let addresses = addresses(of: bare)
    return !addresses.isEmpty && addresses.allSatisfy { $0.hasPrefix("127.") || $0 == "::1" }
  }

  /// Numeric addresses of a host name or address; none if it cannot be resolved.
  private static func addresses(of host: String) -> [String] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    #if canImport(Glibc)
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #else
      hints.ai_socktype = SOCK_STREAM
    #endif
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var found: [String] = []
    var next = list
    while let entry = next {
      var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      let status = getnameinfo(
        entry.pointee.ai_addr, entry.pointee.ai_addrlen, &name, socklen_t(name.count), nil, 0, NI_NUMERICHOST)
      if status == 0 {
        found.append(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
      }
      next = entry.pointee.ai_next
    }
    return found
  }
}
