internal import Core
internal import Hummingbird
internal import NIOCore

/// What is known of a request beside itself.
struct GatewayContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let channel: any Channel
  let arrival = ContinuousClock.now
  /// Set by ``ObserveMiddleware``, the outermost.
  var trace = TraceContext(requestID: "", traceID: "", parentID: "", isSampled: false)
  /// The name of the API key that the request came with.
  var keyName: String?

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
  }

  var requestID: String { trace.requestID }

  /// Whom a request counts for where clients take turns.
  func client(user: String?) -> String { clientNaming(user) }

  /// The same, without the rest of the context.
  var clientNaming: @Sendable (_ user: String?) -> String {
    let (keyName, address) = (keyName, channel.remoteAddress?.ipAddress ?? "")
    return { user in
      if let keyName { return "key:\(keyName)" }
      if let user { return "user:\(user)" }
      return "peer:\(address)"
    }
  }

  /// Tells when the client has gone.
  ///
  /// - Throws: ``GatewayError/clientGone`` if it has already: a closed connection has no handlers any more.
  func monitor() async throws -> ConnectionMonitor {
    do { return try await channel.pipeline.handler(type: ConnectionHandler.self).map(\.monitor).get() } catch {
      throw GatewayError.clientGone
    }
  }
}

extension TraceContext {
  /// From the headers of a request; what they lack or have wrong is made.
  ///
  /// - Parameters:
  ///   - traceparent: W3C, `00-TRACE-PARENT-FLAGS`.
  ///   - requestID: taken if it is short and plain.
  init(traceparent: String?, requestID: String?) {
    let id = requestID.flatMap { Self.isPlain($0) ? $0 : nil } ?? "req-\(Self.hexadecimal(bytes: 12))"
    let fields = (traceparent ?? "").split(separator: "-", omittingEmptySubsequences: false)
    // A later version may have more fields; ff is none.
    if fields.count == 4 || fields.count > 4 && fields[0] != "00", fields[0] != "ff",
      zip(fields, [2, 32, 16, 2]).allSatisfy({ Self.isHexadecimal($0, count: $1) }),
      fields[1].contains(where: { $0 != "0" }), fields[2].contains(where: { $0 != "0" }),
      let flags = UInt8(fields[3], radix: 16)
    {
      self.init(
        requestID: id, traceID: String(fields[1]), parentID: String(fields[2]), isSampled: flags & 1 == 1)
    } else {
      self.init(
        requestID: id, traceID: Self.hexadecimal(bytes: 16), parentID: Self.hexadecimal(bytes: 8), isSampled: true)
    }
  }

  private static func isPlain(_ id: String) -> Bool {
    (1...GatewayLimits.requestIDLength).contains(id.utf8.count)
      && id.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
          true
        default: false
        }
      }
  }

  private static func isHexadecimal(_ text: Substring, count: Int) -> Bool {
    text.utf8.count == count
      && text.utf8.allSatisfy {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
      }
  }

  /// Random, and not all zero.
  private static func hexadecimal(bytes: Int) -> String {
    let text = (0..<bytes).map { _ in UInt8.random(in: 0...255) }
    let digits = text.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    return digits.contains { $0 != "0" } ? digits : hexadecimal(bytes: bytes)
  }
}
