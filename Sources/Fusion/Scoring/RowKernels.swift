internal import Core
internal import Kernels

/// The C kernels over rows of logits, [vocabulary] float32. All variants give the same bits.
struct RowKernels: Sendable {
  /// What `expSums` returns.
  struct ExpSums {
    var total: Double
    var atLeast: Double
    var countAtLeast: Int
  }

  // The table is a constant of the C module, never written.
  private nonisolated(unsafe) let table: UnsafePointer<fr_kernels>

  private init(table: UnsafePointer<fr_kernels>) { self.table = table }

  /// The fastest variant that this machine runs.
  static let best = RowKernels(table: fr_kernels_best())

  /// Every variant that this machine runs, plainest first.
  static var variants: [RowKernels] {
    var found: [RowKernels] = []
    var supported: Int32 = 0
    while let table = fr_kernels_variant(found.count, &supported), supported != 0 {
      found.append(RowKernels(table: table))
    }
    return found
  }

  var name: String { String(cString: table.pointee.name) }

  /// out = fl(c·row), −∞ staying −∞. False if a result is NaN or +∞.
  func scale(_ row: UnsafeBufferPointer<Float>, by c: Float, into out: UnsafeMutableBufferPointer<Float>) -> Bool {
    table.pointee.scale(out.baseAddress, row.baseAddress, c, row.count) == 0
  }

  /// out = fl(a + b).
  func add(
    _ a: UnsafeBufferPointer<Float>, _ b: UnsafeBufferPointer<Float>, into out: UnsafeMutableBufferPointer<Float>
  ) {
    table.pointee.add(out.baseAddress, a.baseAddress, b.baseAddress, min(a.count, b.count))
  }

  /// out = fl(row + fl(T·g)), g the Gumbel noise of tokens `first`, `first` + 1, ….
  func addNoise(
    _ row: UnsafeBufferPointer<Float>, temperature: Double, key: NoiseKey, first: Int = 0,
    into out: UnsafeMutableBufferPointer<Float>
  ) {
    let key = fr_noise_key(add: key.add, mix: key.mix)
    table.pointee.add_noise(out.baseAddress, row.baseAddress, temperature, key, UInt64(first), row.count)
  }

  /// Lowest index of the largest fl(a + b); nil if a sum is NaN or the rows are empty.
  func addArgmax(_ a: UnsafeBufferPointer<Float>, _ b: UnsafeBufferPointer<Float>) -> (index: Int, value: Float)? {
    var value: Float = 0
    let index = table.pointee.add_argmax(a.baseAddress, b.baseAddress, min(a.count, b.count), &value)
    return index < 0 ? nil : (Int(index), value)
  }

  /// Lowest index of the largest `noisy` among those that rank at or before (`cut`, `cutIndex`) in `clean`.
  func argmax(
    _ noisy: UnsafeBufferPointer<Float>, within clean: UnsafeBufferPointer<Float>, cut: Float, cutIndex: Int
  ) -> Int? {
    let index = table.pointee.argmax_within(
      noisy.baseAddress, clean.baseAddress, min(noisy.count, clean.count), cut, Int64(cutIndex))
    return index < 0 ? nil : Int(index)
  }

  /// The largest value, −∞ for an empty row.
  func maximum(_ row: UnsafeBufferPointer<Float>) -> Float { table.pointee.maximum(row.baseAddress, row.count) }

  /// The `k` largest by descending value, then ascending index; nil if the row has NaN or +∞.
  func topK(_ row: UnsafeBufferPointer<Float>, _ k: Int) -> (ids: [Token], values: [Float])? {
    let k = min(max(0, k), row.count)
    var failed = false
    var values: [Float] = []
    let ids = [Token](unsafeUninitializedCapacity: k) { ids, idCount in
      values = [Float](unsafeUninitializedCapacity: k) { values, valueCount in
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: max(1, k)) { scratch in
          let found = table.pointee.top_k(
            row.baseAddress, row.count, k, scratch.baseAddress, ids.baseAddress, values.baseAddress)
          failed = found < 0
          valueCount = max(0, Int(found))
          idCount = valueCount
        }
      }
    }
    return failed ? nil : (ids, values)
  }

  /// log Σ exp(row), accumulated in double in one fixed order; −∞ for an empty or all −∞ row.
  func logSumExp(_ row: UnsafeBufferPointer<Float>) -> Double {
    table.pointee.log_sum_exp(row.baseAddress, row.count)
  }

  /// Σ exp((fl(row + offset) − reference)·inverseTemperature), and the same over those with fl(row + offset) ≥ threshold.
  func expSums(
    _ row: UnsafeBufferPointer<Float>, offset: Float = 0, reference: Float, inverseTemperature: Double,
    threshold: Double = .infinity
  ) -> ExpSums {
    let sums = table.pointee.exp_sum(
      row.baseAddress, row.count, offset, Double(reference), inverseTemperature, threshold)
    return ExpSums(total: sums.total, atLeast: sums.at_least, countAtLeast: Int(sums.count_at_least))
  }

  func exp(_ values: [Double]) -> [Double] {
    [Double](unsafeUninitializedCapacity: values.count) { out, count in
      table.pointee.exp_each(out.baseAddress, values, values.count)
      count = values.count
    }
  }

  func log(_ values: [Double]) -> [Double] {
    [Double](unsafeUninitializedCapacity: values.count) { out, count in
      table.pointee.log_each(out.baseAddress, values, values.count)
      count = values.count
    }
  }

  /// log of a positive normal number.
  func log(_ value: Double) -> Double {
    var result = 0.0
    withUnsafePointer(to: value) { table.pointee.log_each(&result, $0, 1) }
    return result
  }
}

/// Keys of the noise row of one output position.
struct NoiseKey: Sendable, Equatable {
  var add: UInt64
  var mix: UInt64
}

extension NoiseKey {
  /// Counter based: a function of (seed, choice, output index) alone, so that retries, drafts and roll-backs see the
  /// same noise. Each field is absorbed by one round of SplitMix64's bijection.
  init(seed: UInt64, choice: Int, outputIndex: Int) {
    let gamma: UInt64 = 0x9E37_79B9_7F4A_7C15
    var state = SplitMix64.mix(seed &+ gamma)
    state = SplitMix64.mix((state ^ UInt64(bitPattern: Int64(choice))) &+ gamma)
    add = SplitMix64.mix((state ^ UInt64(bitPattern: Int64(outputIndex))) &+ gamma)
    mix = SplitMix64.mix(add ^ 0xD1B5_4A32_D192_ED03)
  }
}
