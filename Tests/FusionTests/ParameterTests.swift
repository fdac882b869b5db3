import Core
import Foundation
import Testing

@testable import Fusion

@Suite("Sampling parameters")
struct ParameterTests {
  @Test("values out of range are refused with the field's name, its value and the rule")
  func validation() throws {
    try SamplingParameters().validated(vocabularySize: 10)
    try SamplingParameters(
      temperature: 100, topK: 50, topP: 0, minP: 1, repetitionPenalty: 0.5, presencePenalty: -2, frequencyPenalty: 2,
      logitBias: [0: -.infinity, 9: 100]
    ).validated(vocabularySize: 10)
    let bad: [(SamplingParameters, String)] = [
      (.init(temperature: -1), "temperature is -1.0: it must be from 0 to 100.0"),
      (.init(temperature: .nan), "temperature is nan: it must be from 0 to 100.0"),
      (.init(temperature: .infinity), "temperature is inf: it must be from 0 to 100.0"),
      (.init(topK: -2), "top_k is -2: it must be 0 (off) or more"),
      (.init(topP: 1.5), "top_p is 1.5: it must be from 0 to 1"),
      (.init(minP: .nan), "min_p is nan: it must be from 0 to 1"),
      (.init(repetitionPenalty: 0), "repetition_penalty is 0.0: it must be from 0.01 to 100.0"),
      (.init(presencePenalty: 200), "presence_penalty is 200.0: it must be from -100.0 to 100.0"),
      (.init(frequencyPenalty: .nan), "frequency_penalty is nan: it must be from -100.0 to 100.0"),
      (.init(logitBias: [10: 1]), "logit_bias is set for token 10: it must be for tokens from 0 to 9"),
      (
        .init(logitBias: [2: .infinity]),
        "logit_bias of token 2 is inf: it must be from -1000000.0 to 1000000.0, or minus infinity"
      ),
    ]
    for (parameters, message) in bad {
      let error = #expect(throws: FusionRouteError.self) { try parameters.validated(vocabularySize: 10) }
      #expect(error?.message == message && error?.code == .badInput)
    }
  }

  @Test("JSON: absent fields have their defaults, logit_bias has string keys")
  func coding() throws {
    let decoder = JSONDecoder()
    #expect(try decoder.decode(SamplingParameters.self, from: Data("{}".utf8)) == SamplingParameters())
    let json = #"{"temperature":0.7,"seed":18446744073709551615,"top_k":40,"min_p":0.05,"logit_bias":{"5":-1.5}}"#
    let parameters = try decoder.decode(SamplingParameters.self, from: Data(json.utf8))
    #expect(parameters == .init(temperature: 0.7, seed: .max, topK: 40, minP: 0.05, logitBias: [5: -1.5]))
    #expect(try decoder.decode(SamplingParameters.self, from: JSONEncoder().encode(parameters)) == parameters)
    let error = #expect(throws: FusionRouteError.self) {
      try decoder.decode(SamplingParameters.self, from: Data(#"{"logit_bias":{"x":1}}"#.utf8))
    }
    #expect(error?.message.contains("\"x\"") == true)
  }
}
