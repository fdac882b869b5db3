import Coordinator
import Core
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Gateway

/// Clients that leave at the wrong moment: their requests count as left, not as errors of the service's.
@Suite(.serialized) struct ClientGoneTests {
  /// A client that leaves before the last event.
  private struct Leaver: ResponseBodyWriter {
    mutating func write(_ buffer: ByteBuffer) async throws {
      if String(buffer: buffer).contains("[DONE]") { throw ChannelError.ioOnClosedChannel }
    }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
  }

  @Test("before the last event of a stream")
  func last() async throws {
    try await BatchRunnerTests.withEnvironment { environment, _ in
      let body = Array(#"{"prompt":"a","max_tokens":2,"stream":true}"#.utf8)
      guard case .object(let object) = try JSONParser.parse(body) else {
        Issue.record("no object")
        return
      }
      let origin = AnswerPlanner.Origin(
        deadline: nil, trace: TraceContext(traceparent: nil, requestID: nil), client: { _ in "c" })
      let plan = try await AnswerPlanner(environment: environment).plan(
        .completion, fields: FieldReader(object), body: body, origin: origin)
      var run = AnswerRun(
        plan, environment: environment, requestID: "r", arrival: .now, route: CompletionTests.path, body: [],
        share: environment.bodies.share(), monitor: nil)
      let first = try await run.firstEvent()
      var writer: any ResponseBodyWriter = Leaver()
      do {
        try await run.stream(first: first, to: &writer)
        Issue.record("nobody noticed")
      } catch {
        #expect(error as? GatewayError == .clientGone)
      }
      #expect(environment.metrics.current.answers == ["client_gone": 1])
    }
  }

  @Test("before the answer begins")
  func closed() async throws {
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0).get()
    try await channel.close()
    let context = GatewayContext(
      source: ApplicationRequestContextSource(channel: channel, logger: Logger(label: "test")))
    await #expect(throws: GatewayError.clientGone) { _ = try await context.monitor() }
  }
}
