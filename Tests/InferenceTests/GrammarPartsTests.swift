import Core
import Foundation
import Testing

@testable import Inference

extension Automaton {
  init(_ regex: Regex) throws {
    var steps = GrammarLimits.patternSteps
    try self.init(regex, steps: &steps)
  }

  func matches(_ text: some StringProtocol) -> Bool {
    var state = 0
    for scalar in text.unicodeScalars {
      guard let edge = states[state].edges.first(where: { $0.set.contains(scalar.value) }) else { return false }
      state = edge.target
    }
    return states[state].isAccepting
  }
}

@Suite struct ScalarSetTests {
  /// Against sets of numbers.
  @Test func operationsAreThoseOfSets() {
    let seed = UInt64.random(in: 0..<1 << 40)
    var generator = SplitMix64(seed: seed)
    func random() -> (ScalarSet, Set<UInt32>) {
      let ranges = (0..<Int.random(in: 0..<5, using: &generator)).map { _ -> ClosedRange<UInt32> in
        let low = UInt32.random(in: 0..<40, using: &generator)
        return low...(low + UInt32.random(in: 0..<9, using: &generator))
      }
      return (ScalarSet(ranges), Set(ranges.flatMap { Array($0) }))
    }
    func members(_ set: ScalarSet) -> Set<UInt32> { Set((0..<60).filter { set.contains($0) }) }
    for _ in 0..<400 {
      let (a, first) = random()
      let (b, second) = random()
      #expect(members(a) == first, "seed \(seed)")
      #expect(members(a.union(b)) == first.union(second), "seed \(seed)")
      #expect(members(a.subtracting(b)) == first.subtracting(second), "seed \(seed)")
      #expect(members(a.intersection(b)) == first.intersection(second), "seed \(seed)")
      #expect(
        zip(a.ranges, a.ranges.dropFirst()).allSatisfy { $0.upperBound + 1 < $1.lowerBound }, "seed \(seed)")
    }
  }
}

@Suite struct NumberRangeTests {
  @Test func integersAreThoseBetweenTheBounds() throws {
    let seed = UInt64.random(in: 0..<1 << 40)
    var generator = SplitMix64(seed: seed)
    for round in 0..<60 {
      let reach = [12, 130, 1100, 2500][round % 4]
      let bounds = (0..<2).map { _ in Int.random(in: -reach...reach, using: &generator) }.sorted()
      let range = NumberRange(fraction: 0, least: Int128(bounds[0]), most: Int128(bounds[1]))
      let automaton = try Automaton(try #require(range.regex))
      for number in -2600...2600 {
        let expected = bounds[0] <= number && number <= bounds[1]
        #expect(automaton.matches("\(number)") == expected, "\(number) in \(bounds), seed \(seed)")
      }
      for text in ["", "-", "-0", "00", "01", "-01", "1.", "1.0", "+1", "1e1"] {
        #expect(!automaton.matches(text), "\(text) in \(bounds)")
      }
    }
  }

  /// Against `Decimal`, which computes exactly with so few digits.
  @Test func decimalsAreThoseBetweenTheBounds() throws {
    let seed = UInt64.random(in: 0..<1 << 40)
    var generator = SplitMix64(seed: seed)
    func decimal(_ scaled: Int) -> Decimal { Decimal(scaled) / 1000 }
    for _ in 0..<40 {
      let bounds = (0..<2).map { _ in
        Int.random(in: -120...120, using: &generator) * [1, 10, 100, 1000].randomElement(using: &generator)!
      }.sorted()
      let range = NumberRange(fraction: 3, least: Int128(bounds[0]), most: Int128(bounds[1]))
      let automaton = try Automaton(try #require(range.regex))
      for _ in 0..<300 {
        let whole = Int.random(in: 0...130, using: &generator)
        let digits = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
          String([0, 0, 9, Int.random(in: 0..<10, using: &generator)].randomElement(using: &generator)!)
        }
        let near = bounds.randomElement(using: &generator)! / 1000
        let text =
          (Bool.random(using: &generator) ? "-" : "")
          + "\([whole, abs(near), abs(near) + 1].randomElement(using: &generator)!)"
          + (digits.isEmpty ? "" : "." + digits.joined())
        let value = try #require(Decimal(string: text))
        // Minus zero is no number that anyone needs.
        if value == 0, text.hasPrefix("-") { continue }
        #expect(
          automaton.matches(text) == (decimal(bounds[0]) <= value && value <= decimal(bounds[1])),
          "\(text) between \(decimal(bounds[0])) and \(decimal(bounds[1])), seed \(seed)")
      }
    }
  }

