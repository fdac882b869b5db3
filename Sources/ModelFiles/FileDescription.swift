/// What a GGUF file is, for a person (`text`) and as JSON (`Codable`).
public struct FileDescription: Codable, Sendable, Equatable {
  public enum Kind: String, Codable, Sendable {
    case model
    case adapter
    case routingHead = "routing-head"
    /// A GGUF file of another purpose.
    case other
  }

  /// How much of the file one storage type takes.
  public struct TypeShare: Codable, Sendable, Equatable {
    public var type: String
    public var tensors: Int
    public var parameters: Int
    public var bytes: Int
  }

  /// A token with a role, by id and text.
  public struct SpecialToken: Codable, Sendable, Equatable {
    public var id: Int
    public var text: String?
  }

  /// A value is nil where the file does not say, or says it per layer.
  public struct Model: Codable, Sendable, Equatable {
    public var layers: Int?
    public var embeddingWidth: Int?
    public var feedForwardWidth: Int?
    public var heads: Int?
    public var keyValueHeads: Int?
    public var headDimension: Int?
    /// Tokens.
    public var trainedContext: Int?
    /// Positions that a windowed layer sees.
    public var slidingWindow: Int?
    /// Every n-th layer sees everything.
    public var windowPattern: Int?
    public var ropeBase: Float?
    public var tiedOutput: Bool
    public var vocabularySize: Int?
    /// `tokenizer.ggml.model`: `llama` is SentencePiece, `gpt2` byte-level BPE.
    public var tokenizer: String?
    public var preTokenizer: String?
    public var beginningOfSequence: SpecialToken?
    public var endOfSequence: SpecialToken?
    public var addsBeginningOfSequence: Bool?
    public var chatTemplate: String?
    public var license: String?
  }

  public struct Adapter: Codable, Sendable, Equatable {
    /// `adapter.type`; this project runs `lora`.
    public var method: String?
    public var ranks: [Int]
    public var alpha: Float?
    /// Matrices that the adapter changes.
    public var matrices: Int
  }

  public struct Head: Codable, Sendable, Equatable {
    public struct Row: Codable, Sendable, Equatable {
      public var expert: String
      /// Euclidean norm of the row.
      public var norm: Float
      public var bias: Float?
    }

    public var embeddingWidth: Int
    public var complementScale: Float
    public var rows: [Row]
  }

  public var file: String
  public var kind: Kind
  public var architecture: String?
  public var name: String?
  public var bytes: Int
  public var version: Int
  public var tensors: Int
  public var parameters: Int
  /// The largest share first.
  public var types: [TypeShare]
  public var model: Model?
  public var adapter: Adapter?
  public var head: Head?
}

// MARK: - Text

extension FileDescription {
  /// A few aligned lines, without a line break at the end. Control characters of the file's texts are replaced, so that
  /// a hostile file cannot drive the terminal.
  public var text: String {
    var rows: [(String, String)] = []
    let what = kind == .other ? "GGUF file" : kind.rawValue.replacing("-", with: " ")
    rows.append(("kind", what + (architecture.map { " (\($0))" } ?? "")))
    if let name { rows.append(("name", name)) }
    rows.append(("size", "\(Self.size(bytes)), \(Self.count(parameters)) parameters in \(tensors) tensors"))
    if !types.isEmpty {
      rows.append(("types", types.map { "\($0.tensors) \($0.type) (\(Self.size($0.bytes)))" }.joined(separator: ", ")))
    }
    rows += model?.rows ?? []
    rows += adapter?.rows ?? []
    rows += head?.lines ?? []
    let width = rows.map(\.0.count).max() ?? 0
    let lines = rows.map { "  " + $0 + String(repeating: " ", count: width - $0.count + 2) + Self.printable($1) }
    return ([Self.printable(file)] + lines).joined(separator: "\n")
  }

  static func printable(_ text: String) -> String {
    String(
      String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
  }

  static func size(_ bytes: Int) -> String {
    for (unit, factor) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] where Double(bytes) >= factor {
      return "\(decimal(Double(bytes) / factor)) \(unit)"
    }
    return "\(bytes) bytes"
  }

