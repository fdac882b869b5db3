import Core
import Foundation
import ModelFiles
import TestSupport
import Testing

@testable import Training

/// The optimiser against its formulas in double.
@Suite struct OptimiserTests {
  @Test func adamW() throws {
    let scratch = try Scratch()
    let path = scratch.path("model.gguf")
    try ModelMaker.make(Worlds.recipe(.llama), to: path)
    let engine = try TrainingEngine(GGUFFile.read(path), mode: .full, headRows: 2, options: Worlds.options())
    var options = AdamWOptions()
    options.weightDecay = 0.1
    options.clipNorm = 3
    let parameters = engine.trainables.parameters
    var expected = parameters.map { parameter in engine.values(of: parameter).map { Double($0) } }
    var moments = parameters.map { [(Double, Double)](repeating: (0, 0), count: $0.count) }
    var generator = SplitMix64(seed: 9)
    var headSteps = 0
    for step in 0..<3 {
      let head: Float? = step == 1 ? nil : 0.02
      var sum = 0.0
      var gradients: [[Double]] = []
      for parameter in parameters {
        for i in 0..<parameter.count { parameter.gradients[i] = 0.1 * generator.normal() }
        gradients.append((0..<parameter.count).map { Double(parameter.gradients[$0]) })
        guard parameter.kind != .head || head != nil else { continue }
        sum += gradients[gradients.count - 1].reduce(0) { $0 + $1 * $1 }
      }
      let expectedNorm = sum.squareRoot()
      let before = engine.head
      let norm = try engine.update(
        options, rates: UpdateRates(model: 0.01, head: head), steps: (model: step, head: headSteps))
      #expect(abs(norm - expectedNorm) <= 1e-9 * expectedNorm && expectedNorm > 3)
      if head == nil { #expect(engine.head == before) }
      for (index, parameter) in parameters.enumerated() {
        let isHead = parameter.kind == .head
        guard !isHead || head != nil else { continue }
        let t = Double(isHead ? headSteps : step) + 1
        let rate = isHead ? 0.02 : 0.01
        for i in 0..<parameter.count {
          let g = gradients[index][i] * 3 / expectedNorm
          moments[index][i].0 = 0.9 * moments[index][i].0 + 0.1 * g
          moments[index][i].1 = 0.999 * moments[index][i].1 + 0.001 * g * g
          let m = moments[index][i].0 / (1 - pow(0.9, t))
          let v = moments[index][i].1 / (1 - pow(0.999, t))
          let decay = parameter.kind == .matrix ? rate * 0.1 : 0
          expected[index][i] = expected[index][i] * (1 - decay) - rate * m / (v.squareRoot() + 1e-8)
        }
        let worst = largestDifference(engine.values(of: parameter).map { Double($0) }, expected[index])
        #expect(worst <= 2e-5, "\(parameter.name) after step \(step)")
      }
      if head != nil { headSteps += 1 }
    }
    parameters[0].gradients[0] = .nan
    let before = engine.values(of: parameters[1])
    #expect(throws: FusionRouteError.self) {
      try engine.update(options, rates: UpdateRates(model: 0.01, head: nil), steps: (3, 2))
    }
    #expect(engine.values(of: parameters[1]) == before)
  }

  @Test func schedules() {
    let linear = LearningRateSchedule(peak: 2, warmup: 4, decay: .linear, floor: 0.1)
    #expect(linear.rate(step: 0, of: 104) == 2 * 0.2)
    #expect(linear.rate(step: 4, of: 104) == 2)
    #expect(abs(linear.rate(step: 54, of: 104) - 2 * 0.55) <= 1e-6)
    #expect(abs(linear.rate(step: 104, of: 104) - 0.2) <= 1e-6)
    let cosine = LearningRateSchedule(peak: 1, warmup: 0)
    #expect(cosine.rate(step: 0, of: 10) == 1)
    #expect(abs(cosine.rate(step: 5, of: 10) - 0.5) <= 1e-6)
    #expect(LearningRateSchedule(peak: 1, decay: .constant).rate(step: 9, of: 10) == 1)
    let falling = (0...100).map { cosine.rate(step: $0, of: 100) }
    #expect(zip(falling, falling.dropFirst()).allSatisfy { $0 > $1 })
  }

  @Test func reports() throws {
    let entries = try (1...30).map { step -> JSONObject in
      let line =
        "{\"step\":\(step),\"loss\":\(3.0 / Double(step)),\"lm\":1.5,\"selected\":[3,1],\"confusion\":[1,0,1,0]}"
      guard case .object(let object) = try JSONParser.parse(Array(line.utf8)) else { throw CancellationError() }
      return object
    }
    let page = TrainingReport.page(entries, title: "<A> & B", facts: [("model", "m.gguf")], experts: ["x<", "y"])
    #expect(page.contains("&lt;A&gt; &amp; B") && !page.contains("<A>"))
    #expect(page.contains("75.0 %") && page.contains("x&lt;"))
    // Well-formed, and nothing is fetched.
    #expect(!page.contains("http"))
    #expect(page.components(separatedBy: "<svg").count == page.components(separatedBy: "</svg>").count)
    #expect(largestDifference(Chart.ticks(0, 1), (0...5).map { Double($0) / 5 }) <= 1e-12)
  }
}
