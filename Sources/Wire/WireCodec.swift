internal import CWire

/// Messages to frames and back. Frame 0 is the protobuf envelope, the others are little-endian arrays.
public enum WireCodec {
  /// The version this side prefers.
  public static let currentProtocol: UInt32 = 1
  /// The oldest version this side still serves: the one before the current, once there is one.
  public static let oldestProtocol: UInt32 = 1
  public static var servedProtocols: ClosedRange<UInt32> { oldestProtocol...currentProtocol }

  /// The newest version both sides serve; nil if there is none.
  public static func negotiate(
    _ peer: ClosedRange<UInt32>, served: ClosedRange<UInt32> = WireCodec.servedProtocols
  ) -> UInt32? {
    let version = min(peer.upperBound, served.upperBound)
    return version >= max(peer.lowerBound, served.lowerBound) ? version : nil
  }

  /// The frames of a message. Total: a value that breaks a limit is encoded all the same and refused by its receiver;
  /// sentences are cut to their limit and freed of control characters.
  public static func encode(_ message: WireMessage, protocol version: UInt32 = currentProtocol) -> [[UInt8]] {
    let header = Packer.pack(message, version: version)
    switch message {
    case .stepReply(let reply):
      var frames = [[UInt8]]()
      frames.reserveCapacity(1 + reply.rows.count)
      frames.append(header)
      for row in reply.rows where row.hasFrame { frames.append(Payload.frame(row.topLogits, row.namedLogits)) }
      return frames
    case .rowChunk(let chunk):
      return [header, Payload.frame(chunk.values)]
    case .scoreReply(let reply):
      let scores = [header, Payload.frame(reply.logProbabilities), Payload.frame(reply.argmaxes)]
      guard reply.topK > 0 else { return scores }
      return scores + [
        Payload.frame(reply.topIDs), Payload.frame(reply.topLogits), Payload.frame(reply.logSumExps),
      ]
    default:
      return [header]
    }
  }

  /// The message in `frames`, every field checked.
  ///
  /// - Parameters:
  ///   - sender: which side the frames came from; a message only the other side may send is refused.
  ///   - served: versions to accept. Handshake messages are read in any version; a Register that shares none with
  ///     `served` is refused with the peer's versions in the error, so that it can be told.
  /// - Throws: `WireError`.
  public static func decode(
    _ frames: [[UInt8]], limits: WireLimits = WireLimits(), from sender: WireSender,
    served: ClosedRange<UInt32> = WireCodec.servedProtocols
  ) throws(WireError) -> WireMessage {
    guard let header = frames.first, !header.isEmpty else { throw WireError(.malformed, "The message is empty.") }
    let largest = max(limits.tokenHeaderBytes, limits.pageHeaderBytes, limits.headerBytes)
    guard header.count <= largest else {
      throw WireError(.tooLarge, "The message's header has \(header.count) bytes, over the limit of \(largest).")
    }
    let scan = try header.readingBytes { (bytes) throws(WireError) in try EnvelopeScan(bytes) }
    let foreign = WireError(
      .protocolVersion,
      "The peer speaks protocol version \(scan.protocolVersion); this side serves \(describe(served)).",
      peerProtocols: scan.protocolVersion...scan.protocolVersion)
    let isServed = served.contains(scan.protocolVersion)
    guard let kind = scan.kind else {
      throw isServed ? WireError(.unknownMessage, "The envelope holds no message that this version knows.") : foreign
    }
    guard isServed || kind.isHandshake else { throw foreign }
    guard kind.maySend(sender) else {
      throw WireError(.direction, "A \(sender.rawValue) may not send \(kind.name).")
    }
    do throws(WireError) {
      try checkSizes(frames, kind: kind, limits: limits)
      let message = try unpack(header, payload: frames.dropFirst(), kind: kind, limits: limits)
      try message.check(limits)
      if case .register(let register) = message, negotiate(register.protocols, served: served) == nil {
        throw WireError(
          .protocolVersion,
          "The worker speaks protocol versions \(describe(register.protocols)); this side serves \(describe(served)).",
          peerProtocols: register.protocols)
      }
      if case .registered(let registered) = message, !served.contains(registered.protocolVersion) {
        throw WireError(
          .protocolVersion,
          "The coordinator chose protocol version \(registered.protocolVersion); this side serves \(describe(served)).",
          peerProtocols: registered.protocolVersion...registered.protocolVersion)
      }
      return message
    } catch {
      // A message of a version that is not served may well look broken: the version is the better reason.
      throw isServed || error.code == .protocolVersion ? error : foreign
    }
  }

