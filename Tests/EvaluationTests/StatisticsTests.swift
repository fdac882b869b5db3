import Core
import Testing

@testable import Evaluation

@Suite struct StatisticsTests {
  /// numpy.quantile(x, q), numpy 2.4.
  @Test func quantilesAreNumpys() throws {
    let values = [-2.0, 0.3, 1.5, 4, 4, 7.25, 9.5]
    for (share, expected) in [
      (0, -2), (0.025, -1.655), (0.1, -0.62), (0.5, 4), (0.77, 6.015), (0.975, 9.1625), (1, 9.5),
    ] {
      #expect(abs(try #require(Statistics.quantile(values, share)) - expected) < 1e-12, "\(share)")
    }
    #expect(Statistics.quantile([], 0.5) == nil)
    #expect(Statistics.quantile([3], 0.9) == 3)
  }

  /// scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue, scipy 1.17.
  @Test func signTestIsScipys() {
    for (wins, losses, expected) in [
      (0, 0, 1.0), (1, 0, 1.0), (5, 1, 0.21875), (10, 10, 1.0), (12, 30, 0.007915897334896727),
      (100, 141, 0.009831541178608736), (3, 250, 3.729799529869939e-70),
    ] {
      let value = Statistics.signTest(wins: wins, losses: losses)
      #expect(abs(value - expected) <= 1e-9 * expected, "\(wins) : \(losses) gave \(value)")
      #expect(value == Statistics.signTest(wins: losses, losses: wins))
    }
  }

  /// Of every whole second those under way get equal parts, which is counted second by second here.
  @Test(arguments: 1...20) func timeIsSharedByWhatIsUnderWay(seed: UInt64) {
    var random = seededGenerator("shared time", default: seed)
    let spans = (0..<1 + random.below(12)).map { _ in
      let start = random.below(20)
      return start..<start + random.below(15)
    }
    var time = SharedTime()
    var starts: [Int: Double] = [:]
    var shares: [Int: Double] = [:]
    for now in 0...40 {
      for (index, span) in spans.enumerated() where span.lowerBound == now {
        starts[index] = time.begin(at: Double(now))
      }
      for (index, span) in spans.enumerated() where span.upperBound == now {
        shares[index] = time.end(at: Double(now), since: starts[index] ?? .nan)
      }
    }
    for (index, span) in spans.enumerated() {
      let expected = span.reduce(0.0) { sum, second in sum + 1 / Double(spans.count { $0.contains(second) }) }
      #expect(abs((shares[index] ?? .nan) - expected) < 1e-9, "seed \(seed), \(span) of \(spans)")
    }
    let busy = (0..<40).count { second in spans.contains { $0.contains(second) } }
    #expect(abs(shares.values.reduce(0, +) - Double(busy)) < 1e-9, "seed \(seed), \(spans)")
  }

  /// The binomial sum in whole numbers, for every small table.
  @Test func signTestIsTheExactSum() {
    for count in 1...30 {
      var row = [1.0]
      for _ in 0..<count { row = zip([0] + row, row + [0]).map(+) }
      for wins in 0...count {
        let tail = row[0...min(wins, count - wins)].reduce(0, +) / row.reduce(0, +)
        let value = Statistics.signTest(wins: wins, losses: count - wins)
        #expect(abs(value - min(1, 2 * tail)) < 1e-12, "\(wins) of \(count)")
      }
    }
  }

  /// Mean and spread of the replicates are those that sampling theory gives.
  @Test func replicatesFollowTheory() throws {
    var random = seededGenerator("replicates", default: 41)
    for _ in 0..<10 {
      let count = 20 + random.below(300)
      let values = (0..<count).map { _ in random.uniform() < 0.3 ? 1.0 : 0.0 }
      let mean = try #require(Statistics.mean(values))
      let deviation = (mean * (1 - mean) / Double(count)).squareRoot()
      let drawn = Bootstrap(resamples: 4_000, seed: random.next()).replicates(values, stratum: "math")
      let average = try #require(Statistics.mean(drawn))
      // Five standard errors of each estimate.
      #expect(abs(average - mean) < 5 * deviation / 4_000.0.squareRoot(), "of \(count)")
      let spread = (drawn.reduce(0) { $0 + ($1 - average) * ($1 - average) } / 3_999).squareRoot()
      #expect(abs(spread - deviation) < 5 * deviation / 8_000.0.squareRoot(), "of \(count)")
    }
  }

  /// About 95 of 100 intervals hold the rate that the values were drawn with.
  @Test func intervalsCover() throws {
    var random = seededGenerator("coverage", default: 42)
    var covered = 0
    for _ in 0..<200 {
      let values = (0..<120).map { _ in random.uniform() < 0.4 ? 1.0 : 0.0 }
      let drawn = Bootstrap(resamples: 800, seed: random.next()).replicates(values, stratum: "a")
      let interval = try #require(Bootstrap.interval(drawn))
      if interval.lower <= 0.4, 0.4 <= interval.upper { covered += 1 }
    }
    // Binomial with p = 0.95: below 178 with probability 4e-4, and the percentile interval is a little too narrow.
    #expect((176...199).contains(covered), "\(covered) of 200")
  }

  /// Draws are the same for every method, so that differences are paired, and others for other tasks and seeds.
  @Test func drawsArePaired() {
    var random = seededGenerator("pairing", default: 43)
    let (a, b) = ((0..<50).map { _ in random.uniform() }, (0..<50).map { _ in random.uniform() })
    let bootstrap = Bootstrap(resamples: 300, seed: random.next())
    let (first, second) = (bootstrap.replicates(a, stratum: "math"), bootstrap.replicates(b, stratum: "math"))
    let differences = bootstrap.replicates(zip(a, b).map(-), stratum: "math")
    for index in differences.indices { #expect(abs(first[index] - second[index] - differences[index]) < 1e-12) }
    #expect(bootstrap.replicates(a, stratum: "math") == first)
    #expect(bootstrap.replicates(a, stratum: "code") != first)
    #expect(Bootstrap(resamples: 300, seed: bootstrap.seed &+ 1).replicates(a, stratum: "math") != first)
  }

  /// Outcomes in thirds that cancel out are zero, not a rounding beside it.
  @Test func zeroIsZero() {
    let thirds = [1.0 / 3, 1.0 / 3, -2.0 / 3, 2.0 / 3, -1.0 / 3, -1.0 / 3]
    let drawn = Bootstrap(resamples: 2_000, seed: 5).replicates(thirds, stratum: "x")
    #expect(drawn.contains(0) && drawn.allSatisfy { $0 == 0 || abs($0) > 1e-3 })
    let mean = Bootstrap.average([[0.1], [0.2], [-0.3]])
    #expect(0.1 + 0.2 - 0.3 != 0 && mean == [0])
  }

  @Test func pValuesCountBothSides() {
    #expect(Bootstrap.pValue([1, 2, 3, 4, 5, 6, 7, 8, 9]) == 0.2)
    #expect(Bootstrap.pValue([-1, 1, 1, 1, 1, 1, 1, 1, 1]) == 0.4)
    #expect(Bootstrap.pValue([0, 0, 0]) == 1)
    #expect(Bootstrap.average([[1, 2], [3, 6]]) == [2, 4])
    #expect(Bootstrap.average([[1, 2], []]) == nil && Bootstrap.average([]) == nil)
  }
}
