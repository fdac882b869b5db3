internal import AsyncHTTPClient
internal import Core
internal import Foundation

/// A FusionRoute service, reached over HTTP.
struct ServiceClient: Sendable {
  /// How long a busy service is waited for, in all, before a request is given up.
  static let maximumWait = Duration.seconds(60)
  /// Silence after which a service counts as gone; it sends something every 15 s while it works on a stream.
  static let silence = Duration.seconds(90)
  /// The same for an answer that is asked for as a whole: nothing comes before its last token.
  static let wholeAnswerSilence = Duration.seconds(3600)
  private static let connectTime = 10
  private static let maximumErrorBytes = 1 << 20
  private static let maximumAnswerBytes = 256 << 20

  let url: ServiceURL
  private let key: String?
  private let http: HTTPClient
  /// For whole answers: the limit of a client's silence is one for all of its requests.
  private let patient: HTTPClient
  /// Told when a busy service is waited for.
  private let waiting: @Sendable (Duration) -> Void

  /// Runs `body` with a client whose connections are closed afterwards.
  static func with<R: Sendable>(
    _ options: ServiceOptions, waiting: @escaping @Sendable (Duration) -> Void = { _ in },
    silence: Duration = ServiceClient.silence, wholeAnswerSilence: Duration = ServiceClient.wholeAnswerSilence,
    _ body: (ServiceClient) async throws -> R
  ) async throws -> R {
    let key = try options.key()
    var configuration = try configuration(caFile: options.caFile)
    configuration.timeout.read = .milliseconds(Int64(silence.milliseconds))
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    configuration.timeout.read = .milliseconds(Int64(wholeAnswerSilence.milliseconds))
    let patient = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let client = ServiceClient(url: options.url, key: key, http: http, patient: patient, waiting: waiting)
    let result: Result<R, any Error>
    do { result = .success(try await body(client)) } catch { result = .failure(error) }
    // What cannot be closed in order is closed by the end of the process.
    try? await http.shutdown()
    try? await patient.shutdown()
    return try result.get()
  }

  /// Of connections that are tried once and are trusted by the certificates (PEM) in `caFile`; nil: the system's. Throws
  /// `badInput` if it cannot be read.
  static func configuration(caFile: String?) throws -> HTTPClient.Configuration {
    var configuration = HTTPClient.Configuration(timeout: .init(connect: .seconds(Int64(connectTime))))
    configuration.connectionPool.retryConnectionEstablishment = false
    if let caFile {
      guard FileManager.default.isReadableFile(atPath: caFile) else {
        throw FusionRouteError.badInput("the file of --ca-file cannot be read: \(caFile)")
      }
      var tls = configuration.tlsConfiguration ?? .makeClientConfiguration()
      tls.trustRoots = .file(caFile)
      configuration.tlsConfiguration = tls
    }
    return configuration
  }

  /// The answer to a GET.
  func get(_ path: String) async throws -> [UInt8] {
    try await whole(request(path), by: http)
  }

  /// The answer to a POST of JSON; that to a prompt is waited for far longer.
  ///
  /// - Parameter isRepeatable: whether it may be sent again when the service fails for a moment.
  func post(_ path: String, _ body: [UInt8], isRepeatable: Bool = false) async throws -> [UInt8] {
    try await whole(
      posting(path, body), by: LoggedRequest.routes.contains(path) ? patient : http, isRepeatable: isRepeatable)
  }

  /// The answer to a GET, read as JSON with snake_case keys.
  func get<T: Decodable>(_ path: String, as type: T.Type) async throws -> T {
    try decode(try await get(path), as: type)
  }

  func decode<T: Decodable>(_ bytes: [UInt8], as type: T.Type) throws -> T {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do { return try decoder.decode(type, from: Data(bytes)) } catch {
      throw FusionRouteError.unavailable(
        "\(url) answers what this program does not understand: is it a FusionRoute "
          + "service of this version?", cause: error)
    }
  }

