public import Core

/// What a decoder's numbers depend on. Failover stays within a class: equal classes give equal bits.
public struct NumericsClass: Sendable, Hashable, Codable {
  /// Engine build, CPU features, weight and KV type, settings: for people.
  public let label: String
  /// SHA-256 of the bits of logits on fixed probes.
  public let probeHash: SHA256Digest
  /// Whether the probes' bits were the same alone, chunked, stepped and with a co-tenant.
  public let batchInvariant: Bool

  public init(label: String, probeHash: SHA256Digest, batchInvariant: Bool) {
    self.label = label
    self.probeHash = probeHash
    self.batchInvariant = batchInvariant
  }

  private enum CodingKeys: String, CodingKey { case label, probeHash, batchInvariant }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    guard let hash = SHA256Digest(try values.decode([UInt8].self, forKey: .probeHash)) else {
      throw DecodingError.dataCorruptedError(forKey: .probeHash, in: values, debugDescription: "not 32 bytes")
    }
    self.init(
      label: try values.decode(String.self, forKey: .label), probeHash: hash,
      batchInvariant: try values.decode(Bool.self, forKey: .batchInvariant))
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(label, forKey: .label)
    try values.encode(probeHash.bytes, forKey: .probeHash)
    try values.encode(batchInvariant, forKey: .batchInvariant)
  }
}

extension BatchingDecoder {
  /// Runs the self-test of this model and these settings, or recalls its result from the cache.
  ///
  /// Uses a small context of its own, so requests go on meanwhile. Blocks for up to seconds: not for the cooperative
  /// thread pool.
  public func numericsClass() throws -> NumericsClass {
    let label = NumericsSelfTest.label(model: model, configuration: configuration)
    var key = SHA256Hasher()
    key.update(field: "fusionroute/numerics/\(NumericsSelfTest.version)")
    key.update(field: label)
    let settings = ["extra-buffer-types": "\(model.options.useExtraBufferTypes)"]
    key.update(
      try ModelFingerprint.compute(model: model.path, adapters: model.options.adapters, settings: settings).bytes)
    let name = key.finalize().hex
    if let cached = ResultCache.read(NumericsClass.self, folder: "numerics", key: name) { return cached }
    let result = try NumericsSelfTest.run(model: model, configuration: configuration, label: label)
    ResultCache.write(result, folder: "numerics", key: name)
    return result
  }
}
