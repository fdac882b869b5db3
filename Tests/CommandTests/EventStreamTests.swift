import Core
import Testing

@testable import fusionroute

@Suite struct EventStreamTests {
  typealias Event = EventStreamParser.Event

  private func parse(_ text: String) throws -> [Event] {
    var parser = EventStreamParser()
    return try parser.add(text.utf8)
  }

  /// The examples of the standard (WHATWG HTML, 9.2.6) and what it says comes of them.
  @Test func examplesOfTheStandard() throws {
    #expect(try parse("data: YHOO\ndata: +2\ndata: 10\n\n") == [Event(data: "YHOO\n+2\n10")])
    #expect(
      try parse(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n")
        == [Event(data: "first event"), Event(data: "second event"), Event(data: " third event")])
    // The last block is discarded, since no blank line follows it.
    #expect(try parse("data\n\ndata\ndata\n\ndata:") == [Event(data: ""), Event(data: "\n")])
    #expect(try parse("data:test\n\ndata: test\n\n") == [Event(data: "test"), Event(data: "test")])
    #expect(
      try parse("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: x\n\ndata: y\n\n")
        == [Event(type: "add", data: "73857293"), Event(type: "remove", data: "2153"), Event(data: "y")])
  }

  @Test func byteOrderMarkOnlyAtTheStart() throws {
    #expect(try parse("\u{FEFF}data: a\n\n\u{FEFF}data: b\n\n") == [Event(data: "a")])
  }

  /// However the bytes are cut and whichever line ends are used, the same events come.
  @Test(arguments: 0..<20) func cutsAndLineEndsChangeNothing(seed: UInt64) throws {
    print("event stream seed \(seed)")
    var generator = SplitMix64(seed: seed)
    let pieces = ["data: {\"a\":\"b\"}", "data: é🙂:x", ": ping", "data:", "event: error", "retry: 3", "id: 4", "", ""]
    let lines = (0..<60).map { _ in pieces.randomElement(using: &generator) ?? "" } + [""]
    let expected = try parse(lines.map { $0 + "\n" }.joined())
    #expect(expected.count > 2)
    for end in ["\n", "\r\n", "\r"] {
      let bytes = Array(lines.map { $0 + end }.joined().utf8)
      var parser = EventStreamParser()
      var events: [Event] = []
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Int.random(in: 1...7, using: &generator)
        events += try parser.add(rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      #expect(events == expected)
    }
  }

  @Test func anEndlessLineIsRefused() {
    var parser = EventStreamParser()
    let block = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 20)
    #expect(throws: FusionRouteError.self) {
      for _ in 0...(EventStreamParser.maximumBytes >> 20) { _ = try parser.add(block) }
    }
  }
}
