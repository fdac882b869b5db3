internal import Core
internal import Foundation

/// Where a service is: `http://HOST[:PORT]`, with or without a path in front of its routes.
struct ServiceURL: Sendable, Equatable, CustomStringConvertible {
  /// Where a service listens if its cluster file says nothing else.
  static let usual = ServiceURL(base: "http://127.0.0.1:8080")

  private let base: String

  private init(base: String) { self.base = base }

  /// Nil unless it is an http or https URL with a host and neither a user, a query nor a fragment. `/v1`, which OpenAI's
  /// clients want at the end, is left out.
  init?(_ text: String) {
    guard let parts = URLComponents(string: text), ["http", "https"].contains(parts.scheme?.lowercased()),
      parts.host?.isEmpty == false, parts.user == nil, parts.query == nil, parts.fragment == nil
    else { return nil }
    var base = text[...]
    while base.hasSuffix("/") { base = base.dropLast() }
    if base.hasSuffix("/v1") { base = base.dropLast(3) }
    while base.hasSuffix("/") { base = base.dropLast() }
    self.base = String(base)
  }

  /// - Parameter path: from `/` on.
  func route(_ path: String) -> String { base + path }

  var description: String { base }
}
