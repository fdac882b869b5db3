internal import AsyncHTTPClient
internal import Core
internal import Foundation
internal import Synchronization

/// A judge with OpenAI's chat API, reached over HTTP.
final class JudgeClient: Sendable {
  struct Reply: Sendable {
    var text: String
    /// Whether it ended at the limit of its tokens.
    var isCutOff: Bool
  }

  /// How often a request without an answer is asked again; see also ``RetryAfter``.
  static let retries = 3
  private static let maximumAnswerBytes = 16 << 20

  private struct Answer: Sendable {
    var status: Int
    var retryAfter: String?
    var location: String?
    var body: [UInt8]
  }

  private struct Completion: Decodable {
    struct Choice: Decodable {
      struct Message: Decodable { var content: String? }
      var message: Message
      var finish_reason: String?
    }
    var choices: [Choice]
  }

  let url: JudgeURL
  /// The judge's model.
  let model: String
  private let maximumTokens: Int
  /// Seconds.
  private let timeout: Int
  private let key: String?
  private let http: HTTPClient
  private let note: @Sendable (String) -> Void
  /// What the model has turned out to want.
  private let learned = Mutex(JudgeForm())

  private init(
    url: JudgeURL, model: String, maximumTokens: Int, timeout: Int, key: String?, http: HTTPClient,
    note: @escaping @Sendable (String) -> Void
  ) {
    self.url = url
    self.model = model
    self.maximumTokens = maximumTokens
    self.timeout = timeout
    self.key = key
    self.http = http
    self.note = note
  }

  /// Runs `body` with a client whose connections are closed afterwards.
  ///
  /// - Parameters:
  ///   - maximumTokens: of a reply, thoughts included where the model has any.
  ///   - note: told in one line when something is asked again.
  static func with<R: Sendable>(
    _ options: JudgeOptions, model: String, maximumTokens: Int, note: @escaping @Sendable (String) -> Void,
    _ body: (JudgeClient) async throws -> R
  ) async throws -> R {
    let key = try options.key()
    var configuration = try ServiceClient.configuration(caFile: options.caFile)
    // The key is for this host alone.
    configuration.redirectConfiguration = .disallow
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let client = JudgeClient(
      url: options.url, model: model, maximumTokens: maximumTokens, timeout: options.timeout, key: key, http: http,
      note: note)
    let result: Result<R, any Error>
    do { result = .success(try await body(client)) } catch { result = .failure(error) }
    // What cannot be closed in order is closed by the end of the process.
    try? await http.shutdown()
    return try result.get()
  }

  /// For messages.
  var name: String { "the judge at \(url)" }

  /// The model's reply to a prompt.
  ///
  /// - Throws: ``JudgeRefusal`` if the judge may take another prompt, otherwise what ends a run.
  func reply(to prompt: String, temperature: Double) async throws -> Reply {
    var form = learned.withLock { $0 }
    while true {
      let answer = try await answer(to: body(prompt, temperature: temperature, form: form))
      if (200..<300).contains(answer.status) {
        // Only what helped is kept: a refusal may name a parameter for other reasons.
        learned.withLock { $0.formUnion(form) }
        return try read(answer.body)
      }
      let refusal = JudgeRefusal(status: answer.status, body: answer.body)
      guard let next = form.adapted(to: refusal) else { throw failure(answer, refusal) }
      form = next
    }
  }

  private func body(_ prompt: String, temperature: Double, form: JudgeForm) -> [UInt8] {
    var members: [(String, JSONText)] = [
      ("model", .text(model)),
      ("messages", .array([.object([("role", .text("user")), ("content", .text(prompt))])])),
    ]
    if !form.contains(.noTemperature) { members.append(("temperature", .number(temperature))) }
    let limit = form.contains(.completionTokens) ? "max_completion_tokens" : "max_tokens"
    members.append((limit, .integer(maximumTokens)))
    return JSONText.object(members).utf8
  }

  private func read(_ body: [UInt8]) throws -> Reply {
    guard let completion = try? JSONDecoder().decode(Completion.self, from: Data(body)),
      let choice = completion.choices.first
    else {
      // Some gateways tell of failures with a status of success.
      throw FusionRouteError.unavailable(
        "\(name) does not answer as OpenAI's chat API does; it says: \(JudgeRefusal(status: 200, body: body).said)")
    }
    // A judge that refuses may say nothing at all.
    return Reply(text: choice.message.content ?? "", isCutOff: choice.finish_reason == "length")
  }

  // MARK: Requests

