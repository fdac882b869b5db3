internal import Core
internal import Foundation

/// Asks a service again what a request log says, one request after the other, and compares.
struct ReplayRun {
  enum Result: Sendable, Equatable {
    case compared(ReplayOutcome)
    case leftOut(String)
    case failed(FusionRouteError.Code, String)
  }

  /// What the requests came to.
  struct Totals: Sendable, Equatable {
    var same = 0
    var different = 0
    var leftOut = 0
    var failed = 0
    private(set) var worst: FusionRouteError?

    var count: Int { same + different + leftOut + failed }

    mutating func add(_ result: Result) {
      switch result {
      case .compared(.same): same += 1
      case .compared(.different):
        different += 1
        raise(.internal("answers differ from the request log"))
      case .leftOut: leftOut += 1
      case .failed(let code, let message):
        failed += 1
        raise(FusionRouteError(code, message))
      }
    }

    private mutating func raise(_ error: FusionRouteError) {
      if error.code.exitCode > (worst?.code.exitCode ?? 0) { worst = error }
    }

    var sentence: String {
      var parts = ["\(count) request\(count == 1 ? "" : "s")", "\(same) the same", "\(different) different"]
      if failed > 0 { parts.append("\(failed) failed") }
      if leftOut > 0 { parts.append("\(leftOut) left out") }
      return parts.joined(separator: ", ")
    }

    static func == (a: Self, b: Self) -> Bool {
      (a.same, a.different, a.leftOut, a.failed) == (b.same, b.different, b.leftOut, b.failed)
    }
  }

  let client: ServiceClient
  let format: OutputFormat

  /// Replays every line of the file. Throws the error with the highest exit code after all have had their turn:
  /// `internal` if answers differ.
  func run(_ path: String) async throws {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw FusionRouteError.badInput("the request log \(path) cannot be read")
    }
    defer { try? file.close() }
    var status = stat()
    guard fstat(file.fileDescriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw FusionRouteError.badInput("the request log \(path) is no regular file")
    }
    // The service that is asked may append to this very file.
    let size = Int(clamping: try file.seekToEnd())
    try file.seek(toOffset: 0)
    var lines = LineReader(file.fileDescriptor, limit: size)
    var totals = Totals()
    var number = 0
    while let line = lines.next() {
      number += 1
      guard line.contains(where: { $0 != 0x20 && $0 != 0x0D }) else { continue }
      let (id, result) = await replay(line, number: number)
      try Task.checkCancellation()
      totals.add(result)
      try show(id, result, number: number)
    }
    try Task.checkCancellation()
    try? FileHandle.standardError.write(contentsOf: Data((totals.sentence + "\n").utf8))
    if let worst = totals.worst { throw Reported(error: worst) }
    guard totals.same > 0 || totals.count == 0 else {
      throw FusionRouteError.badInput("\(path) holds no request that can be replayed")
    }
  }

  private func replay(_ line: [UInt8], number: Int) async -> (id: String?, result: Result) {
    let request: LoggedRequest
    do { request = try LoggedRequest(line: line) } catch {
      return (nil, .failed(.badInput, "line \(number): \(error)"))
    }
    guard let body = request.body else { return (request.id, .leftOut("its body was too long for the log")) }
    do {
      var answers = ReplayedAnswers()
      if JSONMembers(body)?.value("stream").map({ $0.elementsEqual("true".utf8) }) == true {
        try await client.stream(request.route, body) { try answers.add(Array($0.data.utf8)) }
      } else {
        try answers.add(try await client.post(request.route, body))
      }
      return (request.id, .compared(ReplayOutcome(recorded: request, now: answers)))
    } catch {
      let known = Failure.known(error) ?? .internal("the request failed", cause: error)
      return (request.id, .failed(known.code, known.message))
    }
  }

  private func show(_ id: String?, _ result: Result, number: Int) throws {
    let (word, detail): (String, String) =
      switch result {
      case .compared(.same(let tokens)): ("same", "\(tokens) token\(tokens == 1 ? "" : "s")")
      case .compared(.different(let difference)): ("different", difference)
      case .leftOut(let reason): ("left out", reason)
      case .failed(_, let reason): ("failed", reason)
      }
    let text: String
    switch format {
    case .json:
      text =
        JSONText.object([
          ("line", .integer(number)), ("request_id", id.map { .text($0) } ?? .null), ("result", .text(word)),
          ("detail", .text(detail)),
        ]).rendered + "\n"
    case .text:
      let padded = word.padding(toLength: 10, withPad: " ", startingAt: 0)
      let style = Style(.standardOutput)
      let shown = word == "different" || word == "failed" ? style.paint(padded, .failure) : padded
      text = "\(shown) \(id ?? "line \(number)")  \(TokenPainter.printable(detail))\n"
    }
    do { try FileHandle.standardOutput.write(contentsOf: Data(text.utf8)) } catch {
      throw FusionRouteError.interrupted("stdout was closed")
    }
  }
}
