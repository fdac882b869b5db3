internal import Coordinator
internal import Core
internal import Fusion

/// The field `fusionroute` of answers: who decided each token, and where the time went. Strict clients ignore it.
struct AnswerDetails {
  /// Most probable tokens to tell with each token.
  let alternatives: Int
  let texts: TokenTexts

  func write(_ tokens: some Sequence<GeneratedToken>, to json: inout JSONWriter) {
    json.object("fusionroute") { json in
      json.array("tokens", tokens) { json, token in json.object { write(token, to: &$0) } }
    }
  }

  private func write(_ token: GeneratedToken, to json: inout JSONWriter) {
    json.field("id", token.id)
    json.field("text", token.text)
    json.field("expert", token.expert)
    json.field("logit", token.logit)
    json.field("router_logit", token.routerLogit)
    json.field("expert_logit", token.expertLogit)
    json.array("weights", token.routingWeights) { $0.value($1) }
    json.field("degraded", token.degraded)
    guard alternatives > 0 else { return }
    json.array("alternatives", token.alternatives.prefix(alternatives)) { json, alternative in
      json.object { json in
        json.field("id", alternative.id)
        json.field("text", texts.text(alternative.id))
        json.field("logprob", alternative.logProbability)
        json.field("router_logit", alternative.routerLogit)
        json.field("expert_logit", alternative.expertLogit)
      }
    }
  }

  /// Of all answers of a request together: counts are summed, times are those of the slowest.
  static func write(_ summaries: [GenerationSummary], requestID: String, seed: UInt64, to json: inout JSONWriter) {
    func longest(_ time: KeyPath<GenerationSummary, Duration>) -> Duration {
      summaries.map { $0[keyPath: time] }.max() ?? .zero
    }
    json.object("fusionroute") { json in
      json.object("timing") { json in
        let decode = longest(\.decode)
        json.field("queued_ms", longest(\.queued).milliseconds)
        json.field("prefill_ms", longest(\.prefill).milliseconds)
        json.field("decode_ms", decode.milliseconds)
        // The first token of each came with its prefill.
        let decoded = summaries.reduce(0) { $0 + max(0, $1.generatedTokens - 1) }
        json.field("tokens_per_second", decode > .zero ? Double(decoded) / decode.milliseconds * 1000 : 0)
        let split: [(String, KeyPath<LatencySplit, UInt64>)] = [
          ("router_queue", \.routerQueue), ("router_compute", \.routerCompute), ("wire", \.wire),
          ("expert_queue", \.expertQueue), ("expert_compute", \.expertCompute), ("merge", \.merge),
        ]
        json.object("split_us") { json in
          for (name, part) in split {
            json.field(name, summaries.reduce(0) { $0 + $1.latency[keyPath: part] } / 1000)
          }
        }
      }
      counts("tokens_per_expert", summaries.map(\.tokensPerExpert), to: &json)
      counts("evaluated_tokens", summaries.map(\.evaluatedTokens), to: &json)
      let certification = summaries.reduce(into: CertificationStatistics()) { $0.merge($1.certification) }
      json.object("certification") { json in
        json.object("decided_by_top_k") { json in
          for (size, tokens) in certification.decidedByTopK.sorted(by: { $0.key < $1.key }) {
            json.field("\(size)", tokens)
          }
        }
        json.field("full_rows", certification.fullRows)
        json.field("row_bytes", certification.bytes)
      }
      json.field("failovers", summaries.reduce(0) { $0 + $1.failovers })
      json.field("seed", Int64(bitPattern: seed))
      json.field("request_id", requestID)
    }
  }

  private static func counts(_ name: String, _ all: [[String: Int]], to json: inout JSONWriter) {
    let sum = all.reduce(into: [:]) { $0.merge($1) { $0 + $1 } }
    json.object(name) { json in
      for (key, count) in sum.sorted(by: { $0.key < $1.key }) { json.field(key, count) }
    }
  }
}

extension Duration {
  var milliseconds: Double {
    Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
  }

  var seconds: Double { milliseconds / 1000 }
}
