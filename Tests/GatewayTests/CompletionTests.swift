import Coordinator
import Core
import Foundation
import Fusion
import Inference
import TestSupport
import Testing

/// `/v1/completions`: every form of prompt, several answers, stops, echo, and log-probabilities against plain
/// llama.cpp.
@Suite(.serialized) struct CompletionTests {
  static let path = "/v1/completions"

  @Test("text, lists of texts, token ids and lists of them give the answers of the coordinator, in order")
  func prompts() async throws {
    try await withGateway { gateway in
      let vocabulary = gateway.cluster.coordinator.router.vocabulary
      let texts = ["the weather is", "a good day to"]
      let tokens = try texts.map { try vocabulary.tokenize($0, addSpecial: true, parseSpecial: true) }
      func json(_ tokens: [Token]) -> String { "[" + tokens.map(String.init).joined(separator: ",") + "]" }
      let two = tokens.map { json($0) }.joined(separator: ",")
      let cases: [(String, Int)] = [
        ("\"\(texts[0])\"", 1), ("[\"\(texts[0])\"]", 1), ("[\"\(texts[0])\",\"\(texts[1])\"]", 2),
        (json(tokens[0]), 1), ("[\(json(tokens[0]))]", 1), ("[\(two)]", 2),
      ]
      var expected: [String] = []
      for (index, prompt) in tokens.enumerated() {
        expected.append(
          try await gateway.cluster.answer(
            GenerationRequest(
              prompt: prompt, maximumTokens: 20, sampling: SamplingParameters(temperature: 0.8, seed: 3), choice: index)
          ).summary.text)
      }
      for (prompt, count) in cases {
        let members = #"{"prompt":\#(prompt),"max_tokens":20,"temperature":0.8,"seed":3"#
        let answer = try await gateway.post(Self.path, members + "}")
        let choices = try #require(try answer.json("choices") as? [[String: Any]], "\(prompt): \(answer.text)")
        #expect(choices.compactMap { $0["text"] as? String } == Array(expected.prefix(count)), "\(prompt)")
        #expect(choices.compactMap { $0["index"] as? Int } == Array(0..<count))
        #expect(
          try answer.json("usage", "prompt_tokens") as? Int == tokens.prefix(count).reduce(0) { $0 + $1.count })
        let streamed = try await gateway.post(Self.path, members + #","stream":true}"#).chunks()
        for index in 0..<count { #expect(Self.text(streamed, index) == expected[index], "\(prompt), streamed") }
      }
    }
  }

  /// Text of one answer of a stream.
  static func text(_ chunks: [[String: Any]], _ index: Int) -> String {
    chunks.flatMap { $0["choices"] as? [[String: Any]] ?? [] }.filter { $0["index"] as? Int == index }
      .compactMap { $0["text"] as? String }.joined()
  }

  @Test("n answers are those of n choices of the noise; a seed gives them again, no seed gives others")
  func several() async throws {
    try await withGateway { gateway in
      let prompt = try gateway.cluster.coordinator.router.vocabulary.tokenize(
        "it is", addSpecial: true, parseSpecial: true)
      var expected: [String] = []
      for choice in 0..<3 {
        expected.append(
          try await gateway.cluster.answer(
            GenerationRequest(
              prompt: prompt, maximumTokens: 16, sampling: SamplingParameters(temperature: 1, seed: 11), choice: choice)
          ).summary.text)
      }
      #expect(Set(expected).count == 3)
      func texts(_ members: String) async throws -> [String] {
        let answer = try await gateway.post(Self.path, #"{"prompt":"it is","max_tokens":16,"n":3,\#(members)}"#)
        return (try answer.json("choices") as? [[String: Any]] ?? []).compactMap { $0["text"] as? String }
      }
      #expect(try await texts(#""seed":11"#) == expected)
      #expect(try await texts(#""seed":11,"best_of":3"#) == expected)
      let streamed = try await gateway.post(
        Self.path, #"{"prompt":"it is","max_tokens":16,"n":3,"seed":11,"stream":true}"#
      ).chunks()
      #expect((0..<3).map { Self.text(streamed, $0) } == expected)
      #expect(
        streamed.filter { $0["fusionroute"] != nil }.count == 1, "the request's own numbers come once, at the end")
      #expect(streamed.last?["fusionroute"] != nil)
      let first = try await texts(#""user":"a""#)
      #expect(try await texts(#""user":"a""#) != first)
      // The seed that was drawn gives the same answers again.
      let drawn = try await gateway.post(Self.path, #"{"prompt":"it is","max_tokens":16}"#)
      let seed = try #require(try drawn.json("fusionroute", "seed") as? Int)
      let again = try await gateway.post(Self.path, #"{"prompt":"it is","max_tokens":16,"seed":\#(seed)}"#)
      #expect(try again.string("choices", 0, "text") == drawn.string("choices", 0, "text"))
      // Negative ones are seeds, too.
      let negative = try await gateway.post(Self.path, #"{"prompt":"it is","max_tokens":4,"seed":-5}"#)
      #expect(try negative.json("fusionroute", "seed") as? Int == -5)
    }
  }

  @Test("a stop string ends an answer and is no part of it, however it is split over tokens")
  func stops() async throws {
    try await withGateway { gateway in
      let members = #"{"prompt":"the","max_tokens":60,"temperature":0"#
      let whole = try #require(try await gateway.post(Self.path, members + "}").string("choices", 0, "text"))
      // Three characters in the middle: they lie across tokens somewhere.
      for offset in stride(from: whole.count / 4, to: whole.count - 4, by: 5) {
        let start = whole.index(whole.startIndex, offsetBy: offset)
        let stop = String(whole[start..<whole.index(start, offsetBy: 3)])
        let quoted = String(decoding: try JSONEncoder().encode(["zzzz", stop]), as: UTF8.self)
        let expected = String(whole[..<(whole.range(of: stop)?.lowerBound ?? whole.endIndex)])
        let answer = try await gateway.post(Self.path, members + ",\"stop\":\(quoted)}")
        #expect(try answer.string("choices", 0, "text") == expected, "\(stop)")
        #expect(try answer.string("choices", 0, "finish_reason") == "stop")
        let streamed = try await gateway.post(Self.path, members + ",\"stop\":\(quoted),\"stream\":true}").chunks()
        #expect(Self.text(streamed, 0) == expected, "\(stop), streamed")
      }
    }
  }

  // MARK: Log-probabilities

  /// Natural log-softmax of the method's rows after each of `tokens`, from plain llama.cpp.
  static func rows(_ tokens: [Token], experts: [String?]) throws -> [[Double]] {
    let models = try GatewayModels.get()
    let router = try PlainOracle.rows(model: models.router, tokens: tokens)
    var expertRows: [String: [[Float]]] = [:]
    for (name, path) in models.experts { expertRows[name] = try PlainOracle.rows(model: path, tokens: tokens) }
    return try tokens.indices.map { position in
      guard position < experts.count, let expert = experts[position] else { return [] }
      let e = try #require(expertRows[expert])[position]
      let row = zip(router[position], e).map { Double(Float(0.75) * $0 + $1) }
      let largest = row.max() ?? 0
      let sum = log(row.reduce(0) { $0 + exp($1 - largest) })
      return row.map { $0 - largest - sum }
    }
  }

  @Test("a chat's log-probabilities equal those of the full rows, and a position's sum to at most one")
  func chat() async throws {
    try await withGateway { gateway in
      let router = gateway.cluster.coordinator.router
      let prompt = try router.promptTokens(chat: [ChatMessage(role: "user", content: "what is it")])
      let members = """
        {"messages":[{"role":"user","content":"what is it"}],"max_tokens":24,"temperature":0.7,"seed":2,"logprobs":true,
         "top_logprobs":5,"fusionroute":{"alternatives":3}
        """
      let answer = try await gateway.post("/v1/chat/completions", members + "}")
      let entries = try #require(
        try answer.json("choices", 0, "logprobs", "content") as? [[String: Any]], "\(answer.text)")
      let tokens = try #require(try answer.json("choices", 0, "fusionroute", "tokens") as? [[String: Any]])
      #expect(entries.count == tokens.count && !entries.isEmpty)
      let ids = tokens.compactMap { ($0["id"] as? Int).map { Token($0) } }
      let experts = tokens.map { $0["expert"] as? String }
      let rows = try Self.rows(
        prompt + ids.dropLast(), experts: Array(repeating: nil, count: prompt.count - 1) + experts)
      for (index, entry) in entries.enumerated() {
        let row = rows[prompt.count - 1 + index]
        let logprob = try #require(entry["logprob"] as? Double)
        #expect(abs(logprob - row[Int(ids[index])]) < 1e-4)
        #expect(entry["bytes"] as? [Int] == router.vocabulary.piece(ids[index], special: true).map(Int.init))
        let top = try #require(entry["top_logprobs"] as? [[String: Any]]).compactMap { $0["logprob"] as? Double }
        let best = row.sorted(by: >).prefix(5)
        #expect(top.count == 5 && zip(top, best).allSatisfy { abs($0 - $1) < 1e-4 })
        #expect(top.reduce(0) { $0 + exp($1) } <= 1 + 1e-6)
        // The alternatives say the same, with both models' logits.
        let alternatives = try #require(tokens[index]["alternatives"] as? [[String: Any]])
        #expect(alternatives.count == 3)
        for (rank, alternative) in alternatives.enumerated() {
          #expect(alternative["logprob"] as? Double == top[rank])
          let id = try #require(alternative["id"] as? Int)
          #expect(abs(row[id] - top[rank]) < 1e-4)
          let r = try #require(alternative["router_logit"] as? Double)
          let e = try #require(alternative["expert_logit"] as? Double)
          let logit = try #require(tokens[index]["logit"] as? Double)
          #expect(abs((0.75 * r + e - logit) - (top[rank] - logprob)) < 1e-3)
        }
        #expect((tokens[index]["weights"] as? [Double])?.count == 3)
      }
      let streamed = try await gateway.post("/v1/chat/completions", members + #","stream":true}"#).chunks()
      let pieces = streamed.flatMap { chunk in
        ((chunk["choices"] as? [[String: Any]])?.first?["logprobs"] as? [String: Any])?["content"] as? [[String: Any]]
          ?? []
      }
      #expect(pieces.compactMap { $0["logprob"] as? Double } == entries.compactMap { $0["logprob"] as? Double })
    }
  }

  @Test("echo with log-probabilities scores the prompt as plain llama.cpp does, with nothing generated and with more")
  func echo() async throws {
    try await withGateway { gateway in
      let vocabulary = gateway.cluster.coordinator.router.vocabulary
      let prompt = "the weather is good – é中🙂 day"
      let tokens = try vocabulary.tokenize(prompt, addSpecial: true, parseSpecial: true)
      for (maximum, form) in [
        (0, "\"\(prompt)\""), (1, "\"\(prompt)\""), (3, "[" + tokens.map(String.init).joined(separator: ",") + "]"),
      ] {
        let members = #"{"prompt":\#(form),"max_tokens":\#(maximum),"temperature":0,"logprobs":2,"echo":true"#
        let answer = try await gateway.post(Self.path, members + "}")
        let logprobs = try #require(try answer.json("choices", 0, "logprobs") as? [String: Any], "\(answer.text)")
        let values = try #require(logprobs["token_logprobs"] as? [Any])
        let top = try #require(logprobs["top_logprobs"] as? [Any])
        let offsets = try #require(logprobs["text_offset"] as? [Int])
        let names = try #require(logprobs["tokens"] as? [String])
        let details = try #require(try answer.json("choices", 0, "fusionroute", "tokens") as? [[String: Any]])
        let all = tokens + details.compactMap { ($0["id"] as? Int).map { Token($0) } }
        #expect(values.count == tokens.count + details.count && details.count <= maximum)
        #expect([top.count, offsets.count, names.count] == Array(repeating: values.count, count: 3))
        #expect(values.first is NSNull && top.first is NSNull)
        // The experts of given tokens are not told here; those that the coordinator selects are.
        let scores = try await gateway.cluster.coordinator.score(all, first: 1, mode: .fusion)
        let rows = try Self.rows(all, experts: scores.map(\.expert))
        for index in 1..<values.count {
          let value = try #require(values[index] as? Double)
          #expect(abs(value - rows[index - 1][Int(all[index])]) < 1e-4, "position \(index)")
          let best = try #require(top[index] as? [String: Double])
          #expect((2...3).contains(best.count) && best.values.contains(value))
          #expect(abs((best.values.max() ?? 0) - (rows[index - 1].max() ?? 0)) < 1e-4)
        }
        let text = try #require(try answer.string("choices", 0, "text"))
        #expect(maximum > 0 || text == prompt)
        if form.hasPrefix("\"") { #expect(text.hasPrefix(prompt)) }
        // Where a token is whole text, the text has it at its offset.
        let scalars = Array(text.unicodeScalars)
        for (index, name) in names.enumerated() where !name.hasPrefix("bytes:") {
          // The beginning of sequence that the tokeniser put before a text is no part of it.
          if index == 0, form.hasPrefix("\"") { continue }
          let piece = Array(name.unicodeScalars)
          let place = offsets[index]..<offsets[index] + piece.count
          #expect(place.upperBound <= scalars.count && Array(scalars[place]) == piece, "token \(index) \(name)")
        }
        let streamed = try await gateway.post(Self.path, members + #","stream":true}"#).chunks()
        #expect(Self.text(streamed, 0) == text)
        let pieces = streamed.flatMap { chunk in
          ((chunk["choices"] as? [[String: Any]])?.first?["logprobs"] as? [String: Any])?["token_logprobs"] as? [Any]
            ?? []
        }
        #expect(pieces.count == values.count)
      }
    }
  }

  @Test("tokenize and detokenize take llama.cpp's fields and vLLM's, and undo one another")
  func tokens() async throws {
    try await withGateway { gateway in
      let vocabulary = gateway.cluster.coordinator.router.vocabulary
      let text = "the day é中🙂 <|im_start|>"
      let bare = try vocabulary.tokenize(text, addSpecial: false, parseSpecial: true).map(Int.init)
      let full = try vocabulary.tokenize(text, addSpecial: true, parseSpecial: true).map(Int.init)
      let quoted = String(decoding: try JSONEncoder().encode(text), as: UTF8.self)
      let llama = try await gateway.post("/tokenize", #"{"content":\#(quoted)}"#)
      #expect(try llama.json("tokens") as? [Int] == bare, "\(llama.text)")
      let vllm = try await gateway.post("/tokenize", #"{"model":"fusionroute","prompt":\#(quoted)}"#)
      #expect(try vllm.json("tokens") as? [Int] == full)
      #expect(try vllm.json("count") as? Int == full.count)
      #expect(try vllm.json("max_model_len") as? Int == 512)
      let pieces = try await gateway.post("/tokenize", #"{"content":\#(quoted),"add_special":true,"with_pieces":true}"#)
      #expect((try pieces.json("tokens") as? [[String: Any]])?.compactMap { $0["id"] as? Int } == full)
      let chat = try await gateway.post("/tokenize", #"{"messages":[{"role":"user","content":"hi"}]}"#)
      #expect(
        try chat.json("tokens") as? [Int]
          == gateway.cluster.coordinator.router.promptTokens(chat: [ChatMessage(role: "user", content: "hi")]).map(
            Int.init))
      let information = try await gateway.get("/tokenizer_info")
      #expect(try information.string("eos_token") == "</s>" && information.string("bos_token") == "<s>")
      #expect(try information.string("chat_template") == gateway.cluster.coordinator.router.chatTemplate)
      let back = try await gateway.post(
        "/detokenize", #"{"tokens":[\#(bare.map(String.init).joined(separator: ","))]}"#)
      #expect(try back.string("content")?.drop { $0 == " " } == text[...])
      #expect(try back.string("prompt") == back.string("content"))
    }
  }
}
