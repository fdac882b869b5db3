internal import Core

/// The difference between one expert and the base: an expert's own weights less the base's, or what an adapter adds.
struct TaskVector: Sendable {
  private enum Source: Sendable {
    case model(GGUFFile)
    /// By the name of the tensor that it adds to.
    case adapter(GGUFFile, [String: Factors])
  }

  /// B·A with rows of `a` and `b` as the file has them, in memory: they are small.
  private struct Factors: Sendable {
    var a: [Float]
    var b: [Float]
    var rank: Int
    var scale: Float
    /// An adapter of the embedding is applied to its rows, not to its columns.
    var isEmbedding: Bool
  }

  let path: String
  private let source: Source

  /// Throws `.badInput` naming the file and what does not fit the base.
  init(_ path: String, base: GGUFFile) throws {
    self.path = path
    let file = try GGUFFile.read(path)
    try file.requireWhole()
    if file["general.type"]?.string == "adapter" || file["adapter.type"] != nil {
      source = .adapter(file, try Self.factors(of: file, base: base))
    } else {
      try Self.check(file, against: base)
      source = .model(file)
    }
  }

  /// Whether it changes a tensor at all.
  func changes(_ tensor: GGUFTensor) -> Bool {
    switch source {
    case .model: true
    case .adapter(_, let factors): factors[tensor.name] != nil
    }
  }

  /// The difference in some rows of a tensor.
  ///
  /// - Parameters:
  ///   - base: the base's values in these rows.
  ///   - out: as long as `base`.
  func read(
    _ tensor: GGUFTensor, rows: Range<Int>, base: UnsafeBufferPointer<Float>,
    into out: UnsafeMutableBufferPointer<Float>
  ) throws {
    switch source {
    case .model(let file):
      guard let own = file.tensor(named: tensor.name) else {
        throw FusionRouteError.internal("\(path) has lost tensor '\(tensor.name)'")
      }
      try file.floats(of: own, rows: rows, into: out)
      for index in out.indices { out[index] -= base[index] }
    case .adapter(_, let factors):
      out.update(repeating: 0)
      guard let factors = factors[tensor.name] else { return }
      Self.multiply(factors, rows: rows, width: tensor.rowLength, into: out)
    }
    guard out.allSatisfy(\.isFinite) else {
      throw FusionRouteError.badInput(
        "\(path): tensor '\(tensor.name)' has a value that is no finite number: the file is damaged or its training "
          + "diverged")
    }
  }

  private static func multiply(
    _ factors: Factors, rows: Range<Int>, width: Int, into out: UnsafeMutableBufferPointer<Float>
  ) {
    let (rank, scale) = (factors.rank, factors.scale)
    factors.a.withUnsafeBufferPointer { a in
      factors.b.withUnsafeBufferPointer { b in
        for (line, row) in rows.enumerated() {
          let target = UnsafeMutableBufferPointer(rebasing: out[line * width..<(line + 1) * width])
          for r in 0..<rank {
            // W: b is [outputs][rank], a is [rank][inputs]; embedding: a is [tokens][rank], b is [width][rank].
            let weight = scale * (factors.isEmbedding ? a[row * rank + r] : b[row * rank + r])
            guard weight != 0 else { continue }
            if factors.isEmbedding {
              for column in 0..<width { target[column] += weight * b[column * rank + r] }
            } else {
              let line = r * width
              for column in 0..<width { target[column] += weight * a[line + column] }
            }
          }
        }
      }
    }
  }

  // MARK: Checks

  private static func check(_ file: GGUFFile, against base: GGUFFile) throws {
    guard file.architecture == base.architecture else {
      throw FusionRouteError.badInput(
        "\(file.path) is of the architecture \"\(file.architecture ?? "")\" and the base of \"\(base.architecture ?? "")\": "
          + "only experts trained from the base can be merged")
    }
    for tensor in base.tensors {
      guard let own = file.tensor(named: tensor.name) else {
        throw FusionRouteError.badInput(
          "\(file.path) has no tensor '\(tensor.name)', which the base has: only experts trained from the base can be "
            + "merged")
      }
      guard own.dimensions == tensor.dimensions else {
        throw FusionRouteError.badInput(
          "\(file.path): tensor '\(tensor.name)' has the shape \(own.dimensions) and the base's \(tensor.dimensions)")
      }
      try checkReadable(own, file)
    }
    if let more = file.tensors.first(where: { base.tensor(named: $0.name) == nil }) {
      throw FusionRouteError.badInput(
        "\(file.path) has a tensor '\(more.name)', which the base has not: only experts trained from the base can be "
          + "merged")
    }
    try checkVocabulary(file, against: base)
  }

