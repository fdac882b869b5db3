/// How much of the experts' rows had to travel to decide the tokens.
public struct CertificationStatistics: Sendable, Equatable, CustomStringConvertible {
  /// Tokens that partial rows decided, by the size of the last top-k that was asked for.
  public private(set) var decidedByTopK: [Int: Int] = [:]
  /// Tokens that took the full row.
  public private(set) var fullRows = 0
  /// Payload of all rows asked for.
  public private(set) var bytes = 0

  public init() {}

  /// Counts one token: the partial rows it took in turn, and whether the full row of `vocabulary` floats came last.
  public mutating func record(partialRows: [PartialRow], fullRow vocabulary: Int? = nil) {
    bytes += partialRows.reduce(0) { $0 + $1.payloadBytes }
    if let vocabulary {
      bytes += PartialRow.fullRowBytes(vocabulary: vocabulary)
      fullRows += 1
    } else if let last = partialRows.last {
      decidedByTopK[last.topIDs.count, default: 0] += 1
    }
  }

  public mutating func merge(_ other: Self) {
    decidedByTopK.merge(other.decidedByTopK, uniquingKeysWith: +)
    fullRows += other.fullRows
    bytes += other.bytes
  }

  public var tokens: Int { decidedByTopK.values.reduce(fullRows, +) }

  /// Bytes of payload per token, 0 without tokens.
  public var bytesPerToken: Double { tokens == 0 ? 0 : Double(bytes) / Double(tokens) }

  /// Share of the tokens that the `topK` largest logits, or fewer, decided.
  public func share(decidedBy topK: Int) -> Double {
    let enough = decidedByTopK.reduce(0) { $1.key <= topK ? $0 + $1.value : $0 }
    return tokens == 0 ? 0 : Double(enough) / Double(tokens)
  }

  public var description: String {
    var parts = decidedByTopK.sorted { $0.key < $1.key }.map { "top-\($0.key) \($0.value)" }
    if fullRows > 0 { parts.append("full row \(fullRows)") }
    return "\(tokens) tokens: \(parts.joined(separator: ", ")); \(Int(bytesPerToken.rounded())) bytes per token"
  }
}
