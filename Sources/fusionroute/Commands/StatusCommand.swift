internal import ArgumentParser
internal import Coordinator
internal import Core
internal import Foundation

struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show what a running service does: hosts, experts, replicas, queues, speeds.",
    discussion: """
      Ends with 69 if the service cannot be reached. With --watch it is shown anew every second; a service that goes \
      away meanwhile is waited for.
      """)

  @OptionGroup(title: "Service") var service: ServiceOptions

  @Flag(name: [.short, .long], help: "Show it anew every second, until Ctrl-C.")
  var watch = false

  @Option(help: "text or json (the service's own object; with --watch one a line).")
  var format: OutputFormat = .text

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    try await withInterruption { [self] in
      try await ServiceClient.with(service) { client in
        switch (format, watch) {
        case (.json, _): try await showObjects(client)
        case (.text, false):
          let status = try await client.get(Self.path, as: CoordinatorStatus.self)
          try Self.write(view(client).lines(status).joined(separator: "\n") + "\n")
        case (.text, true) where Style(.standardOutput).isTerminal:
          try await LiveScreen.showing { screen in try await follow(client) { screen.draw($0) } }
        case (.text, true): try await follow(client) { try Self.write($0.joined(separator: "\n") + "\n\n") }
        }
      }
    }
  }

  private static let path = "/fusionroute/status"

  // The style each time: the window may have another size.
  private func view(_ client: ServiceClient) -> StatusView {
    StatusView(url: client.url.description, style: Style(.standardOutput))
  }

  private func showObjects(_ client: ServiceClient) async throws {
    var (isShown, isGone) = (false, false)
    repeat {
      do {
        let bytes = try await client.get(Self.path)
        // Whatever it answers, it must be a status.
        _ = try client.decode(bytes, as: CoordinatorStatus.self)
        try Self.write(String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).joined() + "\n")
        (isShown, isGone) = (true, false)
      } catch let error as FusionRouteError where error.code == .unavailable && watch && isShown {
        // Ctrl-C ends a request, too.
        try Task.checkCancellation()
        if !isGone { Self.note("\(error.message); waiting for it") }
        isGone = true
      }
      if watch { try await Task.sleep(for: .seconds(1)) }
    } while watch
  }

  private func follow(_ client: ServiceClient, show: ([String]) throws -> Void) async throws {
    var last: (status: CoordinatorStatus, time: ContinuousClock.Instant)?
    var lines: [String] = []
    while true {
      do {
        let status = try await client.get(Self.path, as: CoordinatorStatus.self)
        let now = ContinuousClock.now
        lines = view(client).lines(status, previous: last.map { ($0.status, (now - $0.time).seconds) })
        last = (status, now)
        try show(lines)
      } catch let error as FusionRouteError where error.code == .unavailable && last != nil {
        let style = Style(.standardOutput)
        try show([style.paint(error.message, .failure), ""] + lines)
      }
      try await Task.sleep(for: .seconds(1))
    }
  }

  private static func note(_ sentence: String) {
    try? FileHandle.standardError.write(contentsOf: Data((TokenPainter.printable(sentence) + "\n").utf8))
  }

  private static func write(_ text: String) throws {
    do { try FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } catch {
      throw FusionRouteError.interrupted("stdout was closed")
    }
  }
}
