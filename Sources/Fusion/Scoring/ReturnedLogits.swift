internal import Core

/// The distinct tokens of a partial row with their logits, ascending by token; checked.
struct ReturnedLogits {
  private(set) var tokens: [Token] = []
  private(set) var logits: [Float] = []
  /// Every logit whose token is not in `tokens` is at most this.
  let floor: Float

  /// Throws `contradictoryRow` where the row contradicts itself: sizes, order, ids, NaN or +∞, a floor above the
  /// least of the top, a named logit above the floor that is not in the top.
  init(_ row: PartialRow, vocabulary: Int) throws {
    floor = row.floor
    guard row.topIDs.count == row.topLogits.count, row.namedIDs.count == row.namedLogits.count else {
      throw Self.fault("has more ids than logits, or fewer")
    }
    guard row.floor < .infinity else { throw Self.fault("has the floor \(row.floor)") }
    do {
      try TokenList.check(row.namedIDs, vocabulary: vocabulary, called: "the named tokens")
    } catch let error as FusionRouteError {
      throw Self.fault("has wrong names (\(error.message))")
    }
    for i in row.topIDs.indices {
      let (id, logit) = (row.topIDs[i], row.topLogits[i])
      guard id >= 0, Int(id) < vocabulary else { throw Self.fault("has token \(id) of \(vocabulary)") }
      guard logit < .infinity, logit >= row.floor else {
        throw Self.fault("has logit \(logit) for token \(id) above the floor \(row.floor)")
      }
      if i > 0 {
        let (before, above) = (row.topIDs[i - 1], row.topLogits[i - 1])
        guard above > logit || (above == logit && before < id) else {
          throw Self.fault("lists token \(before) before token \(id), which ranks higher")
        }
      }
    }
    try merge(row)
  }

  private mutating func merge(_ row: PartialRow) throws {
    let order = row.topIDs.indices.sorted { row.topIDs[$0] < row.topIDs[$1] }
    tokens.reserveCapacity(order.count + row.namedIDs.count)
    logits.reserveCapacity(order.count + row.namedIDs.count)
    var named = row.namedIDs.startIndex
    func missing(_ index: Int) throws -> Float {
      let logit = row.namedLogits[index]
      guard logit <= row.floor else {
        throw Self.fault(
          "has logit \(logit) for token \(row.namedIDs[index]), named and not in the top, above the floor \(row.floor)")
      }
      return logit
    }
    for i in order {
      let id = row.topIDs[i]
      while named < row.namedIDs.endIndex, row.namedIDs[named] < id {
        tokens.append(row.namedIDs[named])
        logits.append(try missing(named))
        named += 1
      }
      guard id != tokens.last else { throw Self.fault("lists token \(id) twice") }
      if named < row.namedIDs.endIndex, row.namedIDs[named] == id {
        guard row.namedLogits[named].bitPattern == row.topLogits[i].bitPattern else {
          throw Self.fault("gives token \(id) the logits \(row.topLogits[i]) and \(row.namedLogits[named])")
        }
        named += 1
      }
      tokens.append(id)
      logits.append(row.topLogits[i])
    }
    while named < row.namedIDs.endIndex {
      tokens.append(row.namedIDs[named])
      logits.append(try missing(named))
      named += 1
    }
  }

  /// Whether `token` is among them.
  func contains(_ token: Token) -> Bool { index(of: token) != nil }

  func index(of token: Token) -> Int? {
    var low = 0
    var high = tokens.count
    while low < high {
      let middle = (low + high) / 2
      if tokens[middle] < token { low = middle + 1 } else { high = middle }
    }
    return low < tokens.count && tokens[low] == token ? low : nil
  }

  /// Calls `body` with every range of ids between the tokens, over 0 ..< `vocabulary`.
  func forEachGap(vocabulary: Int, _ body: (Range<Int>) -> Void) {
    var start = 0
    for token in tokens {
      if start < Int(token) { body(start..<Int(token)) }
      start = Int(token) + 1
    }
    if start < vocabulary { body(start..<vocabulary) }
  }

  private static func fault(_ what: String) -> FusionRouteError {
    FusionRouteError(
      .contradictoryRow, "the expert's partial row \(what): the worker is faulty or of another version")
  }
}
