internal import CLlama

public struct MemoryForecast: Sendable, Hashable {
  static func kvBytes(information: ModelInformation, tokens: Int, type: KVType, model: Model) -> UInt64 {
    let head = information.embeddingWidth / max(1, information.heads)
    return UInt64(2 * information.layers * information.keyValueHeads * head * tokens * type.bytes)
  }
}
