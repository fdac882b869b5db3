internal import Core
internal import Foundation
internal import ModelFiles

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#else
  internal import Darwin
#endif

/// How fast steps on random tokens are.
public enum TrainingBenchmark {
  public struct Result: Sendable {
    /// Of the median step.
    public var tokensPerSecond: Double
    public var products: String
    public var parameters: Int
    /// The process's largest resident memory.
    public var peakBytes: Int
  }

  /// - Parameter steps: measured ones; one more is run before them.
  public static func run(
    model path: String, mode: TrainingMode, sequences: Int, length: Int, steps: Int, options: EngineOptions
  ) throws -> Result {
    let engine = try TrainingEngine(GGUFFile.read(path), mode: mode, options: options)
    var generator = SplitMix64(seed: 1)
    let vocabulary = UInt64(engine.shape.vocabularySize)
    let batch = PassBatch(
      (0..<sequences).map { _ in
        let tokens = (0...length).map { _ in Token(generator.next() % vocabulary) }
        return TrainingSequence(tokens: tokens, response: length / 2 + 1)
      })
    let coefficients = [Float](repeating: 1 / Float(batch.rowCount), count: batch.rowCount)
    var seconds: [Double] = []
    for step in 0...steps {
      let start = ContinuousClock.now
      engine.zeroGradients()
      _ = try engine.forward(batch)
      try engine.backward(coefficients: coefficients)
      _ = try engine.update(AdamWOptions(), rates: UpdateRates(model: 1e-5, head: nil), steps: (step, 0))
      let duration = (ContinuousClock.now - start).components
      seconds.append(Double(duration.seconds) + 1e-18 * Double(duration.attoseconds))
    }
    let measured = seconds.dropFirst().sorted()
    return Result(
      tokensPerSecond: Double(sequences * length) / measured[measured.count / 2], products: engine.productName,
      parameters: engine.parameterCount, peakBytes: peakResidentBytes())
  }

  private static func peakResidentBytes() -> Int {
    var usage = rusage()
    #if canImport(Darwin)
      guard getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
      return usage.ru_maxrss
    #else
      guard getrusage(RUSAGE_SELF.rawValueForUsage, &usage) == 0 else { return 0 }
      return usage.ru_maxrss * 1024
    #endif
  }
}

#if !canImport(Darwin)
  extension __rusage_who {
    /// The same constant as the function's parameter wants it.
    fileprivate var rawValueForUsage: __rusage_who_t { __rusage_who_t(rawValue) }
  }
#endif