  /// The events of the answer to a POST, as they come.
  ///
  /// Throws `unavailable` if the stream ends before `[DONE]`.
  func stream(_ path: String, _ body: [UInt8], event: (EventStreamParser.Event) throws -> Void) async throws {
    var request = posting(path, body)
    request.headers.add(name: "accept", value: "text/event-stream")
    let response: HTTPClientResponse
    do { response = try await execute(request, by: http) } catch { throw ServiceError.connection(error, url: url) }
    var parser = EventStreamParser()
    var isDone = false
    do {
      for try await part in response.body {
        for next in try parser.add(part.readableBytesView) where !isDone {
          isDone = next.data == "[DONE]"
          if isDone { continue }
          if let error = ServiceError.inStream(next.data, url: url) { throw error }
          try event(next)
        }
      }
    } catch {
      if isDone { return }
      throw ServiceError.brokenOff(error, url: url)
    }
    try Task.checkCancellation()
    guard isDone else { throw ServiceError.brokenOff(nil, url: url) }
  }

  // MARK: Requests

  private func request(_ path: String) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: url.route(path))
    request.headers.add(name: "user-agent", value: "fusionroute/\(FusionRoute.configuration.version)")
    if let key { request.headers.add(name: "authorization", value: "Bearer \(key)") }
    return request
  }

  private func posting(_ path: String, _ body: [UInt8]) -> HTTPClientRequest {
    var request = request(path)
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/json")
    request.body = .bytes(body)
    return request
  }

  private func whole(
    _ request: HTTPClientRequest, by http: HTTPClient, isRepeatable: Bool = false
  ) async throws -> [UInt8] {
    do {
      let response = try await execute(request, by: http, isRepeatable: isRepeatable)
      return Array(try await response.body.collect(upTo: Self.maximumAnswerBytes).readableBytesView)
    } catch {
      throw ServiceError.connection(error, url: url)
    }
  }

  /// A response with a status of success. A busy service is asked again when it says, for a while; one that says nothing,
  /// or fails, a few times if the request may be repeated.
  private func execute(
    _ request: HTTPClientRequest, by http: HTTPClient, isRepeatable: Bool = false
  ) async throws -> HTTPClientResponse {
    let start = ContinuousClock.now
    var tries = 0
    while true {
      let response = try await http.execute(request, deadline: .distantFuture)
      if (200..<300).contains(response.status.code) { return response }
      let body = Array(try await response.body.collect(upTo: Self.maximumErrorBytes).readableBytesView)
      let error = ServiceError.answered(Int(response.status.code), body: body, url: url, hasKey: key != nil)
      let header = response.headers.first(name: "retry-after")
      let mayPass = isRepeatable && RetryAfter.passing.contains(response.status.code)
      var next: Duration?
      // A time of day instead of seconds says as little as nothing.
      if mayPass, header.flatMap({ Int($0) }) == nil {
        next = RetryAfter.backoff(tries: tries)
      } else if mayPass || response.status.code == 429 {
        next = RetryAfter.wait(header, spent: ContinuousClock.now - start, limit: Self.maximumWait)
      }
      guard let wait = next else { throw error }
      tries += 1
      waiting(wait)
      try await Task.sleep(for: wait)
    }
  }
}

/// When to try again (RFC 9110, 10.2.3).
enum RetryAfter {
  /// Statuses that may be others a moment later.
  static let passing: Set<UInt> = [429, 500, 502, 503]
  private static let maximumTries = 5

  /// How long to wait where the service does not say: 1 s, and twice as long each time; nil after the last.
  static func backoff(tries: Int) -> Duration? { tries < maximumTries ? .seconds(1 << tries) : nil }

  /// How long to wait before the next try; nil if that would be longer in all than `limit`, or no number of seconds.
  static func wait(_ header: String?, spent: Duration, limit: Duration) -> Duration? {
    guard let seconds = header.flatMap({ Int($0.filter { $0 != " " }) }), seconds >= 0, seconds <= 86_400 else {
      return nil
    }
    let wait = Duration.seconds(max(1, seconds))
    return spent + wait <= limit ? wait : nil
  }
}
