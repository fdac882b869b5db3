internal import Fusion

extension DecodingMode {
  /// Whether the router runs at every token.
  var usesRouter: Bool {
    if case .expert = self { false } else { true }
  }
}
