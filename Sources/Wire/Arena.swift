internal import CWire

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Bump memory for one message: what the C structs of a message live in while it is packed or unpacked.
///
/// As the allocator of protobuf-c it refuses once the quota is spent, which ends the unpacking; nothing is freed one by
/// one, all goes at the end.
struct Arena {
  private static let alignment = 16
  private static let firstBlock = 4_096

  private var blocks: [UnsafeMutableRawPointer] = []
  private var cursor: UnsafeMutableRawPointer?
  private var left = 0
  private var nextBlock: Int
  private var quota: Int

  /// Runs `body` with an arena of at most `quota` bytes, then gives all of it back.
  static func with<R, E: Error>(quota: Int, _ body: (inout Arena) throws(E) -> R) throws(E) -> R {
    var arena = Arena(quota: quota)
    defer { arena.deallocate() }
    return try body(&arena)
  }

  private init(quota: Int) {
    self.quota = quota
    nextBlock = Self.firstBlock
  }

  private func deallocate() {
    for block in blocks { free(block) }
  }

  /// `size` bytes, 16-aligned, uninitialised; nil once the quota or memory is spent.
  mutating func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
    guard size >= 0, size <= quota else { return nil }
    let rounded = (size + Self.alignment - 1) & ~(Self.alignment - 1)
    if rounded > left || cursor == nil {
      let blockSize = max(rounded, nextBlock)
      guard let block = malloc(blockSize) else { return nil }
      blocks.append(block)
      nextBlock = min(2 * nextBlock, 1 << 20)
      cursor = block
      left = blockSize
    }
    quota -= min(quota, rounded)
    left -= rounded
    let result = cursor
    cursor = cursor.map { $0 + rounded }
    return result
  }

  /// Unpacks an envelope whose memory is this arena's; nil if it is malformed or the quota does not suffice.
  mutating func unpack(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<Fusionroute__V1__Envelope>? {
    withUnsafeMutablePointer(to: &self) { arena in
      var allocator = ProtobufCAllocator(
        alloc: { data, size in
          guard let data, let size = Int(exactly: size) else { return nil }
          return data.assumingMemoryBound(to: Arena.self).pointee.allocate(size)
        },
        free: { _, _ in },
        allocator_data: UnsafeMutableRawPointer(arena))
      return fusionroute__v1__envelope__unpack(
        &allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
  }
}
