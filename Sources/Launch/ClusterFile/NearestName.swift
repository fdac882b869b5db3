/// Which known name a misspelt one was meant to be.
public enum NearestName {
  /// The known name with the fewest edits from `name`, if there are few enough for a misspelling; ties go to the first.
  public static func find(_ name: String, among known: [String]) -> String? {
    let wanted = normalised(name)
    let limit = max(2, wanted.count / 3)
    return known.map { ($0, distance(wanted, normalised($0))) }
      .filter { $0.1 <= min(limit, max($0.0.count, wanted.count) - 1) }
      .min { $0.1 < $1.1 }?.0
  }

  private static func normalised(_ name: String) -> [Character] {
    Array(name.lowercased().map { $0 == "-" || $0 == " " ? "_" : $0 })
  }

  /// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours each count 1.
  static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var table = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
    for i in 0...a.count { table[i][0] = i }
    for j in 0...b.count { table[0][j] = j }
    for i in a.indices {
      for j in b.indices {
        var best = min(table[i][j + 1] + 1, table[i + 1][j] + 1, table[i][j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, table[i - 1][j - 1] + 1) }
        table[i + 1][j + 1] = best
      }
    }
    return table[a.count][b.count]
  }
}
