import Coordinator
import Foundation
import Testing

@testable import fusionroute

@Suite struct StyleTests {
  @Test(
    arguments: [
      (true, ColorChoice.auto, [:], Style.Depth.indexed), (false, .auto, [:], .none),
      (true, .auto, ["NO_COLOR": "1"], .none), (true, .auto, ["NO_COLOR": ""], .indexed),
      (true, .auto, ["TERM": "dumb"], .none), (true, .auto, ["COLORTERM": "truecolor"], .full),
      (false, .always, ["NO_COLOR": "1"], .indexed), (true, .never, ["COLORTERM": "24bit"], .none),
    ] as [(Bool, ColorChoice, [String: String], Style.Depth)])
  func colours(_ isTerminal: Bool, _ choice: ColorChoice, _ environment: [String: String], _ depth: Style.Depth) {
    #expect(Style.depth(isTerminal: isTerminal, choice: choice, environment: environment) == depth)
  }

  @Test func characters() {
    #expect(Style.showsUnicode(["LANG": "en_US.UTF-8"]))
    #expect(Style.showsUnicode(["LANG": "C.utf8"]))
    #expect(!Style.showsUnicode(["LANG": "en_US.UTF-8", "LC_ALL": "C"]))
    #expect(!Style.showsUnicode([:]))
  }

  /// Distinct to every eye that the palette claims to serve: the colours differ clearly after the common simulations
  /// (Machado, Oliveira and Fernandes 2009, severity 1).
  @Test func paletteForColourBlindEyes() {
    let matrices: [String: [[Double]]] = [
      "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
      "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
      ],
      "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
      ],
    ]
    func linear(_ value: Int) -> Double {
      let v = Double(value) / 255
      return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4)
    }
    for (name, matrix) in matrices {
      let seen = Palette.colors.map { color -> [Double] in
        let rgb = [linear(color.red), linear(color.green), linear(color.blue)]
        return matrix.map { row in zip(row, rgb).reduce(0) { $0 + $1.0 * $1.1 } }
      }
      for i in seen.indices {
        for j in seen.indices where j < i {
          let distance = zip(seen[i], seen[j]).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
          #expect(distance > 0.07, "\(name): colours \(i) and \(j) are \(distance) apart")
        }
      }
    }
  }
}

@Suite struct TokenPainterTests {
  let style = Style(isTerminal: true, depth: .indexed)

  /// Text without its escape sequences.
  func plain(_ text: String) -> String { text.replacing(/\u{1B}\[[0-9;]*m/, with: "") }

  @Test func changesColourOnlyWhereTheExpertChanges() {
    var painter = TokenPainter(style: style, experts: ["a", "b"])
    let parts = [("one", "a"), (" two", "a"), (" three", "b"), ("", "a"), (" four", nil)].map {
      painter.paint($0.0, expert: $0.1)
    }
    let text = parts.joined() + painter.finish()
    #expect(plain(text) == "one two three four")
    #expect(parts[0] == "\u{1B}[38;5;74mone")
    #expect(parts[1] == " two")
    #expect(parts[2] == "\u{1B}[0m\u{1B}[38;5;178m three")
    #expect(parts[3].isEmpty)
    #expect(parts[4] == "\u{1B}[0m four")
  }

  @Test func withoutColoursTheTextIsUntouched() {
    var painter = TokenPainter(style: Style(isTerminal: false, depth: .none), experts: ["a"])
    let text = "a\u{1B}[31m\u{7}b\r\n"
    #expect(painter.paint(text, expert: "a") + painter.finish() == text)
  }

  @Test func aModelCannotSteerTheTerminal() {
    var painter = TokenPainter(style: Style(isTerminal: true, depth: .none), experts: ["a"])
    #expect(painter.paint("a\u{1B}]0;x\u{7}\u{9B}2J\tb\n", expert: "a") == "a\u{FFFD}]0;x\u{FFFD}\u{FFFD}2J\tb\n")
  }

  @Test func moreExpertsThanColours() {
    let sequences = (0..<28).map { Palette.sequence($0, depth: .full) }
    #expect(Set(sequences).count == 28)
  }
}

@Suite struct SummaryTests {
  @Test(arguments: [0.0, 0.001, 0.2, 0.5, 0.999, 1, .nan, 2, -1]) func barsHaveTheirWidth(_ share: Double) {
    for width in [8, 13, 32] {
      for unicode in [true, false] {
        let bar = Summary.bar(share, width: width, unicode: unicode)
        #expect(bar.count == width)
        let isEmpty = bar.allSatisfy { $0 == " " || $0 == "." }
        #expect(isEmpty == !(share > 0), "\(share): \(bar)")
      }
    }
  }

  @Test func table() {
    var totals = RunTotals()
    totals.answers = 2
    totals.promptTokens = 30
    totals.generatedTokens = 40
    totals.tokensPerExpert = ["a": 30, "long-name": 10]
    totals.prefill = .milliseconds(500)
    totals.decode = .seconds(2)
    totals.followingTokens = 38
    let text = Summary.table(
      totals, experts: ["a", "long-name"], style: Style(isTerminal: false, depth: .none, unicode: false, width: 60))
    #expect(
      text == """
          a          #################......   75 %     30 tokens
          long-name  ######.................   25 %     10 tokens
          2 answers, 40 tokens, 19.0 tokens/s, first token after 0.25 s, 30 prompt tokens

        """)
  }
}

@Suite struct JSONTextTests {
  /// Foundation's parser reads back what was written.
  @Test func strings() throws {
    let texts = ["", "a\"b\\c/d", "\u{0}\u{1}\u{1F}\u{7F}\u{9B}", "\n\r\t\u{2028}", "日本語 🙂 e\u{301}", "\u{FFFD}"]
    for text in texts {
      let data = Data("[\(JSONText.string(text))]".utf8)
      #expect(try JSONSerialization.jsonObject(with: data) as? [String] == [text])
      #expect(JSONText.string(text).filter(\.isNewline).isEmpty)
    }
  }

  @Test func numbersReadBackExactly() throws {
    for value: Float in [0, -0.0, 12.5, 0.1, 1e-30, 3.4e38, -7.25, 16_777_216, Float(bitPattern: 3)] {
      let text = JSONText.float(value).rendered
      let read = try JSONDecoder().decode([Float].self, from: Data("[\(text)]".utf8))
      #expect(read[0].bitPattern == value.bitPattern || (value == 0 && read[0] == 0), "\(text)")
    }
    #expect(JSONText.float(.nan).rendered == "null")
    #expect(JSONText.number(-.infinity).rendered == "null")
  }

  @Test func orderIsKept() {
    #expect(
      JSONText.object([("b", .integer(1)), ("a", .array([.null, .bool(true)]))]).rendered
        == "{\"b\":1,\"a\":[null,true]}")
  }
}
