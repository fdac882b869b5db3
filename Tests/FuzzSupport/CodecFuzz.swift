// `@testable` exists in debug builds only.
#if DEBUG
  import Core

  @testable import Wire

  /// Damaged messages of every type through the codec: each ends as a value that encodes to itself, or as an error.
  package enum CodecFuzz {
    package static func run(messages: Int, seed: UInt64) -> FuzzReport {
      var limits = WireLimits()
      limits.vocabulary = 1_000
      limits.context = 400
      limits.positions = 5
      limits.topK = 50
      limits.named = 50
      limits.slots = 8
      var samples = Samples(seed: seed, limits: limits)
      var mutator = Mutator(generator: SplitMix64(seed: seed ^ 0xF0))
      var report = FuzzReport()
      for round in 0..<messages {
        let kind = MessageKind.allCases[round % MessageKind.allCases.count]
        let frames = mutator.mutate(WireCodec.encode(samples.message(kind)))
        report.messages += 1
        report.damaged += 1
        _ = WireCodec.isRegistration(frames)
        do throws(WireError) {
          let message = try WireCodec.decode(frames, limits: limits, from: samples.sender(of: kind))
          report.count("accepted")
          let again = try? WireCodec.decode(
            WireCodec.encode(message), limits: limits, from: samples.sender(of: message.kind))
          report.require(again == message, "round \(round): \(message) became \(String(describing: again))")
        } catch {
          report.count(error.code.rawValue)
          report.require(!error.message.isEmpty, "round \(round): an error without a sentence")
        }
      }
      return report
    }
  }
#endif
