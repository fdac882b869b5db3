import Core
import Testing

@testable import FuzzSupport
@testable import Wire

@Suite struct ArenaTests {
  @Test func quota() {
    Arena.with(quota: 100) { arena in
      #expect(arena.allocate(101) == nil)
      #expect(arena.allocate(-1) == nil)
      #expect(arena.allocate(60) != nil)
      // 60 bytes take 64.
      #expect(arena.allocate(37) == nil)
      #expect(arena.allocate(36) != nil)
      #expect(arena.allocate(1) == nil)
      #expect(arena.allocate(0) != nil)
    }
  }

  /// Blocks are distinct, aligned and writable, whatever their sizes.
  @Test func blocks() {
    var generator = SplitMix64(seed: 3)
    Arena.with(quota: .max) { arena in
      var blocks: [(start: UnsafeMutableRawPointer, size: Int, mark: UInt8)] = []
      for i in 0..<500 {
        let size = Int.random(in: 0...(i % 50 == 0 ? 100_000 : 300), using: &generator)
        guard let start = arena.allocate(size) else {
          Issue.record("no memory")
          return
        }
        #expect(UInt(bitPattern: start) % 16 == 0)
        start.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: i), count: size)
        blocks.append((start, size, UInt8(truncatingIfNeeded: i)))
      }
      for block in blocks {
        #expect(UnsafeRawBufferPointer(start: block.start, count: block.size).allSatisfy { $0 == block.mark })
      }
    }
  }

  /// protobuf-c stops where the quota ends, at whichever of its allocations that is.
  @Test func unpackingWithinQuota() throws {
    var samples = Samples(seed: 11)
    for kind in MessageKind.allCases {
      let header = WireCodec.encode(samples.message(kind))[0]
      var needed: Int?
      for quota in stride(from: 0, through: 40_000, by: 48) {
        let fits = Arena.with(quota: quota) { arena in header.withUnsafeBytes { arena.unpack($0) != nil } }
        if fits, needed == nil { needed = quota }
        #expect(fits == (needed != nil))
      }
      // Even the smallest message takes an envelope and a body.
      #expect(try #require(needed) >= 48)
    }
  }
}
