import Core
import Fusion
import Testing
import Wire

@testable import Coordinator

/// Rows longer than a message may ask for in parts.
@Suite(.serialized) struct RowLimitTests {
  @Test("the longest lists that a step may carry are asked for, and the whole row where they would be longer")
  func wants() throws {
    let limits = WireLimits()
    let names = (0..<limits.named).map { Token($0) }
    let longest = Step.Want.row(at: 3, topK: limits.topK) { names }
    #expect(longest == Step.Want(position: 3, topK: limits.topK, named: names))
    let longer = [
      Step.Want.row(at: 3, topK: limits.topK + 1) { [] }, Step.Want.row(at: 3, topK: 65_536) { names },
      Step.Want.row(at: 3, topK: 1) { names + [Token(limits.named)] },
    ]
    for want in longer { #expect(want == Step.Want(position: 3, fullRow: true)) }
    for want in longer + [longest] {
      let step = Step(
        request: 1, coordinator: 2, sequence: 3, epoch: 0, baseLength: 0, baseHash: .empty, append: [1, 2, 3, 4],
        wants: [want], deadlineMilliseconds: 1_000)
      #expect(try WireCodec.decode(WireCodec.encode(.step(step)), from: .coordinator) == .step(step))
    }
  }

  private static func request() -> GenerationRequest {
    var request = GenerationRequest(
      prompt: GenerationTests.prompt(20), maximumTokens: 12,
      sampling: SamplingParameters(temperature: 1, seed: 3, topP: 0.9))
    // Only where nothing answers.
    request.deadline = .seconds(240)
    return request
  }

  @Test("a first top-k that no message may ask for changes how rows come, not the text")
  func longFirstRows() async throws {
    let scratch = try Scratch("rows")
    let models = try TestModels.make(in: scratch, experts: 2)
    var answers: [[Token]] = []
    for topK in [32, 9_000] {
      let (tokens, summary) = try await withCluster(
        models, scratch: try Scratch("rows2"), configure: { $0.topK = topK }
      ) { cluster in try await cluster.answer(Self.request()) }
      answers.append(tokens.map(\.id))
      if topK == 9_000 { #expect(summary.certification.fullRows == tokens.count) }
    }
    #expect(answers[0] == answers[1] && !answers[0].isEmpty)
  }
}