  @Test func theWidestRangesAreSmallEnough() throws {
    let most = NumberRange.largest(fraction: 6)
    for (low, high) in [(-most, most), (-most + 123_456, most / 7), (1, most - 1), (most, most)] {
      let automaton = try Automaton(try #require(NumberRange(fraction: 6, least: low, most: high).regex))
      #expect(automaton.states.count < 400)
    }
    #expect(NumberRange(fraction: 0, least: 5, most: 4).regex == nil)
  }
}

@Suite struct PatternTests {
  /// In the subset that engines agree on.
  static let patterns = [
    "^abc$", "abc", "^a|b$", "^(a|b)*c$", "^(?:ab?){2,3}$", "^[a-c]+$", "^[^a-c]+$", "^a{0}b$", "^$", "", "^a.c$",
    "a|^b",
    #"^\d{2}-\d$"#, #"^\w+\s\w+$"#, #"^[\w.]+$"#, #"^\D+$"#, #"^\S\W$"#, #"^\.\*\\$"#, #"^[\]\-\\]+$"#, "^[a-]+$",
    #"^a\/b$"#,
    #"^\x41\u0042$"#, "^(a|ab)(c|bcd)$", "^(a*)*$", "^(a|a)*b$", "^a+?b??$", #"^[^\d]$"#, "^(|a)b$", "^ä€🙂$",
    "^[ä-ü]+$",
    #"^\t\n$"#, "^\"quoted\"$", "^(((a)))$", #"^[+*?.(){}|^$]+$"#, "^a{2,}$", "^]}$",
  ]
  /// Whatever the standard formats match too.
  private static let alphabet = Array("aabbccd01 .-*+?\\\"/^$(){}|]ABäü€🙂\t\nx")

  @Test(.enabled(if: Python.hasJSONSchema, "Python's jsonschema is not installed"), arguments: patterns)
  func matchWhatPythonMatches(_ pattern: String) throws {
    let automaton = try Automaton(try PatternParser.parse(pattern))
    let seed = UInt64.random(in: 0..<1 << 40)
    var generator = SplitMix64(seed: seed)
    let random = RandomTexts(automaton)
    // Random texts, and texts of the language with one change.
    var texts = ["", "a", "b", "abc", "ab", "abcd", "abbcd", "aaaa", "12-3", "a b", "AB", "a/b", "\t\n", "aab", "b\n"]
    for _ in 0..<150 {
      texts.append(
        String(
          (0..<Int.random(in: 0..<6, using: &generator)).map { _ in Self.alphabet.randomElement(using: &generator)! }))
      texts.append(random.text(using: &generator))
      var changed = Array(random.text(using: &generator).unicodeScalars)
      if let index = changed.indices.randomElement(using: &generator) {
        changed[index] = Self.alphabet.randomElement(using: &generator)!.unicodeScalars.first!
      }
      texts.append(String(String.UnicodeScalarView(changed)))
    }
    let schema = String(decoding: try JSONEncoder().encode(["pattern": pattern]), as: UTF8.self)
    let cases = try texts.map { (schema, String(decoding: try JSONEncoder().encode($0), as: UTF8.self)) }
    for (text, fault) in zip(texts, try Python.faults(cases)) {
      // Python's `$` also matches before a last line feed, and its classes reach beyond ASCII.
      let isOurs = automaton.matches(text)
      let mayDiffer =
        text.hasSuffix("\n") || pattern.contains("\\") && text.unicodeScalars.contains { !$0.isASCII || $0.value < 32 }
      #expect(isOurs == (fault == nil) || !isOurs && mayDiffer, "\(text.debugDescription), seed \(seed)")
    }
  }

