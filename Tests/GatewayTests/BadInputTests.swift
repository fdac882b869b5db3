import Coordinator
import Core
import Foundation
import Testing

/// What is refused, how, and that the server lives on. Every case names the status, the field and a word of the
/// message.
@Suite(.serialized) struct BadInputTests {
  struct Case: Sendable, CustomStringConvertible {
    var path: String
    var body: [UInt8]
    var status: Int
    var param: String?
    var word: String
    var code: String?

    var description: String { "\(path) \(String(decoding: body.prefix(160), as: UTF8.self))" }

    /// Members of a chat request beside its messages.
    static func chat(_ members: String, _ param: String?, _ word: String, status: Int = 400, code: String? = nil)
      -> Case
    {
      Case(
        path: "/v1/chat/completions",
        body: Array(#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,\#(members)}"#.utf8), status: status,
        param: param, word: word, code: code)
    }

    static func messages(_ json: String, _ param: String?, _ word: String) -> Case {
      Case(
        path: "/v1/chat/completions", body: Array(#"{"messages":\#(json)}"#.utf8), status: 400, param: param, word: word
      )
    }

    static func completion(_ members: String, _ param: String?, _ word: String, code: String? = nil) -> Case {
      Case(path: "/v1/completions", body: Array("{\(members)}".utf8), status: 400, param: param, word: word, code: code)
    }

    static func raw(_ path: String, _ body: [UInt8], _ word: String, code: String? = "invalid_json") -> Case {
      Case(path: path, body: body, status: 400, param: nil, word: word, code: code)
    }
  }

  static let json: [Case] = [
    .raw("/v1/chat/completions", [], "empty"),
    .raw("/v1/chat/completions", Array("{".utf8), "key"),
    .raw("/v1/chat/completions", Array("{\"a\":1".utf8), "`}`"),
    .raw("/v1/chat/completions", Array("{\"a\":1}}".utf8), "follows"),
    .raw("/v1/chat/completions", Array("[]".utf8), "object", code: nil),
    .raw("/v1/chat/completions", Array("null".utf8), "object", code: nil),
    .raw("/v1/chat/completions", Array("'a'".utf8), "value"),
    .raw("/v1/chat/completions", Array("{\"temperature\":NaN}".utf8), "NaN"),
    .raw("/v1/chat/completions", Array("{\"temperature\":Infinity}".utf8), "Infinity"),
    .raw("/v1/chat/completions", Array("{\"temperature\":-Infinity}".utf8), "number"),
    .raw("/v1/chat/completions", Array("{\"temperature\":01}".utf8), "number"),
    .raw("/v1/chat/completions", Array("{\"temperature\":1.}".utf8), "digit"),
    .raw("/v1/chat/completions", Array("{\"n\":\(String(repeating: "1", count: 5000))}".utf8), "characters"),
    .raw("/v1/chat/completions", Array("{\"user\":\"\u{1}\"}".utf8), "control"),
    .raw("/v1/chat/completions", Array(#"{"user":"\ud800"}"#.utf8), "surrogate"),
    .raw("/v1/chat/completions", Array(#"{"user":"\x"}"#.utf8), "escape"),
    .raw("/v1/chat/completions", Array("{\"user\":\"".utf8) + [0xC3, 0x28] + Array("\"}".utf8), "UTF-8"),
    .raw("/v1/completions", Array("{\"prompt\":\"".utf8) + [0xFF] + Array("\"}".utf8), "UTF-8"),
    .raw("/v1/chat/completions", [0xEF, 0xBB, 0xBF] + Array("{}".utf8), "value"),
    .raw("/v1/completions", Array((String(repeating: "[", count: 200_000)).utf8), "deeper"),
    .raw("/v1/completions", Array(String(repeating: #"{"a":"#, count: 200_000).utf8), "deeper"),
    .raw(
      "/v1/completions", Array(("{\"prompt\":[" + String(repeating: "1,", count: 1_100_000) + "1]}").utf8), "values"),
    .raw("/tokenize", Array("{\"content\":tru}".utf8), "value"),
  ]

  static let fields: [Case] = [
    .chat(#""model":"gpt-4""#, "model", "fusionroute:router", status: 404, code: "model_not_found"),
    .chat(
      #""model":"fusionroute:expert:cook""#, "model", "fusionroute:expert:math", status: 404, code: "model_not_found"),
    .chat(#""model":7"#, "model", "string"),
    .chat(#""temperature":"hot""#, "temperature", "number"),
    .chat(#""temperature":-0.1"#, "temperature", "from 0"),
    .chat(#""temperature":1e999"#, "temperature", "from 0"),
    .chat(#""temperature":[1]"#, "temperature", "array"),
    .chat(#""top_p":1.01"#, "top_p", "to 1"),
    .chat(#""top_p":-1e308"#, "top_p", "from 0"),
    .chat(#""top_k":-1"#, "top_k", "from 0"),
    .chat(#""top_k":1.5"#, "top_k", "whole"),
    .chat(#""min_p":2"#, "min_p", "from 0"),
    .chat(#""repetition_penalty":0"#, "repetition_penalty", "from 0.01"),
    .chat(#""presence_penalty":101"#, "presence_penalty", "to 100"),
    .chat(#""frequency_penalty":true"#, "frequency_penalty", "boolean"),
    .chat(#""n":0"#, "n", "from 1"),
    .chat(#""n":129"#, "n", "128"),
    .chat(#""n":99999999999999999999"#, "n", "from 1"),
    .chat(#""n":"2""#, "n", "whole number"),
    .chat(#""best_of":3"#, "best_of", "not supported", code: "unsupported_parameter"),
    .chat(#""max_completion_tokens":-5"#, "max_completion_tokens", "from 1"),
    .chat(#""max_completion_tokens":0"#, "max_completion_tokens", "from 1"),
    .chat(#""max_completion_tokens":1e100"#, "max_completion_tokens", "from 1"),
    .chat(#""seed":1.5"#, "seed", "whole"),
    .chat(#""seed":9223372036854775808"#, "seed", "must be from -9223372036854775808 to 9223372036854775807"),
    .chat(#""stop":7"#, "stop", "string"),
    .chat(#""stop":"""#, "stop", "empty"),
    .chat(#""stop":["a",null]"#, "stop[1]", "string"),
    .chat(#""stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#, "stop", "16"),
    .chat(#""logit_bias":[1]"#, "logit_bias", "object"),
    .chat(#""logit_bias":{"x":1}"#, "logit_bias", "token ids"),
    .chat(#""logit_bias":{"512":1}"#, "logit_bias", "511"),
    .chat(#""logit_bias":{"-1":1}"#, "logit_bias", "token ids"),
    .chat(#""logit_bias":{"5":"a"}"#, "logit_bias.5", "number"),
    .chat(#""logit_bias":{"5":1e30}"#, "logit_bias", "token 5"),
    .chat(#""logprobs":1"#, "logprobs", "boolean"),
    .chat(#""logprobs":true,"top_logprobs":21"#, "top_logprobs", "to 20"),
    .chat(#""top_logprobs":2"#, "top_logprobs", "logprobs: true"),
    .chat(#""stream":"yes""#, "stream", "boolean"),
    .chat(#""stream_options":{"include_usage":true}"#, "stream_options", "stream: true"),
    .chat(#""stream":true,"stream_options":{"include_usage":1}"#, "stream_options.include_usage", "boolean"),
    .chat(#""tools":[{"type":"function"}]"#, "tools", "not supported", code: "unsupported_parameter"),
    .chat(#""functions":[{"name":"f"}]"#, "functions", "not supported"),
    .chat(#""tool_choice":"required""#, "tool_choice", "not supported"),
    .chat(#""modalities":["audio"]"#, "modalities", "text"),
    .chat(#""response_format":"json""#, "response_format", "object"),
    .chat(#""response_format":{}"#, "response_format.type", "missing"),
    .chat(#""response_format":{"type":"xml"}"#, "response_format.type", "json_schema"),
    .chat(#""response_format":{"type":"json_schema"}"#, "response_format.json_schema.schema", "missing"),
    .chat(
      #""response_format":{"type":"json_schema","json_schema":{"schema":3}}"#, "response_format.json_schema.schema",
      "object"),
    .chat(
      #""response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"a":{"not":{}}}}}}"#,
      "response_format.json_schema.schema", "\"not\" at #/properties/a"),
    .chat(
      #""response_format":{"type":"json_object","schema":{"type":"string","maxLength":99999}}"#,
      "response_format.schema",
      "\"maxLength\""),
    .chat(#""user":5"#, "user", "string"),
    .chat(#""fusionroute":1"#, "fusionroute", "object"),
    .chat(#""fusionroute":{"alternatives":-1}"#, "fusionroute.alternatives", "from 0"),
    .chat(#""fusionroute":{"fanout":"some"}"#, "fusionroute.fanout", "selected"),
    .chat(#""fusionroute":{"on_expert_loss":"cry"}"#, "fusionroute.on_expert_loss", "next_best"),
    .chat(#""fusionroute":{"min_p":7}"#, "fusionroute.min_p", "from 0"),
    .messages("[]", "messages", "empty"),
    .messages("\"hi\"", "messages", "array"),
    .messages("null", "messages", "missing"),
    .messages("[3]", "messages[0]", "object"),
    .messages(#"[{"role":"user","content":"a"},{"content":"b"}]"#, "messages[1].role", "missing"),
    .messages(#"[{"role":"king","content":"b"}]"#, "messages[0].role", "assistant"),
    .messages(#"[{"role":"tool","content":"b"}]"#, "messages[0].role", "tools"),
    .messages(#"[{"role":"user"}]"#, "messages[0].content", "missing"),
    .messages(#"[{"role":"user","content":5}]"#, "messages[0].content", "string"),
    .messages(#"[{"role":"user","content":[]}]"#, "messages[0].content", "empty"),
    .messages(#"[{"role":"user","content":["a"]}]"#, "messages[0].content[0]", "object"),
    .messages(#"[{"role":"user","content":[{"text":"a"}]}]"#, "messages[0].content[0].type", "missing"),
    .messages(
      #"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]"#, "messages[0].content[1].type",
      "text"),
    .messages(#"[{"role":"user","content":[{"type":"text"}]}]"#, "messages[0].content[0].text", "missing"),
    .messages(#"[{"role":"assistant","content":"x","tool_calls":[{}]}]"#, "messages[0].tool_calls", "not supported"),
    .messages(#"[{"role":"user","content":"a\u0000b"}]"#, "messages", "NUL"),
    .completion("", "prompt", "missing"),
    .completion(#""prompt":7"#, "prompt", "string"),
    .completion(#""prompt":[]"#, "prompt", "empty"),
    .completion(#""prompt":[[]]"#, "prompt", "empty"),
    .completion(#""prompt":["a",[1]]"#, "prompt[1]", "one kind"),
    .completion(#""prompt":[1,"a"]"#, "prompt[1]", "whole number"),
    .completion(#""prompt":[1,512]"#, "prompt[1]", "511"),
    .completion(#""prompt":[[1],[-1]]"#, "prompt[1][0]", "from 0"),
    .completion(#""prompt":{"a":1}"#, "prompt", "string"),
    .completion(#""prompt":"a","suffix":"b""#, "suffix", "not supported", code: "unsupported_parameter"),
    .completion(#""prompt":"a","logprobs":21"#, "logprobs", "to 20"),
    .completion(#""prompt":"a","logprobs":true"#, "logprobs", "whole number"),
    .completion(#""prompt":"a","echo":"yes""#, "echo", "boolean"),
    .completion(#""prompt":"a","max_tokens":-1"#, "max_tokens", "from 0"),
    .completion(#""prompt":["a","b"],"n":65"#, "n", "130"),
    .completion(
      #""prompt":[\#((0..<600).map { String(3 + $0 % 400) }.joined(separator: ","))]"#, "prompt", "512",
      code: "context_length_exceeded"),
    .completion(
      "\"prompt\":\"\(String(repeating: "a", count: 1 << 20))\"", "prompt", "more than", code: "context_length_exceeded"
    ),
    Case(path: "/tokenize", body: Array("{}".utf8), status: 400, param: "content", word: "missing"),
    Case(path: "/tokenize", body: Array(#"{"content":5}"#.utf8), status: 400, param: "content", word: "string"),
    Case(path: "/detokenize", body: Array(#"{"tokens":["a"]}"#.utf8), status: 400, param: "tokens[0]", word: "whole"),
    Case(path: "/detokenize", body: Array(#"{"tokens":[99999]}"#.utf8), status: 400, param: "tokens[0]", word: "511"),
    Case(path: "/v2/nothing", body: Array("{}".utf8), status: 404, word: "/v2/nothing", code: "unknown_route"),
    Case(path: "/v1/models", body: Array("{}".utf8), status: 405, word: "GET", code: "method_not_allowed"),
  ]

  @Test("each bad input gets its status, its field and its reason, in OpenAI's shape, and the server lives")
  func table() async throws {
    let cases = Self.json + Self.fields
    #expect(cases.count >= 60)
    try await withGateway { gateway in
      let good = #"{"messages":[{"role":"user","content":"hi"}],"max_tokens":8,"temperature":0}"#
      let before = try await gateway.post("/v1/chat/completions", good).string("choices", 0, "message", "content")
      for bad in cases {
        let answer = try await gateway.send(
          "POST", bad.path, headers: ["content-type": "application/json"], body: bad.body)
        #expect(answer.status == bad.status, "\(bad): \(answer.text)")
        #expect(answer.headers["content-type"] == "application/json", "\(bad)")
        let message = try answer.string("error", "message")
        #expect(message?.contains(bad.word) == true, "\(bad): \(message ?? "")")
        #expect(try answer.string("error", "param") == bad.param, "\(bad)")
        #expect(try answer.string("error", "type") == "invalid_request_error", "\(bad)")
        if let code = bad.code { #expect(try answer.string("error", "code") == code, "\(bad)") }
        #expect(answer.headers["x-request-id"]?.isEmpty == false, "\(bad)")
        #expect(try await gateway.get("/health").status == 200, "after \(bad)")
      }
      let after = try await gateway.post("/v1/chat/completions", good).string("choices", 0, "message", "content")
      #expect(after == before && before != nil)
    }
  }

  @Test("what others add to OpenAI's requests is tolerated")
  func tolerated() async throws {
    try await withGateway { gateway in
      for members in [
        #""frobnicate":{"a":[1,2]}"#, #""temperature":null,"stop":null,"n":null,"tools":null"#, #""tools":[]"#,
        #""tool_choice":"none""#, #""store":true,"metadata":{"a":"b"},"service_tier":"auto""#, #""top_k":1e1"#,
        #""max_tokens":3.0"#, #""n":1,"n":2"#, #""x":1e999"#, #""stop":[]"#, #""logit_bias":{}"#, #""best_of":1"#,
      ] {
        let answer = try await gateway.post(
          "/v1/chat/completions",
          #"{"messages":[{"role":"developer","content":[{"type":"text","text":"hi"}]}],"max_tokens":2,\#(members)}"#)
        #expect(answer.status == 200, "\(members): \(answer.text)")
      }
    }
  }

  @Test("bodies of another type or encoding are refused before they are read")
  func contentTypes() async throws {
    try await withGateway { gateway in
      let body = Array(#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#.utf8)
      for type in ["text/plain", "application/x-www-form-urlencoded", "application/json-patch+json", ""] {
        let answer = try await gateway.send(
          "POST", "/v1/chat/completions", headers: type.isEmpty ? [:] : ["content-type": type], body: body)
        #expect(answer.status == 415, "\(type)")
        #expect(try answer.string("error", "message")?.contains("application/json") == true)
      }
      let encoded = try await gateway.send(
        "POST", "/v1/chat/completions", headers: ["content-type": "application/json", "content-encoding": "gzip"],
        body: body)
      #expect(encoded.status == 415)
      let charset = try await gateway.send(
        "POST", "/v1/chat/completions", headers: ["content-type": "Application/JSON; charset=utf-8"], body: body)
      #expect(charset.status == 200)
    }
  }

  @Test("a time limit that is none is refused by its header's name")
  func timeouts() async throws {
    try await withGateway { gateway in
      for text in ["soon", "-1", "0", "nan", "inf", "1e9", ""] {
        let answer = try await gateway.post(
          "/v1/completions", #"{"prompt":"a","max_tokens":1}"#, headers: ["x-request-timeout": text])
        #expect(answer.status == 400, "\(text)")
        #expect(try answer.string("error", "param") == "x-request-timeout")
      }
      let late = try await gateway.post(
        "/v1/completions", #"{"prompt":"a","max_tokens":400,"temperature":0}"#, headers: ["x-request-timeout": "0.0001"]
      )
      #expect(late.status == 504)
      #expect(try late.string("error", "code") == "deadline_exceeded")
    }
  }
}
