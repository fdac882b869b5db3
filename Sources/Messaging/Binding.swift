internal import CZeroMQ
internal import Core

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Binding a socket, with sentences for what can go wrong.
enum Binding {
  /// What a socket is bound to.
  struct Bound {
    /// Wildcard port resolved.
    let endpoint: String
    /// The socket file, if it is one, and which file that is.
    fileprivate var file: (path: String, device: dev_t, inode: ino_t)?

    /// Removes the socket file, which ZeroMQ leaves behind; before the socket closes, while nobody else can bind it.
    func removeFile() {
      var status = stat()
      guard let file, lstat(file.path, &status) == 0, status.st_dev == file.device, status.st_ino == file.inode else {
        return
      }
      _ = unlink(file.path)
    }
  }

  /// - Throws: `.unavailable` if the endpoint is in use, `.badInput` if it cannot be bound on this machine.
  static func bind(_ socket: Socket, to endpoint: Endpoint) throws -> Bound {
    if case .ipc(let path) = endpoint.transport { try clearStaleFile(path, endpoint) }
    try socket.set(ZMQ_IPV6, Int32(endpoint.needsIPv6 ? 1 : 0))
    guard zmq_bind(socket.handle, endpoint.bindText) == 0 else { throw failure(zmq_errno(), endpoint) }
    var bound = Bound(endpoint: socket.lastEndpoint)
    if case .ipc(let path) = endpoint.transport {
      // The socket file is all that keeps other users of this machine out.
      _ = chmod(path, 0o600)
      var status = stat()
      if lstat(path, &status) == 0 { bound.file = (path, status.st_dev, status.st_ino) }
    }
    return bound
  }

  private static func failure(_ code: Int32, _ endpoint: Endpoint) -> FusionRouteError {
    let text = endpoint.text
    switch code {
    case EADDRINUSE:
      return .unavailable("the endpoint \"\(text)\" is already in use: stop what listens there or choose another port")
    case EADDRNOTAVAIL, ENODEV:
      return .badInput("cannot listen on \"\(text)\": this machine has no such address or network interface")
    case EACCES:
      return .badInput("cannot listen on \"\(text)\": permission denied; choose a port above 1023 or another path")
    case ENOENT, ENOTDIR:
      return .badInput("cannot listen on \"\(text)\": its directory does not exist")
    default:
      return .badInput("cannot listen on \"\(text)\": \(SocketError.text(code))")
    }
  }

  /// ZeroMQ removes whatever lies at the path before it binds, a running server's socket or a file of the user's alike:
  /// so look first.
  private static func clearStaleFile(_ path: String, _ endpoint: Endpoint) throws {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw FusionRouteError.badInput(
        "cannot listen on \"\(endpoint.text)\": \(path) exists and is not a socket; choose another path")
    }
    if answers(path) { throw failure(EADDRINUSE, endpoint) }
  }

  /// Whether a process listens on the socket file.
  private static func answers(_ path: String) -> Bool {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(Endpoint.longestPath)) }
    #if canImport(Glibc)
      let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let descriptor = socket(AF_UNIX, SOCK_STREAM, 0)
    #endif
    guard descriptor >= 0 else { return false }
    defer { closeDescriptor(descriptor) }
    // Without waiting: a server whose queue of connections is full is a server all the same.
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    return status == 0 || (errno != ECONNREFUSED && errno != ENOENT)
  }

  private static func closeDescriptor(_ descriptor: Int32) { _ = close(descriptor) }
}
