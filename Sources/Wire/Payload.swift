#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// 32-bit numbers as little-endian frames and back.
enum Payload {
  /// One frame of the given arrays, one after the other.
  static func frame<T: FourBytes>(_ first: [T], _ second: [T] = []) -> [UInt8] {
    let count = 4 * (first.count + second.count)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      write(first, to: UnsafeMutableRawBufferPointer(buffer), at: 0)
      write(second, to: UnsafeMutableRawBufferPointer(buffer), at: 4 * first.count)
      initialized = count
    }
  }

  /// The `count` numbers at element `first` of a frame; the caller has checked the frame's size.
  static func numbers<T: FourBytes>(_ frame: [UInt8], from first: Int = 0, count: Int) -> [T] {
    guard count > 0 else { return [] }
    return [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      frame.withUnsafeBytes { bytes in
        let source = UnsafeRawBufferPointer(rebasing: bytes[4 * first..<4 * (first + count)])
        UnsafeMutableRawBufferPointer(buffer).copyMemory(from: source)
      }
      #if _endian(big)
        for i in 0..<count { buffer[i] = buffer[i].byteSwapped }
      #endif
      initialized = count
    }
  }

  private static func write<T: FourBytes>(_ values: [T], to bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
    guard !values.isEmpty else { return }
    #if _endian(big)
      let values = values.map(\.byteSwapped)
    #endif
    values.withUnsafeBytes { source in
      UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + source.count]).copyMemory(from: source)
    }
  }
}

/// A trivial type of four bytes.
protocol FourBytes: BitwiseCopyable {
  var byteSwapped: Self { get }
}

extension Int32: FourBytes {}
extension Float: FourBytes {
  var byteSwapped: Float { Float(bitPattern: bitPattern.byteSwapped) }
}
