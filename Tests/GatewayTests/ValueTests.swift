import Core
import Foundation
import Synchronization
import Testing

@testable import Gateway

/// The strict reader of JSON against Foundation's, and what Foundation does not bound.
@Suite struct JSONTests {
  /// Whether Foundation read the same.
  static func same(_ value: JSONValue, _ other: Any) -> Bool {
    switch value {
    case .null: return other is NSNull
    case .bool(let bool): return other as? Bool == bool
    case .integer(let integer): return (other as? NSNumber)?.int64Value == integer
    // Foundation's numbers take a way over decimals, which costs the last bit.
    case .number(let number):
      return (other as? NSNumber).map {
        abs($0.doubleValue - number) <= max(1e-14 * abs(number), .leastNormalMagnitude)
      } ?? false
    case .string(let text): return other as? String == text
    case .array(let elements):
      guard let others = other as? [Any], others.count == elements.count else { return false }
      return zip(elements, others).allSatisfy { same($0, $1) }
    case .object(let object):
      guard let others = other as? [String: Any], others.count == Set(object.members.map(\.key)).count else {
        return false
      }
      return others.allSatisfy { key, value in object[key].map { same($0, value) } ?? false }
    }
  }

  @Test("random values, written by Foundation, read as Foundation reads them; written by us, too")
  func random() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SplitMix64(seed: seed)
    func text() -> String {
      let scalars: [Unicode.Scalar] = [
        "a", "\"", "\\", "/", "\u{8}", "\n", "\u{0}", "é", "中", "🙂", "\u{2028}", "\u{7F}",
      ]
      return String(
        String.UnicodeScalarView(
          (0..<Int.random(in: 0...8, using: &random)).compactMap { _ in scalars.randomElement(using: &random) }))
    }
    func value(_ depth: Int) -> Any {
      switch Int.random(in: 0...(depth > 0 ? 6 : 4), using: &random) {
      case 0: return NSNull()
      case 1: return Bool.random(using: &random)
      case 2: return Int.random(in: Int.min...Int.max, using: &random)
      case 3: return Double(bitPattern: UInt64.random(in: 0..<0x7FF0_0000_0000_0000, using: &random))
      case 4: return text()
      case 5: return (0..<Int.random(in: 0...5, using: &random)).map { _ in value(depth - 1) }
      default:
        return Dictionary((0..<Int.random(in: 0...20, using: &random)).map { _ in (text(), value(depth - 1)) }) { $1 }
      }
    }
    for round in 0..<300 {
      let original = value(4)
      let data = try JSONSerialization.data(withJSONObject: original, options: [.fragmentsAllowed])
      let parsed = try JSONParser.parse(Array(data))
      let reread = try JSONSerialization.jsonObject(with: data, options: [.fragmentsAllowed])
      #expect(Self.same(parsed, reread), "seed \(seed), round \(round): \(String(decoding: data, as: UTF8.self))")
      var writer = JSONWriter()
      Self.write(parsed, to: &writer)
      let again = try JSONSerialization.jsonObject(with: Data(writer.bytes), options: [.fragmentsAllowed])
      #expect(Self.same(parsed, again), "seed \(seed), round \(round), written")
    }
  }

  static func write(_ value: JSONValue, to json: inout JSONWriter) {
    switch value {
    case .null: json.null()
    case .bool(let bool): json.value(bool)
    case .integer(let integer): json.value(integer)
    case .number(let number): json.value(number)
    case .string(let text): json.value(text)
    case .array(let elements): json.array(elements) { write($1, to: &$0) }
    case .object(let object):
      json.object { json in
        for member in object.members {
          json.key(member.key)
          write(member.value, to: &json)
        }
      }
    }
  }

  @Test("every text that is cut short is refused, and so are random changes that make it wrong")
  func damage() throws {
    let text = Array(#"{"a":[1,-2.5e3,true,false,null,"x\u00e9\n"],"b":{"c":"\ud83d\ude42"},"b":2}"#.utf8)
    _ = try JSONParser.parse(text)
    for length in 0..<text.count {
      #expect(throws: JSONParser.Failure.self) { try JSONParser.parse(Array(text.prefix(length))) }
    }
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = SplitMix64(seed: seed)
    for _ in 0..<3000 {
      var changed = text
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        changed[Int.random(in: 0..<text.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      // Foundation takes more than JSON is, so only one direction can be held against it.
      if (try? JSONSerialization.jsonObject(with: Data(changed), options: [.fragmentsAllowed])) == nil {
        #expect((try? JSONParser.parse(changed)) == nil, "seed \(seed): \(changed)")
      }
    }
  }

  @Test("depth and number of values are bounded; of equal keys the last counts, in small objects and large ones")
  func bounds() throws {
    let depth = JSONParser.maximumDepth
    func nested(_ count: Int) -> [UInt8] {
      Array((String(repeating: "[", count: count) + String(repeating: "]", count: count)).utf8)
    }
    _ = try JSONParser.parse(nested(depth))
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse(nested(depth + 1)) }
    for count in [3, 40] {
      let members = (0..<count).map { "\"k\($0)\":\($0)" } + ["\"k1\":\"last\""]
      guard case .object(let object) = try JSONParser.parse(Array("{\(members.joined(separator: ","))}".utf8)) else {
        Issue.record("no object")
        return
      }
      #expect(object["k1"] == .string("last") && object["k2"] == .integer(2) && object["none"] == nil)
    }
  }

  @Test("an object knows its own text")
  func ranges() throws {
    let text = Array(#"{"x": 1, "schema" : {"b": [1.0], "a": {} } , "y": 2}"#.utf8)
    guard case .object(let object) = try JSONParser.parse(text), case .object(let schema)? = object["schema"] else {
      Issue.record("no object")
      return
    }
    #expect(String(decoding: text[schema.range], as: UTF8.self) == #"{"b": [1.0], "a": {} }"#)
  }
}

@Suite struct GatewayValueTests {
  @Test("trace contexts: the W3C examples and what must not be taken")
  func traces() {
    let good = TraceContext(
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", requestID: "a-1")
    #expect(good.traceID == "0af7651916cd43dd8448eb211c80319c" && good.parentID == "b7ad6b7169203331" && good.isSampled)
    #expect(good.requestID == "a-1")
    let unsampled = TraceContext(
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", requestID: nil)
    #expect(!unsampled.isSampled && unsampled.requestID.hasPrefix("req-"))
    let later = TraceContext(
      traceparent: "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", requestID: nil)
    #expect(later.traceID == "0af7651916cd43dd8448eb211c80319c")
    for bad in [
      "", "00", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
      "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
    ] {
      let made = TraceContext(traceparent: bad, requestID: nil)
      #expect(
        made.traceID != "0af7651916cd43dd8448eb211c80319c" && made.traceID.count == 32 && made.parentID.count == 16,
        "\(bad)")
    }
  }

  @Test("errors of the runtime get their status, and a path of this machine is told to nobody")
  func errors() {
    let cases: [(FusionRouteError, Int, String?)] = [
      (.badInput("x"), 400, nil), (.unavailable("x"), 503, "unavailable"), (.internal("x"), 500, "internal_error"),
      (FusionRouteError(.overloaded, "x"), 429, "rate_limit_exceeded"),
      (FusionRouteError(.deadlineExceeded, "x"), 504, "deadline_exceeded"), (.interrupted("x"), 503, "shutting_down"),
    ]
    for (error, status, code) in cases {
      let told = GatewayError(error, retryAfter: .milliseconds(1500))
      #expect(told.status.code == status && told.code == code, "\(error.code)")
      #expect((told.retryAfter != nil) == (status == 429 || status == 503))
    }
    #expect(GatewayError(FusionRouteError(.overloaded, "x"), retryAfter: .milliseconds(1500)).retryAfter == 2)
    let hidden = GatewayError(
      FusionRouteError.badInput("the template of /home/a/r.gguf is odd"), hiding: ["/home/a/r.gguf"])
    #expect(hidden.message == "the template of the router is odd")
    #expect(GatewayError(CancellationError()).status.code == 500)
    // The client is pointed to the log, which has it.
    let own = GatewayError(FusionRouteError.internal("a row is odd", cause: FusionRouteError.badInput("of seven")))
    #expect(own.detail == "a row is odd (of seven)" && !String(decoding: own.body, as: UTF8.self).contains("odd"))
  }

  @Test("connections beyond the limit are refused, and the log is told once until there is room to spare")
  func connections() {
    let count = ConnectionCount(limit: 20)
    for _ in 0..<20 { #expect(count.enter() == .admitted) }
    #expect(count.enter() == .refused(isFirst: true))
    #expect(count.enter() == .refused(isFirst: false))
    // Two refused and one admitted leave: full again at once, which is the same flood.
    for _ in 0..<3 { count.leave() }
    #expect(count.value == 19 && count.enter() == .admitted)
    #expect(count.enter() == .refused(isFirst: false))
    for _ in 0..<4 { count.leave() }
    #expect(count.value == 17)
    for _ in 0..<3 { #expect(count.enter() == .admitted) }
    #expect(count.enter() == .refused(isFirst: true))
  }

  @Test("memory for bodies is given back, and never more than there is")
  func budget() {
    let budget = BodyBudget(limit: 100)
    var first: BodyBudget.Share? = budget.share()
    let second = budget.share()
    #expect(first?.take(60) == true && second.take(41) == false && second.take(40) == true && first?.take(1) == false)
    first = nil
    #expect(budget.bytes == 40 && second.take(60))
  }

  @Test("shutting down waits for those inside, ends those that stay, and lets nobody in")
  func gate() async throws {
    let gate = DrainGate()
    let ended = Mutex(0)
    var quick: DrainGate.Pass? = try gate.enter { ended.withLock { $0 += 1 } }
    async let drained: Void = gate.drain(grace: .seconds(30))
    while !gate.isDraining { await Task.yield() }
    #expect(throws: GatewayError.shuttingDown) { try gate.enter {} }
    #expect(quick != nil && gate.running == 1)
    quick = nil
    await drained
    #expect(gate.running == 0 && ended.withLock { $0 } == 0)
    let other = DrainGate()
    let stays = try other.enter { ended.withLock { $0 += 1 } }
    await other.drain(grace: .milliseconds(1))
    #expect(ended.withLock { $0 } == 1)
    withExtendedLifetime(stays) {}
  }

  @Test("descriptors that others need are left to them")
  func descriptors() {
    #expect(DescriptorLimit.connections(wanted: 4096, descriptors: 1 << 20, reserved: 256) == 4096)
    #expect(DescriptorLimit.connections(wanted: 4096, descriptors: 1024, reserved: 256) == 768)
    #expect(DescriptorLimit.connections(wanted: 4096, descriptors: 100, reserved: 256) == 1)
    #expect(DescriptorLimit.raise() >= DescriptorLimit.current)
  }

  @Test("text for Prometheus: labels are escaped, buckets cumulate")
  func prometheus() {
    var histogram = Histogram(bounds: [1, 2])
    for value in [0.5, 1, 1.5, 9] { histogram.record(value) }
    var text = PrometheusText()
    text.family("a_seconds", .histogram, "Help.")
    text.sample(histogram, [("who", "a\"b\\c\nd")])
    #expect(
      text.text == #"""
        # HELP a_seconds Help.
        # TYPE a_seconds histogram
        a_seconds_bucket{who="a\"b\\c\nd",le="1.0"} 2
        a_seconds_bucket{who="a\"b\\c\nd",le="2.0"} 3
        a_seconds_bucket{who="a\"b\\c\nd",le="+Inf"} 4
        a_seconds_sum{who="a\"b\\c\nd"} 12.0
        a_seconds_count{who="a\"b\\c\nd"} 4

        """#)
    // A quote that is one Character with what is before it.
    text.sample(1, [("who", "\u{600}\"} 2")])
    let line = "a_seconds{who=\"\u{600}\\\"} 2\"} 1\n".utf8
    #expect(text.text.utf8.suffix(line.count).elementsEqual(line))
  }
}
