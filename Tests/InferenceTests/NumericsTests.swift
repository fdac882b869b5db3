import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

@Suite(.serialized) struct NumericsTests {
  @Test(arguments: ["llama f32", "llama bf16", "llama q8_0", "gemma3 f32"])
  func generatedModelsAreInvariant(_ name: String) throws {
    let model = try TestModels.model(name)
    let decoder = try BatchingDecoder(model: model, configuration: .init(slots: 1, contextPerSequence: 256))
    defer { decoder.shutdown() }
    let result = try decoder.numericsClass()
    #expect(result.batchInvariant)
    #expect(try decoder.numericsClass() == result)
    // Run again without the cache, and with two threads: the same bits.
    var configuration = decoder.configuration
    #expect(try NumericsSelfTest.run(model: model, configuration: configuration, label: result.label) == result)
    configuration.threads = 2
    #expect(try NumericsSelfTest.run(model: model, configuration: configuration, label: result.label) == result)
    configuration.kvType = name.hasSuffix("f32") ? .f16 : .f32
    let other = try NumericsSelfTest.run(model: model, configuration: configuration, label: "")
    #expect(other.probeHash != result.probeHash)
    #expect(NumericsSelfTest.label(model: model, configuration: configuration) != result.label)
  }

  /// Flash attention splits its sums over the threads, by the length of the context: the self-test must see that.
  @Test func findsWhatIsNotInvariant() throws {
    let model = try TestModels.model("llama f32")
    let configuration = DecoderConfiguration(threads: 2, reproducible: false)
    #expect(try !NumericsSelfTest.run(model: model, configuration: configuration, label: "").batchInvariant)
  }

  @Test func tellsModelsApart() throws {
    var seen: Set<SHA256Digest> = []
    for name in ["llama f32", "llama bf16", "llama q8_0", "gemma3 f32"] {
      let model = try TestModels.model(name)
      let result = try NumericsSelfTest.run(model: model, configuration: .init(), label: "")
      #expect(seen.insert(result.probeHash).inserted)
    }
  }

  @Test(
    .enabled(if: TestModels.hasSmolLM2, TestModels.absent), arguments: ["bf16", "q8_0", "q4_1"])
  func smolLM2IsInvariant(_ type: String) throws {
    let model = try TestModels.model("smollm2 \(type)")
    let clock = ContinuousClock()
    var result: NumericsClass?
    let duration = try clock.measure {
      result = try NumericsSelfTest.run(model: model, configuration: .init(), label: "smollm2 \(type)")
    }
    print("self-test of SmolLM2 \(type): \(duration)")
    #expect(result?.batchInvariant == true)
  }
}
