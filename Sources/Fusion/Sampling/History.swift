public import Core

/// What the penalties need to know of the text so far.
public struct History: Sendable, Equatable {
  /// Tokens that the repetition penalty looks back on, prompt included.
  public static let repetitionWindow = 64

  /// The prompt's last `repetitionWindow` tokens.
  private let promptTail: [Token]
  public private(set) var generated: [Token] = []
  /// How often each token was generated.
  public private(set) var counts: [Token: Int] = [:]

  public init(prompt: [Token]) {
    promptTail = Array(prompt.suffix(Self.repetitionWindow))
  }

  public mutating func append(_ token: Token) {
    generated.append(token)
    counts[token, default: 0] += 1
  }

  /// Keeps the first `count` generated tokens (all, if there are fewer).
  public mutating func truncate(generated count: Int) {
    while generated.count > max(0, count) {
      let token = generated.removeLast()
      if let left = counts[token], left > 1 { counts[token] = left - 1 } else { counts[token] = nil }
    }
  }

  /// The distinct tokens among the last `repetitionWindow`, ascending.
  public var window: [Token] {
    let fromGenerated = generated.suffix(Self.repetitionWindow)
    let fromPrompt = promptTail.suffix(Self.repetitionWindow - fromGenerated.count)
    let sorted = (fromPrompt + fromGenerated).sorted()
    var distinct: [Token] = []
    for token in sorted where token != distinct.last { distinct.append(token) }
    return distinct
  }
}
