internal import Core
internal import Foundation

/// Finds out early whether an address can be listened on: models take long to load.
enum PortProbe {
  /// Throws `unavailable` if it cannot. What the system's name service does not know is left to the listener.
  static func check(host: String, port: Int) throws {
    guard port != 0 else { return }
    var hints = addrinfo()
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    #if canImport(Darwin)
      hints.ai_socktype = SOCK_STREAM
    #else
      hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    #endif
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, "\(port)", &hints, &found) == 0, let address = found?.pointee else { return }
    defer { freeaddrinfo(found) }
    let descriptor = socket(address.ai_family, address.ai_socktype, address.ai_protocol)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var yes: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    // Listening too: two sockets may bind with SO_REUSEADDR while neither listens.
    guard bind(descriptor, address.ai_addr, address.ai_addrlen) != 0 || listen(descriptor, 1) != 0 else { return }
    let reason = String(cString: strerror(errno))
    let hint = errno == EADDRINUSE ? "; is another program using the port?" : ""
    throw FusionRouteError.unavailable("the HTTP service cannot listen on \(host):\(port): \(reason)\(hint)")
  }
}
