import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

/// Files as PyTorch writes them, and damaged ones.
@Suite struct SafetensorsTests {
  private static func file(header: String, data: [UInt8], length: UInt64? = nil) throws -> (Scratch, String) {
    let scratch = try Scratch()
    let text = Array(header.utf8)
    var bytes = withUnsafeBytes(of: (length ?? UInt64(text.count)).littleEndian) { Array($0) }
    bytes += text + data
    let path = scratch.path("head.safetensors")
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return (scratch, path)
  }

  private static func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

  @Test func types() throws {
    let header = """
      {"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},\
      "b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},"c":{"dtype":"F16","shape":[5],"data_offsets":[22,32]},\
      "d":{"dtype":"F64","shape":[1],"data_offsets":[32,40]},"e":{"dtype":"I64","shape":[1],"data_offsets":[32,40]}}
      """
    let halves: [UInt16] = [0x3C00, 0xC100, 0x0001, 0x7BFF, 0x0400]
    let data =
      Self.bytes([1, -2, 0.5, 3] as [Float]) + Self.bytes([0x3F80, 0xC040, 0x0000] as [UInt16]) + Self.bytes(halves)
      + Self.bytes([-1.25] as [Double])
    let (scratch, path) = try Self.file(header: header, data: data)
    defer { withExtendedLifetime(scratch) {} }
    let file = try SafetensorsFile.read(path)
    func values(_ name: String) throws -> [Float] { try file.floats(of: try #require(file.tensor(named: name))) }
    #expect(try values("a") == [1, -2, 0.5, 3])
    #expect(file.tensor(named: "a")?.shape == [2, 2])
    #expect(try values("b") == [1, -3, 0])
    #expect(try values("c") == [1, -2.5, 0x1p-24, 65504, 0x1p-14])
    #expect(try values("d") == [-1.25])
    #expect(try failure { _ = try values("e") }.message.contains("I64"))
    #expect(file.tensor(named: "__metadata__") == nil)
  }

  @Test(arguments: [
    ("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}", nil),
    ("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", nil),
    ("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", nil),
    ("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,8],\"data_offsets\":[0,8]}}", nil),
    ("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", nil), ("[1,2]", nil), ("{", nil), ("{}", UInt64.max),
    ("{}", UInt64(1_000)),
  ])
  func damage(_ header: String, _ length: UInt64?) throws {
    let (scratch, path) = try Self.file(header: header, data: [0, 0, 0, 0, 0, 0, 0, 0], length: length)
    defer { withExtendedLifetime(scratch) {} }
    #expect(try failure { _ = try SafetensorsFile.read(path) }.code == .badInput)
  }

  @Test func sizesThatDoNotFit() throws {
    let (scratch, path) = try Self.file(
      header: "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", data: [0, 0, 0, 0, 0, 0, 0, 0])
    defer { withExtendedLifetime(scratch) {} }
    let file = try SafetensorsFile.read(path)
    #expect(try failure { _ = try file.floats(of: file.tensors[0]) }.code == .badInput)
  }
}
