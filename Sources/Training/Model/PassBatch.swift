public import Core

/// A sequence of tokens and the positions of it that are judged.
public struct TrainingSequence: Sendable, Equatable {
  /// Prompt and response, the end of turn included.
  public var tokens: [Token]
  /// Ascending positions p whose next token, tokens[p + 1], is judged.
  public var judged: [Int]

  public init(tokens: [Token], judged: [Int]) {
    self.tokens = tokens
    self.judged = judged
  }

  /// Judges every token from index `response` on.
  public init(tokens: [Token], response: Int) {
    self.init(tokens: tokens, judged: Array(max(0, response - 1)..<max(max(0, response - 1), tokens.count - 1)))
  }

  /// Positions that the model must see: the last token predicts nothing.
  public var inputCount: Int { max(0, tokens.count - 1) }
}

/// Sequences that are computed together.
public struct PassBatch: Sendable {
  public var sequences: [TrainingSequence]

  public init(_ sequences: [TrainingSequence]) { self.sequences = sequences }

  /// Judged positions of all sequences.
  public var rowCount: Int { sequences.reduce(0) { $0 + $1.judged.count } }

  /// The range of a sequence's judged positions among all.
  public var rowRanges: [Range<Int>] {
    var first = 0
    return sequences.map { sequence in
      defer { first += sequence.judged.count }
      return first..<first + sequence.judged.count
    }
  }

  /// Tokens that are computed, without and with what fills up shorter sequences.
  var tokenCount: Int { sequences.reduce(0) { $0 + $1.inputCount } }
  var paddedTokenCount: Int { shape.sequences * shape.length }

  var shape: PassShape {
    PassShape(
      sequences: sequences.count,
      length: PassShape.padded(sequences.map(\.inputCount).max() ?? 0, to: PassShape.lengthUnit),
      rows: PassShape.padded(rowCount, to: PassShape.rowUnit))
  }

  /// The next token at every judged position.
  public var targets: [Int32] {
    sequences.flatMap { sequence in sequence.judged.map { sequence.tokens[$0 + 1] } }
  }

  var paddedTokens: [Int32] {
    let length = shape.length
    return sequences.flatMap { sequence in
      sequence.tokens.prefix(sequence.inputCount) + [Int32](repeating: 0, count: length - sequence.inputCount)
    }
  }

  /// Judged positions as rows of all tokens; the padding repeats the first, with no weight.
  var paddedRows: [Int32] {
    let shape = self.shape
    var rows: [Int32] = []
    for (index, sequence) in sequences.enumerated() {
      rows += sequence.judged.map { Int32(index * shape.length + $0) }
    }
    return rows + [Int32](repeating: 0, count: shape.rows - rows.count)
  }

  func check(_ model: ModelShape) throws {
    guard !sequences.isEmpty, rowCount > 0 else {
      throw FusionRouteError.badInput("a batch has no position to learn from")
    }
    for sequence in sequences {
      guard sequence.inputCount > 0, sequence.inputCount <= model.context else {
        throw FusionRouteError.badInput(
          "a sequence has \(sequence.tokens.count) tokens, and the model takes 2 to \(model.context + 1)")
      }
      guard sequence.tokens.allSatisfy({ (0..<model.vocabularySize).contains(Int($0)) }) else {
        throw FusionRouteError.badInput("a sequence has a token outside the model's vocabulary")
      }
      guard zip(sequence.judged, sequence.judged.dropFirst()).allSatisfy({ $0 < $1 }),
        (sequence.judged.first ?? 0) >= 0, (sequence.judged.last ?? 0) < sequence.inputCount
      else { throw FusionRouteError.badInput("a sequence's judged positions lie outside it") }
    }
  }
}
