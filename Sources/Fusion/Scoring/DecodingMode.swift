/// What scores a token: for use, ablations and baselines.
public enum DecodingMode: Sendable, Hashable, CustomStringConvertible {
  /// c·r + e with the expert that the router selects for each token.
  case fusion
  /// One expert's logits alone.
  case expert(String)
  /// The router's logits alone.
  case router
  /// The router selects the expert, whose logits alone decide.
  case noComplement

  /// From `fusion`, `router`, `no-complement` or `expert:<name>`.
  public init?(parsing text: String) {
    switch text {
    case "fusion": self = .fusion
    case "router": self = .router
    case "no-complement": self = .noComplement
    default:
      guard text.hasPrefix("expert:") else { return nil }
      let name = text.dropFirst("expert:".count)
      guard !name.isEmpty else { return nil }
      self = .expert(String(name))
    }
  }

  public var description: String {
    switch self {
    case .fusion: "fusion"
    case .expert(let name): "expert:\(name)"
    case .router: "router"
    case .noComplement: "no-complement"
    }
  }
}
