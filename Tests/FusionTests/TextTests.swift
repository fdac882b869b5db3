import Core
import Testing

@testable import Fusion

@Suite("Text from tokens")
struct TextTests {
  /// Cuts `items` into pieces of random length, empty ones among them.
  static func pieces<T>(_ items: [T], _ random: inout SplitMix64) -> [ArraySlice<T>] {
    var pieces: [ArraySlice<T>] = []
    var start = 0
    while start < items.count {
      let end = min(items.count, start + random.below(5))
      pieces.append(items[start..<end])
      start = end
    }
    return pieces
  }

  /// Every byte sequence that is the beginning of a character and not yet one.
  static let beginnings: Set<[UInt8]> = {
    var found: Set<[UInt8]> = []
    // Characters that differ in their last 6 bits have the same beginnings.
    for value in stride(from: UInt32(0x80), through: 0x10FFFF, by: 64) {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let bytes = Array(String(scalar).utf8)
      for length in 1..<bytes.count { found.insert(Array(bytes.prefix(length))) }
    }
    return found
  }()

  @Test("UTF-8 split anywhere gives the whole text, each character as soon as it is certain")
  func utf8() {
    var random = seededGenerator("UTF-8", default: 71)
    for _ in 0..<3_000 {
      var bytes: [UInt8] = []
      for _ in 0..<random.below(30) {
        switch random.below(4) {
        case 0: bytes.append(UInt8(random.below(256)))
        case 1: bytes.append(random.pick([0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xC0, 0x80, 0x9F, 0xA0, 0x90, 0xBF]))
        default: bytes += Array(String(random.pick(["a", "é", "€", "😀", "\u{10FFFF}", "\u{D7FF}", "\0"])).utf8)
        }
      }
      var assembler = TextAssembler()
      var text = ""
      var seen: [UInt8] = []
      for piece in Self.pieces(bytes, &random) {
        text += assembler.append(piece)
        seen += piece
        let held = (1...3).last { seen.count >= $0 && Self.beginnings.contains(Array(seen.suffix($0))) } ?? 0
        #expect(Array(text.utf8) == Array(String(decoding: seen.dropLast(held), as: UTF8.self).utf8), "\(bytes)")
      }
      text += assembler.finish()
      #expect(Array(text.utf8) == Array(String(decoding: bytes, as: UTF8.self).utf8), "\(bytes)")
      #expect(assembler.finish() == "")
    }
  }

  @Test("a character cut off at the end becomes U+FFFD, an invalid byte at once")
  func invalid() {
    var assembler = TextAssembler()
    #expect(assembler.append([0x68, 0xE2, 0x82]) == "h")
    #expect(assembler.append([0xAC]) == "€")
    #expect(assembler.append([0xFF]) == "\u{FFFD}")
    #expect(assembler.append([0xF0, 0x9F]) == "")
    #expect(assembler.append([0x41]) == "\u{FFFD}A")
    #expect(assembler.append([0xF0, 0x9F, 0x98]) == "")
    #expect(assembler.finish() == "\u{FFFD}")
  }

  /// Ends at the first byte where a stop string is complete, before the longest that ends there.
  static func naive(_ text: [UInt8], _ stops: [String]) -> (before: [UInt8], stop: String?) {
    for end in 0...text.count {
      let prefix = text[..<end]
      let ending = stops.filter { !$0.utf8.isEmpty && prefix.suffix($0.utf8.count).elementsEqual($0.utf8) }
      if let longest = ending.max(by: { $0.utf8.count < $1.utf8.count }) {
        return (Array(prefix.dropLast(longest.utf8.count)), longest)
      }
    }
    return (text, nil)
  }

  @Test("stop strings across pieces: the same result as on the whole text, nothing held back without need")
  func stops() throws {
    var random = seededGenerator("stop strings", default: 72)
    var found = 0
    for _ in 0..<4_000 {
      let alphabet = random.pick([["a", "b"], ["a", "b", "é", "😀"], ["\n", "#", "x"]])
      let stops = (0..<random.below(4)).map { _ in
        (0...random.below(4)).map { _ in random.pick(alphabet) }.joined()
      }
      let characters = (0..<random.below(40)).map { _ in random.pick(alphabet) }
      var matcher = try StopMatcher(stops)
      var (out, seen): ([UInt8], [UInt8]) = ([], [])
      var matched: String?
      for piece in Self.pieces(characters, &random) {
        let output = matcher.append(piece.joined())
        out += Array(output.text.utf8)
        if matched != nil { #expect(output == StopMatcher.Output(text: "", matched: nil)) }
        matched = matched ?? output.matched
        seen += Array(piece.joined().utf8)
        if matched == nil {
          // Held back: the longest end of the text that a stop string begins with.
          let longest =
            stops.map { stop in
              (0..<stop.utf8.count).last { seen.suffix($0).elementsEqual(stop.utf8.prefix($0)) } ?? 0
            }.max() ?? 0
          #expect(out == Array(seen.dropLast(longest)))
        }
      }
      if matched == nil { out += Array(matcher.finish().utf8) }
      let expected = Self.naive(Array(characters.joined().utf8), stops)
      #expect(out == expected.before && matched == expected.stop, "\(characters) \(stops)")
      #expect(matcher.stopped == expected.stop)
      if matched != nil { found += 1 }
    }
    #expect(found > 500)
  }

  @Test("stop strings: examples")
  func examples() throws {
    var matcher = try StopMatcher(["</s>", "User:"])
    #expect(matcher.append("Hello <") == .init(text: "Hello ", matched: nil))
    #expect(matcher.append("/p> Us") == .init(text: "</p> ", matched: nil))
    #expect(matcher.append("er") == .init(text: "", matched: nil))
    #expect(matcher.append(": more") == .init(text: "", matched: "User:"))
    #expect(matcher.append("x") == .init(text: "", matched: nil))
    #expect(matcher.finish() == "")
    matcher = try StopMatcher(["abcd", "bc"])
    #expect(matcher.append("xabcd") == .init(text: "xa", matched: "bc"))
    matcher = try StopMatcher(["bc", "abc"])
    #expect(matcher.append("xabc") == .init(text: "x", matched: "abc"))
    let error = #expect(throws: FusionRouteError.self) { try StopMatcher(["a", ""]) }
    #expect(error?.message == "stop string 2 of 2 is empty: leave it out")
  }
}
