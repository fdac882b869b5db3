// `@testable` exists in debug builds only.
#if DEBUG
  import Core

  /// Small damage of all kinds.
  struct Mutator {
    var generator: SplitMix64

    mutating func mutate(_ frames: [[UInt8]]) -> [[UInt8]] {
      var frames = frames
      for _ in 0..<Int.random(in: 1...3, using: &generator) { frames = mutateOnce(frames) }
      return frames
    }

    private mutating func index(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

    private mutating func byte() -> UInt8 {
      [0, 1, 0x7F, 0x80, 0xFF, UInt8(truncatingIfNeeded: generator.next())].randomElement(using: &generator) ?? 0
    }

    private mutating func mutateOnce(_ original: [[UInt8]]) -> [[UInt8]] {
      var frames = original
      guard !frames.isEmpty else { return [[byte()]] }
      let f = index(frames.count)
      guard !frames[f].isEmpty else { return frames + [[byte()]] }
      let i = index(frames[f].count)
      switch index(12) {
      case 0, 1, 2: frames[f][i] ^= 1 << UInt8(index(8))
      case 3, 4: frames[f][i] = byte()
      case 5: frames[f].removeSubrange(i...)
      case 6: frames[f].insert(byte(), at: i)
      case 7: frames[f].remove(at: i)
      case 8:
        // A piece again: repeated and merged fields.
        frames[f] += frames[f][i..<min(frames[f].count, i + 1 + index(20))]
      case 9: frames.append(frames[f])
      case 10: frames.remove(at: f)
      default:
        // Floats that must not be: NaN, ±inf in the payload.
        let bits: [UInt8] = [[0, 0, 0xC0, 0x7F], [0, 0, 0x80, 0x7F], [0, 0, 0x80, 0xFF]][index(3)]
        let start = i & ~3
        if start + 4 <= frames[f].count { frames[f].replaceSubrange(start..<start + 4, with: bits) }
      }
      return frames
    }
  }
#endif
