internal import CLlama
internal import Core
internal import Foundation

/// Decodes fixed probes in several shapes and compares the bits.
///
/// A short prefix token by token, in one call, and in chunks beside co-tenants in a neighbouring slot and beyond a gap; a
/// long one past 256 positions (where llama.cpp's attention buffers grow) in chunks, again in other chunks and steps after
/// a roll-back, with and without the short one as co-tenant.
enum NumericsSelfTest {
  /// Changes with the probes: results of others in the cache do not count.
  static let version = 3
  private static let shortLength = 16
  private static let longLength = 264
  private static let rollBackTo = 248
  /// Slots 0 and 1 have the short probe; between them and this one is a gap.
  private static let longSlot = 3

  static func label(model: Model, configuration: DecoderConfiguration) -> String {
    let information = model.information
    return [
      LlamaRuntime.engine, processor, information.weightType,
      "kv \(configuration.resolvedKVType(model: model).rawValue)",
      configuration.reproducible ? "flash attention off" : "flash attention auto",
      model.options.gpuLayers > 0 ? "\(model.options.gpuLayers) layers on GPU" : "CPU",
      model.options.useExtraBufferTypes ? "repacked" : "plain buffers",
      // With one thread or several, the order of additions is the same only in reproducible settings.
      configuration.reproducible ? "any threads" : "\(configuration.threads) threads",
    ].joined(separator: "; ")
  }

  private static var processor: String {
    guard let data = FileManager.default.contents(atPath: "/proc/cpuinfo") else { return "unknown processor" }
    for line in String(decoding: data.prefix(4096), as: UTF8.self).split(separator: "\n")
    where line.hasPrefix("model name") {
      return line.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown processor"
    }
    return "unknown processor"
  }

  static func run(model: Model, configuration: DecoderConfiguration, label: String) throws -> NumericsClass {
    var small = configuration
    small.slots = 4
    small.contextPerSequence = 512
    small.maximumBatch = 64
    let context = try LlamaContext(model: model, configuration: small, monitor: DecoderMonitor())
    var probe = Probe(context: context, vocabulary: model.vocabulary.size)
    let short = probe.tokens(shortLength, seed: 0x5EED_0001)
    let long = probe.tokens(longLength, seed: 0x5EED_0002)

    // Reference: the short probe token by token, the long one in calls of 64, its last positions step by step.
    for (position, token) in short.enumerated() { try probe.decode([(0, [token], position, true)]) }
    let reference = probe.takeRows()
    try probe.prefill(slot: longSlot, Array(long[..<rollBackTo]), chunk: 64)
    for position in rollBackTo..<longLength {
      try probe.decode([(longSlot, [long[position]], position, position >= longLength - 4)])
    }
    let longReference = probe.takeRows()

    // The short probe in one call, then twice beside the long sequence in chunks of 5 and 7 with roll-backs of the latter.
    var same = true
    context.clear(slot: 0)
    try probe.decode([(0, short, 0, true)])
    same = same && probe.takeRows() == reference

    context.clear(slot: 0)
    _ = context.remove(slot: longSlot, from: rollBackTo)
    var done = 0
    var longDone = rollBackTo
    while done < shortLength {
      let width = min(done % 2 == 0 ? 5 : 7, shortLength - done, longLength - longDone)
      guard width > 0 else { break }
      let piece = Array(short[done..<(done + width)])
      try probe.decode([
        (0, piece, done, true), (1, piece, done, true),
        (longSlot, Array(long[longDone..<(longDone + width)]), longDone, false),
      ])
      let rows = probe.takeRows()
      same = same && rows == Array(reference[done..<(done + width)] + reference[done..<(done + width)])
      done += width
      longDone += width
    }

    // The long probe's last positions in one call and two, after a roll-back.
    if longDone < longLength - 4 {
      try probe.decode([(longSlot, Array(long[longDone..<(longLength - 4)]), longDone, false)])
    } else {
      _ = context.remove(slot: longSlot, from: longLength - 4)
    }
    try probe.decode([(longSlot, Array(long[(longLength - 4)...]), longLength - 4, true)])
    same = same && probe.takeRows() == longReference

    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/probe/\(version)")
    for row in reference + longReference { hasher.update(row.bytes) }
    return NumericsClass(label: label, probeHash: hasher.finalize(), batchInvariant: same)
  }

  /// A context, with the digests of the rows it has produced.
  private struct Probe {
    let context: LlamaContext
    let vocabulary: Int
    private var rows: [SHA256Digest] = []

    init(context: LlamaContext, vocabulary: Int) {
      self.context = context
      self.vocabulary = vocabulary
    }

    func tokens(_ count: Int, seed: UInt64) -> [Token] {
      var generator = SplitMix64(seed: seed)
      return (0..<count).map { _ in Token(generator.next() % UInt64(vocabulary)) }
    }

    mutating func takeRows() -> [SHA256Digest] {
      defer { rows = [] }
      return rows
    }

    mutating func prefill(slot: Int, _ tokens: [Token], chunk: Int) throws {
      var done = 0
      while done < tokens.count {
        let end = min(done + chunk, tokens.count)
        try decode([(slot, Array(tokens[done..<end]), done, false)])
        done = end
      }
    }

    /// One call; rows are kept in the order of the pieces.
    mutating func decode(_ pieces: [(slot: Int, tokens: [Token], first: Int, output: Bool)]) throws {
      context.begin(hidden: false)
      for piece in pieces {
        for (offset, token) in piece.tokens.enumerated() {
          let fits = context.add(
            token, position: piece.first + offset, slot: piece.slot, output: piece.output)
          guard fits else {
            throw FusionRouteError.internal("a probe of the numerics self-test does not fit its batch")
          }
        }
      }
      guard case .done = context.decode() else {
        throw FusionRouteError.unavailable("the numerics self-test could not be computed; is there enough memory?")
      }
      var index = 0
      for piece in pieces {
        if piece.output {
          for offset in piece.tokens.indices {
            guard let row = context.logits(at: index + offset) else {
              throw FusionRouteError.internal("the numerics self-test got no logits")
            }
            rows.append(withExtendedLifetime(row) { SHA256Digest(hashing: UnsafeRawBufferPointer(row.buffer)) })
          }
        }
        index += piece.tokens.count
      }
    }
  }
}
