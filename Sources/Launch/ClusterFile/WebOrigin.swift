/// Origins of web pages (RFC 6454), as browsers send them in `Origin`.
enum WebOrigin {
  /// `https://host[:port]` in lower case, without a port that is the scheme's own, or `*`; nil if the text is neither.
  static func normalized(_ text: String) -> String? {
    if text == "*" { return text }
    let lower = text.lowercased()
    guard let (scheme, own) = [("http", 80), ("https", 443)].first(where: { lower.hasPrefix($0.0 + "://") }) else {
      return nil
    }
    let rest = lower.dropFirst(scheme.utf8.count + 3)
    let isBare = rest.hasSuffix("]") || !rest.contains(":")
    guard let (host, port) = Endpoint.hostAndPort(isBare ? "\(rest):\(own)" : String(rest)), host != "*", port > 0
    else {
      return nil
    }
    let shown = host.contains(":") ? "[\(host)]" : host
    return port == own ? "\(scheme)://\(shown)" : "\(scheme)://\(shown):\(port)"
  }
}
