/// Which numbered replicas of one expert (`math.0`, `math.1`, …) start and which leave, so that a supervisor keeps as many
/// as are wanted.
///
/// Those with the highest numbers leave, new ones take the lowest free numbers. One that was given up counts as missing
/// and frees its number: asking for replicas is another chance for it.
public struct ReplicaAdjustment: Sendable, Equatable {
  /// Names that were given up and are to be forgotten before anything starts.
  public private(set) var forgotten: [String] = []
  /// Highest number first.
  public private(set) var stopping: [String] = []
  /// Lowest number first.
  public private(set) var starting: [String] = []

  /// - Parameters:
  ///   - count: replicas wanted among `kept`.
  ///   - kept: names that are kept running where the count is to hold; other experts' are ignored.
  ///   - givenUp: names that ended and are not started again.
  ///   - taken: names that cannot be given away, wherever they are: also of those that have yet to end.
  public init(of expert: String, to count: Int, kept: Set<String>, givenUp: Set<String> = [], taken: Set<String>) {
    let running = kept.subtracting(givenUp).compactMap { Self.number(of: $0, expert: expert) }.sorted()
    let count = max(0, count)
    forgotten = kept.intersection(givenUp).compactMap { Self.number(of: $0, expert: expert) }.sorted()
      .map { Self.name(expert, $0) }
    stopping = running.dropFirst(count).reversed().map { Self.name(expert, $0) }
    let blocked = taken.subtracting(forgotten)
    starting = (0...).lazy.map { Self.name(expert, $0) }.filter { !blocked.contains($0) }
      .prefix(max(0, count - running.count)).map { $0 }
  }

  public static func name(_ expert: String, _ number: Int) -> String { "\(expert).\(number)" }

  /// The number in a replica's name; nil if it is another expert's.
  static func number(of replica: String, expert: String) -> Int? {
    guard replica.hasPrefix(expert + ".") else { return nil }
    let digits = replica.dropFirst(expert.count + 1)
    guard let number = Int(digits), number >= 0, name(expert, number) == replica else { return nil }
    return number
  }
}
