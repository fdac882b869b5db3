import Core
import Foundation
import ModelFiles
import Testing

@testable import Evaluation
@testable import fusionroute

/// Reward models that came to nothing.
@Suite struct RewardScorerTests {
  /// A reward that is no number decides nothing: Collab would rate for ever, and Sequence Selection leave answers out.
  @Test func rewardsThatAreNoNumbersAreNamed() async throws {
    let models = try ToyModels.shared.get()
    let folder = models.path("reward-damaged")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    // The last norm's weights, behind which hidden states come, are no numbers any more.
    let norm = try #require(try GGUFFile.read(models.path("router.gguf")).tensor(named: "output_norm.weight"))
    #expect(norm.type == .f32)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: models.path("router.gguf")))
    let nothing = (0..<norm.elementCount).flatMap { _ in withUnsafeBytes(of: Float.nan.bitPattern) { Array($0) } }
    bytes.replaceSubrange(norm.offset..<norm.offset + norm.byteCount, with: nothing)
    try bytes.write(to: URL(fileURLWithPath: "\(folder)/model.gguf"))
    let width = ToyModels.recipe.width
    try RoutingHead(experts: ["reward"], weight: [Float](repeating: 1, count: width), embeddingWidth: width)
      .write("\(folder)/head.gguf")

    let scorer = try RewardScorer(model: models.path("router.gguf"), folder: folder)
    try scorer.use(slots: 1, threads: 1, longest: 256)
    defer { scorer.stop() }
    let error = await #expect(throws: FusionRouteError.self) {
      _ = try await scorer.rate([.init(role: "user", content: "say 7")], answer: "good words")
    }
    #expect(error?.code == .badInput)
    #expect(error?.message.contains(folder) == true && error?.message.contains("no finite number") == true)
  }
}
