internal import ArgumentParser
internal import Foundation

/// Where a judge answers `POST …/chat/completions`.
struct JudgeURL: Sendable, Equatable, CustomStringConvertible {
  private static let route = "/chat/completions"
  private static let usualRoute = "/v1" + route
  /// Azure's services of OpenAI's models.
  private static let azure = [".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"]

  /// What is asked, with the query.
  let endpoint: String
  /// Lowercase.
  let host: String

  /// Nil unless it is an http or https URL with a host and neither a user nor a fragment.
  ///
  /// A path that ends in `/chat/completions` is taken as it is, any other gets that added, and where there is none it is
  /// `/v1/chat/completions`. The query stays at the end.
  init?(_ text: String) {
    guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), let parts = URLComponents(string: text),
      ["http", "https"].contains(parts.scheme?.lowercased()), let host = parts.host, !host.isEmpty, parts.user == nil,
      parts.fragment == nil
    else { return nil }
    let front = text.prefix { $0 != "?" }
    let query = text[front.endIndex...]
    guard let scheme = front.firstRange(of: "://") else { return nil }
    let authority = front[scheme.upperBound...].prefix { $0 != "/" }
    var path = front[authority.endIndex...]
    while path.hasSuffix("/") { path = path.dropLast() }
    let route = path.hasSuffix(Self.route) ? "" : path.isEmpty ? Self.usualRoute : Self.route
    endpoint = "\(front[..<authority.endIndex])\(path)\(route)" + (query.count > 1 ? String(query) : "")
    self.host = host.lowercased()
  }

  /// What judgements are known by: the URL without the usual route, which all of them once had.
  var identity: String {
    endpoint.hasSuffix(Self.usualRoute) ? String(endpoint.dropLast(Self.usualRoute.count)) : endpoint
  }

  /// Whether it takes keys in a header of their own; as a bearer it wants a token of Entra ID.
  var isAzure: Bool { Self.azure.contains { host.hasSuffix($0) } }

  /// Without the query, in which keys may stand.
  var description: String { String(endpoint.prefix { $0 != "?" }) }
}

extension JudgeURL: ExpressibleByArgument {
  init?(argument: String) { self.init(argument) }
}