  private static func checkVocabulary(_ file: GGUFFile, against base: GGUFFile) throws {
    let key = "tokenizer.ggml.tokens"
    guard let count = base.arrayCount(key) else { return }
    let own = file.arrayCount(key) ?? 0
    let differing = (0..<min(count, own)).first { file.string(in: key, at: $0) != base.string(in: key, at: $0) }
    guard differing != nil || own != count else { return }
    throw FusionRouteError.badInput(
      "\(file.path) has other tokens than the base, from id \(differing ?? min(count, own)) on: only experts trained from "
        + "the base can be merged")
  }

  static func checkReadable(_ tensor: GGUFTensor, _ file: GGUFFile) throws {
    guard tensor.type.isReadable else {
      throw FusionRouteError.badInput(
        "\(file.path): tensor '\(tensor.name)' is stored as \(tensor.type.name), which cannot be turned into floats")
    }
  }

  private static func factors(of file: GGUFFile, base: GGUFFile) throws -> [String: Factors] {
    guard file["adapter.type"]?.string == "lora" else {
      throw FusionRouteError.badInput("\(file.path) is an adapter of another kind than LoRA")
    }
    let tokens = "adapter.alora.invocation_tokens"
    guard file[tokens] == nil else {
      throw FusionRouteError.badInput(
        "\(file.path) has \(tokens): it acts behind certain tokens only, so it has no difference to merge")
    }
    guard file.architecture == base.architecture else {
      throw FusionRouteError.badInput(
        "\(file.path) is for the architecture \"\(file.architecture ?? "")\", not the base's \"\(base.architecture ?? "")\""
      )
    }
    let (first, second) = (".lora_a", ".lora_b")
    var result: [String: Factors] = [:]
    for a in file.tensors where a.name.hasSuffix(first) {
      let name = String(a.name.dropLast(first.utf8.count))
      guard let b = file.tensor(named: name + second) else {
        throw FusionRouteError.badInput("\(file.path) has '\(a.name)' without '\(name + second)'")
      }
      guard let target = base.tensor(named: name) else {
        throw FusionRouteError.badInput(
          "\(file.path) changes '\(name)', which the base has not: it is for another model")
      }
      result[name] = try factors(a, b, target: target, of: file)
    }
    if let alone = file.tensors.first(where: { tensor in
      !tensor.name.hasSuffix(first)
        && !(tensor.name.hasSuffix(second) && result[String(tensor.name.dropLast(second.utf8.count))] != nil)
    }) {
      throw FusionRouteError.badInput("\(file.path): tensor '\(alone.name)' is no part of a LoRA adapter")
    }
    guard !result.isEmpty else { throw FusionRouteError.badInput("\(file.path) is an adapter that changes nothing") }
    return result
  }

  private static func factors(
    _ a: GGUFTensor, _ b: GGUFTensor, target: GGUFTensor, of file: GGUFFile
  ) throws -> Factors {
    try checkReadable(a, file)
    try checkReadable(b, file)
    let isEmbedding = target.name.hasSuffix("token_embd.weight")
    let rank = b.rowLength
    let shapes =
      isEmbedding
      ? (a: [rank, target.rowCount], b: [rank, target.rowLength])
      : (a: [target.rowLength, rank], b: [rank, target.rowCount])
    func fits(_ tensor: GGUFTensor, _ shape: [Int]) -> Bool {
      // A dimension of one at the end is left out.
      tensor.dimensions == shape || (shape[1] == 1 && tensor.dimensions == [shape[0]])
    }
    guard target.dimensions.count <= 2, fits(a, shapes.a), fits(b, shapes.b) else {
      throw FusionRouteError.badInput(
        "\(file.path): '\(a.name)' \(a.dimensions) and '\(b.name)' \(b.dimensions) do not fit the base's tensor of shape "
          + "\(target.dimensions)")
    }
    let alpha = file["adapter.lora.alpha"]?.float ?? 0
    guard alpha.isFinite else { throw FusionRouteError.badInput("\(file.path): adapter.lora.alpha is \(alpha)") }
    return Factors(
      a: try file.floats(of: a), b: try file.floats(of: b), rank: rank,
      // As llama.cpp does it: no alpha, no scaling.
      scale: alpha == 0 ? 1 : alpha / Float(rank), isEmbedding: isEmbedding)
  }
}
