internal import Core
internal import Foundation

/// Describes models, adapters and routing heads.
public enum FileInspector {
  /// A description for a person. Throws `.badInput` for a file that is damaged or breaks the rules of its kind.
  public static func describe(_ path: String) throws -> String { try inspect(path).text }

  /// The same as a value; `Codable`.
  public static func inspect(_ path: String) throws -> FileDescription {
    let file = try GGUFFile.read(path)
    var description = FileDescription(
      file: path, kind: .other, architecture: file.architecture, name: file["general.name"]?.string,
      bytes: file.fileBytes, version: file.version, tensors: file.tensors.count,
      parameters: file.tensors.reduce(0) { $0 + $1.elementCount }, types: types(of: file))
    if RoutingHead.isHead(file) {
      description.kind = .routingHead
      description.head = head(try RoutingHead.read(file))
    } else if file["general.type"]?.string == "adapter" {
      description.kind = .adapter
      description.adapter = adapter(file)
    } else if let architecture = file.architecture, file["\(architecture).block_count"] != nil {
      description.kind = .model
      description.model = model(file, architecture)
    }
    return description
  }

  private static func types(of file: GGUFFile) -> [FileDescription.TypeShare] {
    Dictionary(grouping: file.tensors, by: \.type).map { type, tensors in
      FileDescription.TypeShare(
        type: type.name, tensors: tensors.count, parameters: tensors.reduce(0) { $0 + $1.elementCount },
        bytes: tensors.reduce(0) { $0 + $1.byteCount })
    }.sorted { ($1.bytes, $0.type) < ($0.bytes, $1.type) }
  }

  private static func model(_ file: GGUFFile, _ architecture: String) -> FileDescription.Model {
    func integer(_ key: String) -> Int? { file["\(architecture).\(key)"]?.integer }
    func token(_ role: String) -> FileDescription.SpecialToken? {
      guard let id = file["tokenizer.ggml.\(role)_token_id"]?.integer else { return nil }
      return FileDescription.SpecialToken(id: id, text: file.string(in: "tokenizer.ggml.tokens", at: id))
    }
    let width = integer("embedding_length")
    let heads = integer("attention.head_count")
    let window = integer("attention.sliding_window").flatMap { $0 > 0 ? $0 : nil }
    let usual = ["gemma2": 2, "gemma3": 6][architecture]
    var derived: Int?
    if let width, let heads, heads > 0 { derived = width / heads }
    return FileDescription.Model(
      layers: integer("block_count"), embeddingWidth: width, feedForwardWidth: integer("feed_forward_length"),
      heads: heads, keyValueHeads: integer("attention.head_count_kv") ?? heads,
      headDimension: integer("attention.key_length") ?? derived, trainedContext: integer("context_length"),
      slidingWindow: window, windowPattern: window == nil ? nil : integer("attention.sliding_window_pattern") ?? usual,
      ropeBase: file["\(architecture).rope.freq_base"]?.float, tiedOutput: file.tensor(named: "output.weight") == nil,
      vocabularySize: file.arrayCount("tokenizer.ggml.tokens") ?? integer("vocab_size"),
      tokenizer: file["tokenizer.ggml.model"]?.string, preTokenizer: file["tokenizer.ggml.pre"]?.string,
      beginningOfSequence: token("bos"), endOfSequence: token("eos"),
      addsBeginningOfSequence: file["tokenizer.ggml.add_bos_token"]?.bool,
      chatTemplate: file["tokenizer.chat_template"]?.string, license: file["general.license"]?.string)
  }

  private static func adapter(_ file: GGUFFile) -> FileDescription.Adapter {
    let down = file.tensors.filter { $0.name.hasSuffix(".lora_a") }
    return FileDescription.Adapter(
      method: file["adapter.type"]?.string, ranks: Set(down.map(\.rowCount)).sorted(),
      alpha: file["adapter.lora.alpha"]?.float, matrices: down.count)
  }

  private static func head(_ head: RoutingHead) -> FileDescription.Head {
    let width = head.embeddingWidth
    let rows = head.experts.enumerated().map { index, expert in
      let row = head.weight[index * width..<(index + 1) * width]
      let norm = row.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      return FileDescription.Head.Row(expert: expert, norm: Float(norm), bias: head.bias?[index])
    }
    return FileDescription.Head(embeddingWidth: width, complementScale: head.complementScale, rows: rows)
  }
}

extension FileDescription {
  /// One JSON object on one line, keys sorted; what the file does not say is left out.
  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}
