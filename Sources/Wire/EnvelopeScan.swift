/// A look at the top level of an Envelope without unpacking it: enough to know version and kind, so that the caps of
/// that kind hold before any memory is spent.
struct EnvelopeScan {
  var protocolVersion: UInt32
  /// nil: no body that this version knows.
  var kind: MessageKind?

  /// Unknown fields a newer version may have added beside the body.
  private static let maximumFields = 16

  /// Throws unless the bytes are a sequence of whole fields with exactly one version and at most one body.
  init(_ bytes: UnsafeRawBufferPointer) throws(WireError) {
    var reader = Reader(bytes: bytes)
    var version: UInt32?
    kind = nil
    var fields = 0
    while !reader.isAtEnd {
      fields += 1
      guard fields <= Self.maximumFields, let tag = reader.varint(), let field = UInt32(exactly: tag >> 3), field > 0
      else { throw Self.malformed }
      let wireType = tag & 7
      if field == 1 {
        guard wireType == 0, version == nil, let value = reader.varint(), let small = UInt32(exactly: value) else {
          throw Self.malformed
        }
        version = small
      } else if let body = MessageKind(rawValue: field) {
        guard wireType == 2, kind == nil, reader.skip(wireType) else { throw Self.malformed }
        kind = body
      } else {
        guard reader.skip(wireType) else { throw Self.malformed }
      }
    }
    guard let version else { throw Self.malformed }
    protocolVersion = version
  }

  static let malformed = WireError(.malformed, "The message is not a FusionRoute envelope.")

  private struct Reader {
    let bytes: UnsafeRawBufferPointer
    var index = 0

    var isAtEnd: Bool { index >= bytes.count }

    mutating func varint() -> UInt64? {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while index < bytes.count, shift < 64 {
        let byte = UInt64(bytes[index])
        index += 1
        // The tenth byte has room for one bit.
        guard shift < 63 || byte <= 1 else { return nil }
        value |= (byte & 0x7F) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
      return nil
    }

    mutating func skip(_ wireType: UInt64) -> Bool {
      let length: Int
      switch wireType {
      case 0: return varint() != nil
      case 1: length = 8
      case 2:
        guard let value = varint(), let size = Int(exactly: value) else { return false }
        length = size
      case 5: length = 4
      default: return false
      }
      guard length <= bytes.count - index else { return false }
      index += length
      return true
    }
  }
}