  /// The answer to a POST. What may be otherwise a moment later is asked again; then the last answer counts, or there is
  /// none, which throws.
  private func answer(to body: [UInt8]) async throws -> Answer {
    let start = ContinuousClock.now
    var (tries, lost) = (0, 0)
    while true {
      let received: Answer?
      do { received = try await exchange(body) } catch {
        try Task.checkCancellation()
        guard let reason = Self.passingReason(error), lost < Self.retries else { throw unreachable(error) }
        let wait = Duration.seconds(1 << lost)
        lost += 1
        note("\(name): \(reason); asked again in \(wait.components.seconds) s")
        try await Task.sleep(for: wait)
        continue
      }
      try Task.checkCancellation()
      guard let answer = received else {
        guard lost < Self.retries else {
          throw FusionRouteError(
            .deadlineExceeded,
            "\(name) did not answer within \(timeout) s, asked \(lost + 1) times: give it longer with --timeout, or less "
              + "at once with --parallel")
        }
        lost += 1
        // The time has passed already.
        note("\(name) did not answer within \(timeout) s; asked again")
        continue
      }
      guard Self.mayPass(answer.status) else { return answer }
      var next = RetryAfter.backoff(tries: tries)
      // A time of day instead of seconds says as little as nothing.
      if let header = answer.retryAfter, Int(header) != nil {
        next = RetryAfter.wait(header, spent: ContinuousClock.now - start, limit: ServiceClient.maximumWait)
      }
      guard let wait = next else { return answer }
      tries += 1
      note("\(name): status \(answer.status); asked again in \(wait.components.seconds) s")
      try await Task.sleep(for: wait)
    }
  }

  /// The answer to one request; nil if it is not whole in time.
  private func exchange(_ body: [UInt8]) async throws -> Answer? {
    let (request, limit) = (posting(body), Self.maximumAnswerBytes)
    return try await withThrowingTaskGroup(of: Answer?.self) { group in
      group.addTask { [http] in
        let response = try await http.execute(request, deadline: .distantFuture)
        let body = try await response.body.collect(upTo: limit)
        return Answer(
          status: Int(response.status.code), retryAfter: response.headers.first(name: "retry-after"),
          location: response.headers.first(name: "location"), body: Array(body.readableBytesView))
      }
      group.addTask { [timeout] in
        try await Task.sleep(for: .seconds(timeout))
        return nil
      }
      defer { group.cancelAll() }
      guard let first = try await group.next() else { return nil }
      return first
    }
  }

  private func posting(_ body: [UInt8]) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: url.endpoint)
    request.method = .POST
    request.headers.add(name: "user-agent", value: "fusionroute/\(FusionRoute.configuration.version)")
    request.headers.add(name: "content-type", value: "application/json")
    if let key {
      let (name, value) = url.isAzure ? ("api-key", key) : ("authorization", "Bearer \(key)")
      request.headers.add(name: name, value: value)
    }
    request.body = .bytes(body)
    return request
  }

  private static func mayPass(_ status: Int) -> Bool {
    status == 408 || status == 429 || (500..<600).contains(status) && status != 501
  }

  /// Why a connection broke that may hold the next time; nil if it would not.
  private static func passingReason(_ error: any Error) -> String? {
    let passing: [HTTPClientError] = [.remoteConnectionClosed, .connectTimeout, .tlsHandshakeTimeout]
    let isPassing = (error as? HTTPClientError).map { passing.contains($0) } ?? "\(error)".contains("reset by peer")
    return isPassing ? ServiceError.reason(error, refused: "nothing listens there") : nil
  }

  private func unreachable(_ error: any Error) -> FusionRouteError {
    if let reason = ServiceError.reason(error, refused: "nothing listens there; check --url") {
      return .unavailable("cannot reach \(name): \(reason)")
    }
    return .unavailable("cannot reach \(name)", cause: error)
  }

  private func failure(_ answer: Answer, _ refusal: JudgeRefusal) -> any Error {
    let said = refusal.message == nil ? "" : ": \(refusal.said)"
    switch answer.status {
    case 300..<400:
      let place = answer.location.map { ServiceError.clipped($0) } ?? "another address"
      return FusionRouteError.unavailable("\(name) sends to \(place): give the judge's own address with --url")
    case 401:
      return FusionRouteError.badInput(
        key == nil
          ? "\(name) wants an API key: set \(JudgeOptions.keyVariable), or name a file that holds it with --api-key-file"
          : "\(name) does not accept the API key\(said)")
    case 404 where refusal.message == nil:
      return FusionRouteError.unavailable("\(name) has no chat API there: check --url")
    case 404: return FusionRouteError.badInput("\(name) does not find that\(said); check --url and --judge")
    case 408, 504: return FusionRouteError(.deadlineExceeded, "\(name) ran out of time\(said)")
    case 429: return FusionRouteError(.overloaded, "\(name) is too busy\(said)")
    case _ where refusal.mayBeOfPrompt: return refusal
    case 400..<500: return FusionRouteError.badInput("\(name) refused the request: \(refusal.said)")
    default: return FusionRouteError.unavailable("\(name) failed with status \(answer.status)\(said)")
    }
  }
}
