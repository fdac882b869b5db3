internal import ArgumentParser
internal import Core
internal import Foundation

/// Options of commands that talk to a running service.
struct ServiceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Where the service is, such as http://127.0.0.1:8080; https:// for TLS.", valueName: "url"))
  var url = ServiceURL.usual

  @Option(
    help: ArgumentHelp(
      "A file that holds the API key. Default: the environment variable FUSIONROUTE_API_KEY.", valueName: "file"))
  var apiKeyFile: String?

  @Option(
    help: ArgumentHelp("Certificates (PEM) to trust instead of the system's, for https://.", valueName: "file"))
  var caFile: String?

  /// Whether they say nothing.
  var isUsual: Bool {
    url == ServiceURL.usual && apiKeyFile == nil && caFile == nil
  }

  /// Throws `badInput` for a file that holds no key.
  func key(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> String? {
    guard let apiKeyFile else {
      guard let key = environment["FUSIONROUTE_API_KEY"], !key.isEmpty else { return nil }
      guard Self.isHeaderValue(key) else {
        throw FusionRouteError.badInput("FUSIONROUTE_API_KEY holds no API key: it has spaces or control characters")
      }
      return key
    }
    return try Self.key(inFile: apiKeyFile)
  }

  /// The one key of a file. Throws `badInput` for a file that holds none.
  static func key(inFile path: String) throws -> String {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw FusionRouteError.badInput("the file of --api-key-file cannot be read: \(path)")
    }
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
      .filter { !$0.isEmpty && !$0.hasPrefix("#") }
    guard lines.count == 1, isHeaderValue(lines[0]) else {
      throw FusionRouteError.badInput("the file \(path) must hold one API key, on a line of its own")
    }
    return lines[0]
  }

  static func isHeaderValue(_ key: String) -> Bool { key.utf8.allSatisfy { (0x21...0x7E).contains($0) } }
}

extension ServiceURL: ExpressibleByArgument {
  var defaultValueDescription: String { description }

  init?(argument: String) { self.init(argument) }
}