  /// Whether these frames claim to be a registration, of any version, and are small enough for one. Reads no further than
  /// it must: for messages from peers that nobody knows yet.
  public static func isRegistration(_ frames: [[UInt8]], limits: WireLimits = WireLimits()) -> Bool {
    guard frames.count == 1, frames[0].count <= limits.headerCap(.register) else { return false }
    return (try? frames[0].readingBytes { (bytes) throws(WireError) in try EnvelopeScan(bytes) })?.kind == .register
  }

  private static func describe(_ versions: ClosedRange<UInt32>) -> String {
    versions.count == 1 ? "\(versions.lowerBound)" : "\(versions.lowerBound) to \(versions.upperBound)"
  }

  private static func checkSizes(_ frames: [[UInt8]], kind: MessageKind, limits: WireLimits) throws(WireError) {
    let headerCap = limits.headerCap(kind)
    guard frames[0].count <= headerCap else {
      throw WireError(
        .tooLarge, "The header of \(kind.name) has \(frames[0].count) bytes, over the limit of \(headerCap).")
    }
    let cap = limits.payloadCap(kind)
    guard frames.count - 1 <= cap.frames else {
      throw WireError(
        .payload, "\(kind.name) came with \(frames.count - 1) payload frames; at most \(cap.frames) are allowed.")
    }
    let bytes = frames.dropFirst().reduce(0) { $0 + $1.count }
    guard bytes <= cap.bytes else {
      throw WireError(.tooLarge, "The payload of \(kind.name) has \(bytes) bytes, over the limit of \(cap.bytes).")
    }
  }

  private static func unpack(
    _ header: [UInt8], payload: ArraySlice<[UInt8]>, kind: MessageKind, limits: WireLimits
  ) throws(WireError) -> WireMessage {
    let quota = limits.memoryQuota(kind, bytes: header.count)
    return try Arena.with(quota: quota) { (arena) throws(WireError) -> WireMessage in
      let envelope = header.withUnsafeBytes { arena.unpack($0) }
      guard let envelope, envelope.pointee.body_case.rawValue == kind.rawValue else {
        throw WireError(.malformed, "\(kind.name) is malformed or larger in memory than its size allows.")
      }
      var payload = PayloadReader(frames: payload, kind: kind)
      let message = try Lifter(kind: kind, limits: limits).lift(envelope.pointee, &payload)
      try payload.finish()
      return message
    }
  }
}

extension Array where Element == UInt8 {
  /// `withUnsafeBytes` with a typed error.
  func readingBytes<R>(_ body: (UnsafeRawBufferPointer) throws(WireError) -> R) throws(WireError) -> R {
    let result: Result<R, WireError> = withUnsafeBytes { bytes in
      do throws(WireError) { return .success(try body(bytes)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}

/// Hands out the payload frames in order; each must have exactly the size that the header determines.
struct PayloadReader {
  private var frames: ArraySlice<[UInt8]>
  private let kind: MessageKind

  init(frames: ArraySlice<[UInt8]>, kind: MessageKind) {
    self.frames = frames
    self.kind = kind
  }

  /// The next frame, which must hold `count` numbers of four bytes.
  mutating func next(count: Int) throws(WireError) -> [UInt8] {
    guard let frame = frames.popFirst() else {
      throw WireError(.payload, "\(kind.name) came with fewer payload frames than its header says.")
    }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 4)
    guard !overflow, frame.count == bytes else {
      throw WireError(
        .payload, "A payload frame of \(kind.name) has \(frame.count) bytes where its header says \(count) numbers.")
    }
    return frame
  }

  mutating func numbers<T: FourBytes>(_ count: Int) throws(WireError) -> [T] {
    Payload.numbers(try next(count: count), count: count)
  }

  func finish() throws(WireError) {
    guard frames.isEmpty else {
      throw WireError(.payload, "\(kind.name) came with more payload frames than its header says.")
    }
  }
}