  @Test(.enabled(if: Python.hasJSONSchema, "Python's jsonschema is not installed"), arguments: StringFormat.allCases)
  func formatsWriteWhatValidatorsTake(_ format: StringFormat) throws {
    let automaton = try Automaton(try PatternParser.parse(format.pattern))
    let seed = UInt64.random(in: 0..<1 << 40)
    var generator = SplitMix64(seed: seed)
    let random = RandomTexts(automaton)
    let texts = (0..<500).map { _ in random.text(using: &generator) }
    let cases = texts.map { (#"{"type":"string","format":"\#(format.rawValue)"}"#, "\"\($0)\"") }
    for (text, fault) in zip(texts, try Python.faults(cases)) { #expect(fault == nil, "\(text), seed \(seed)") }
  }

  /// The calendar is Foundation's.
  @Test func datesAreTheDaysOfTheCalendar() throws {
    let automaton = try Automaton(try PatternParser.parse(StringFormat.date.pattern))
    var calendar = Calendar(identifier: .iso8601)
    calendar.timeZone = try #require(TimeZone(secondsFromGMT: 0))
    func two(_ number: Int) -> String { (number < 10 ? "0" : "") + "\(number)" }
    for year in [1583, 1600, 1700, 1900, 1999, 2000, 2001, 2004, 2023, 2024, 2100, 2400, 9999] {
      for month in 0...13 {
        for day in 0...32 {
          let date = DateComponents(calendar: calendar, year: year, month: month, day: day)
          #expect(
            automaton.matches("\(year)-\(two(month))-\(two(day))") == date.isValidDate, "\(year)-\(month)-\(day)")
        }
      }
    }
    #expect(!automaton.matches("0000-01-01"))
    #expect(automaton.matches("0004-02-29") && !automaton.matches("0100-02-29") && automaton.matches("0400-02-29"))
  }

  @Test func usualTextsHaveTheirFormat() throws {
    let samples: [(StringFormat, Bool, [String])] = [
      (.time, true, ["10:00:00Z", "23:59:59.123+02:00"]), (.time, false, ["10:00", "24:00:00Z", "10:00:00", "1:0:0Z"]),
      (.dateTime, true, ["2024-02-29T10:00:00Z"]), (.dateTime, false, ["2023-02-29T10:00:00Z", "2024-02-29"]),
      (.uuid, true, ["123e4567-e89b-12d3-a456-426614174000"]), (.uuid, false, ["123e4567e89b12d3a456426614174000"]),
      (.email, true, ["a@b.de", "first.last+tag@mail.example.org"]),
      (.email, false, ["a@b", "@b.de", "a b@c.de", "a@.de"]),
      (.ipv4, true, ["0.0.0.0", "255.255.255.255", "10.1.99.100"]), (.ipv4, false, ["256.1.1.1", "01.1.1.1", "1.1.1"]),
    ]
    for (format, expected, texts) in samples {
      let automaton = try Automaton(try PatternParser.parse(format.pattern))
      for text in texts { #expect(automaton.matches(text) == expected, "\(text)") }
    }
  }
}

/// Texts of a language, not much longer than they must be.
struct RandomTexts {
  private let states: [Automaton.State]
  /// Characters from each state to the end of a text.
  private var distances: [Int]

  init(_ automaton: Automaton) {
    states = automaton.states
    distances = states.map { $0.isAccepting ? 0 : Int.max / 2 }
    var changed = true
    while changed {
      changed = false
      for (index, state) in states.enumerated() {
        let distance = 1 + (state.edges.map { distances[$0.target] }.min() ?? Int.max / 2)
        if distance < distances[index] { (distances[index], changed) = (distance, true) }
      }
    }
  }

  func text(using generator: inout SplitMix64) -> String {
    var text = String.UnicodeScalarView()
    var state = 0
    while !states[state].edges.isEmpty {
      if states[state].isAccepting, text.count > 24 || Int.random(in: 0..<3, using: &generator) == 0 { break }
      let near = states[state].edges.min { distances[$0.target] < distances[$1.target] }
      let edge = (text.count > 24 ? near : states[state].edges.randomElement(using: &generator))!
      text.append(
        Unicode.Scalar(UInt32.random(in: edge.set.ranges.randomElement(using: &generator)!, using: &generator))!)
      state = edge.target
    }
    return String(text)
  }
}
