internal import HTTPTypes

/// Which headers a page of an admitted origin may send.
enum CrossOriginHeaders {
  /// Those that mean something here.
  static let usual = "authorization, content-type, idempotency-key, x-request-id, x-request-timeout, traceparent"
  /// Names that a page may ask for at once, and bytes of all of them.
  static let maximumNames = 64
  static let maximumBytes = 2 << 10

  /// All that it asks for: clients of OpenAI's API send headers that change nothing here, and whoever may call gains
  /// nothing by them. ``usual`` if what it asks for is no list of names, or too long a one.
  ///
  /// - Parameter requested: the preflight's `Access-Control-Request-Headers`.
  static func allowed(_ requested: String?) -> String {
    guard let requested, requested.utf8.count <= maximumBytes else { return usual }
    let names = requested.split(separator: ",", omittingEmptySubsequences: false).map(\.trimmingSpaces)
    guard names.count <= maximumNames, names.allSatisfy({ HTTPField.Name($0) != nil }) else { return usual }
    return names.joined(separator: ", ")
  }
}