  static func count(_ number: Int) -> String {
    for (unit, factor) in [("billion", 1e9), ("million", 1e6)] where Double(number) >= factor {
      return "\(decimal(Double(number) / factor)) \(unit)"
    }
    return "\(number)"
  }

  /// Three significant digits or all digits before the point.
  static func decimal(_ value: Double) -> String {
    if value >= 100 { return "\(Int(value.rounded()))" }
    let tenths = value >= 10
    let scaled = Int((value * (tenths ? 10 : 100)).rounded())
    let whole = scaled / (tenths ? 10 : 100)
    let rest = scaled % (tenths ? 10 : 100)
    return "\(whole)." + (tenths || rest > 9 ? "\(rest)" : "0\(rest)")
  }
}

extension FileDescription.Model {
  fileprivate var rows: [(String, String)] {
    var rows: [(String, String)] = []
    if let layers { rows.append(("layers", "\(layers)")) }
    if let embeddingWidth {
      rows.append(("width", "\(embeddingWidth)" + (feedForwardWidth.map { ", feed-forward \($0)" } ?? "")))
    }
    if let heads {
      let size = headDimension.map { " of \($0)" } ?? ""
      let grouped = keyValueHeads.map { $0 == heads ? "" : ", \($0) key/value heads (grouped queries)" } ?? ""
      rows.append(("attention", "\(heads) heads\(size)\(grouped)"))
    }
    if let slidingWindow {
      let pattern = windowPattern.map { ", every \(Self.ordinal($0)) layer sees everything" } ?? ""
      rows.append(("window", "\(slidingWindow) tokens\(pattern)"))
    }
    if let trainedContext { rows.append(("context", "\(trainedContext) tokens")) }
    if let ropeBase { rows.append(("RoPE base", "\(ropeBase)")) }
    rows.append(("output", tiedOutput ? "tied to the embedding" : "a matrix of its own"))
    if let vocabularySize { rows.append(("vocabulary", "\(vocabularySize) tokens\(tokenizerText)")) }
    if let token = beginningOfSequence {
      let added = addsBeginningOfSequence.map { $0 ? ", added to prompts" : ", not added to prompts" } ?? ""
      rows.append(("begins with", "\(token.text ?? "?") (\(token.id))\(added)"))
    }
    if let token = endOfSequence { rows.append(("ends with", "\(token.text ?? "?") (\(token.id))")) }
    if let chatTemplate {
      let first = chatTemplate.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
      let shown = first.count > 72 ? first.prefix(71) + "…" : first[...]
      rows.append(("chat template", "\(shown) (\(chatTemplate.count) characters)"))
    } else {
      rows.append(("chat template", "none"))
    }
    if let license { rows.append(("license", license)) }
    return rows
  }

  private var tokenizerText: String {
    guard let tokenizer else { return "" }
    let name = ["llama": "SentencePiece", "gpt2": "byte-level BPE"][tokenizer] ?? tokenizer
    return ", " + name + (preTokenizer.map { " (\($0))" } ?? "")
  }

  private static func ordinal(_ number: Int) -> String {
    let suffix = (11...13).contains(number % 100) ? "th" : [1: "st", 2: "nd", 3: "rd"][number % 10] ?? "th"
    return "\(number)\(suffix)"
  }
}

extension FileDescription.Adapter {
  fileprivate var rows: [(String, String)] {
    let rank = ranks.count == 1 ? "rank \(ranks[0])" : "ranks \(ranks.map(String.init).joined(separator: ", "))"
    let scale = alpha.map { ", alpha \($0)" } ?? ""
    return [("adapter", "\(method ?? "unknown method"), \(rank)\(scale), \(matrices) matrices")]
  }
}

extension FileDescription.Head {
  fileprivate var lines: [(String, String)] {
    var lines = [("width", "\(embeddingWidth)"), ("scale c", "\(complementScale)"), ("experts", "\(rows.count)")]
    lines += rows.map { ("  \($0.expert)", "row norm \($0.norm)" + ($0.bias.map { ", bias \($0)" } ?? "")) }
    return lines
  }
}
