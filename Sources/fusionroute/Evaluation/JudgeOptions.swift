internal import ArgumentParser
internal import Core
internal import Foundation

/// Where a judge is, and how it is reached.
struct JudgeOptions: ParsableArguments {
  static let keyVariable = "FUSIONROUTE_JUDGE_KEY"
  /// Seconds.
  static let timeouts = 1...3600
  /// A host whose usual variable is understood too.
  private static let openAI = (host: "api.openai.com", variable: "OPENAI_API_KEY")

  @Option(
    help: ArgumentHelp(
      "Where the judge is: with a path that ends in /chat/completions as it is; to another path that is added, and "
        + "/v1/chat/completions where there is none. A query is kept.", valueName: "url"))
  var url: JudgeURL

  @Option(
    help: ArgumentHelp(
      "A file that holds the judge's API key. Default: the environment variable FUSIONROUTE_JUDGE_KEY, or for "
        + "api.openai.com OPENAI_API_KEY.", valueName: "file"))
  var apiKeyFile: String?

  @Option(
    help: ArgumentHelp("Certificates (PEM) to trust instead of the system's, for https://.", valueName: "file"))
  var caFile: String?

  @Option(
    help: ArgumentHelp("Seconds after which a request without a whole answer has failed.", valueName: "seconds"))
  var timeout = 120

  /// Never FUSIONROUTE_API_KEY, which is for services of one's own. Throws `badInput` for what holds no key.
  func key(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> String? {
    if let apiKeyFile { return try ServiceOptions.key(inFile: apiKeyFile) }
    var variables = [Self.keyVariable]
    if url.host == Self.openAI.host { variables.append(Self.openAI.variable) }
    for variable in variables {
      guard let key = environment[variable], !key.isEmpty else { continue }
      guard ServiceOptions.isHeaderValue(key) else {
        throw FusionRouteError.badInput("\(variable) holds no API key: it has spaces or control characters")
      }
      return key
    }
    return nil
  }
}
