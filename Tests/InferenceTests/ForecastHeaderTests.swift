import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

/// Headers whose numbers are damaged, or were made to overflow.
@Suite struct ForecastHeaderTests {
  private func header(_ numbers: [String: GGUFValue]) throws -> String {
    let path = TestModels.directory.appendingPathComponent("\(UUID().uuidString)-header.gguf").path
    var writer = GGUFWriter()
    try writer.set("general.architecture", .string("llama"))
    for (key, value) in numbers { try writer.set("llama.\(key)", value) }
    try writer.add(tensor: "token_embd.weight", dimensions: [32], content: .floats(.init(repeating: 0, count: 32)))
    try writer.write(to: path)
    return path
  }

  private static let wide: [String: GGUFValue] = [
    "block_count": .uint32(0x8000_0000), "attention.head_count_kv": .uint32(2),
    "attention.key_length": .uint32(0x8000_0000), "attention.value_length": .uint32(0x7FFF_FFFF),
  ]
  /// 2³² KV heads of 2³² elements: a product that wraps to nothing.
  private static let wrapping = wide.merging(["attention.value_length": .uint32(0x8000_0000)]) { $1 }
  private static let heads: [String: GGUFValue] = [
    "block_count": .uint32(1), "attention.head_count": .uint32(.max), "attention.head_count_kv": .uint32(1),
    "embedding_length": .uint32(64),
  ]
  private static let all: [String: GGUFValue] = [
    "block_count": .uint64(.max), "attention.head_count": .uint64(.max), "embedding_length": .uint64(.max),
    "feed_forward_length": .uint64(.max), "attention.key_length": .uint64(.max),
    "attention.value_length": .uint64(.max), "attention.head_count_kv": .array(.uint32([1, .max, 7])),
  ]

  @Test(arguments: [wide, wrapping, heads, all])
  func impossibleNumbersAreRefused(numbers: [String: GGUFValue]) throws {
    let path = try header(numbers)
    let configuration = DecoderConfiguration(slots: 1, contextPerSequence: 1 << 17, maximumBatch: 8192)
    for available: UInt64? in [nil, 1 << 30, UInt64.max] {
      let error = #expect(throws: FusionRouteError.self) {
        try MemoryForecast.forecast(path: path, adapters: [], configuration: configuration, available: available)
      }
      #expect(error?.code == .badInput && error?.message.contains(path) == true, "\(String(describing: error))")
    }
    #expect(throws: FusionRouteError.self) {
      try MemoryForecast.forecastElsewhere(path: path, configuration: configuration)
    }
  }

  /// Too much for any machine here, but no nonsense: the numbers are told.
  @Test func largeNumbersAreOnlyTooLarge() throws {
    let path = try header([
      "block_count": .uint32(1000), "attention.head_count": .uint32(1024), "attention.key_length": .uint32(1024),
      "attention.value_length": .uint32(1024), "embedding_length": .uint32(1 << 20),
    ])
    let configuration = DecoderConfiguration(slots: 1, contextPerSequence: 1 << 17)
    let error = #expect(throws: FusionRouteError.self) {
      try MemoryForecast.forecast(path: path, adapters: [], configuration: configuration, available: 1 << 40)
    }
    #expect(error?.code == .unavailable, "\(String(describing: error))")
    let forecast = try MemoryForecast.forecast(
      path: path, adapters: [], configuration: configuration, available: 1 << 52)
    #expect(forecast.kvBytes == UInt64(1 << 17) * 1000 * 1024 * 2048 * 4)
  }
}
