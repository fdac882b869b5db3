/// Schemas with what tests expect of them.
enum SchemaTables {
  struct Sample: Sendable {
    var schema: String
    var valid: [String]
    var invalid: [String]

    init(_ schema: String, valid: [String], invalid: [String]) {
      (self.schema, self.valid, self.invalid) = (schema, valid, invalid)
    }
  }

  static let samples: [Sample] = [
    Sample(
      #"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}"#,
      valid: [#"{"a":1}"#, #"{"a": -5, "b": "x"}"#, #"{ "a": 0,"b": "" }"#],
      invalid: [#"{}"#, #"{"a":"1"}"#, #"{"a":1,"b":2}"#]),
    Sample(#"{"type":["string","null"]}"#, valid: ["null", #""x""#], invalid: ["1", "nul"]),
    Sample(
      #"{"enum":["a","ab",1,null,{"x":[1,"y"]}]}"#, valid: [#""a""#, #""ab""#, "1", "null", #"{"x":[1,"y"]}"#],
      invalid: [#""b""#, "2"]),
    Sample(#"{"type":"string","enum":["a",1,null]}"#, valid: [#""a""#], invalid: ["1", "null"]),
    Sample(#"{"type":"integer","enum":["a",1,2.5,4.0]}"#, valid: ["1", "4.0"], invalid: ["2.5", #""a""#]),
    Sample(
      #"{"const":"quote \" back \\ line \n tab \t ä 🙂 \u0001"}"#,
      valid: [#""quote \" back \\ line \n tab \t ä 🙂 \u0001""#], invalid: [#""quote""#]),
    Sample(
      #"{"properties":{"":{"const":1},"a b":{"const":2},"a-b":{"const":3}},"required":["","a b","a-b"]}"#,
      valid: [#"{"":1,"a b":2,"a-b":3}"#], invalid: [#"{"":1,"a b":3,"a-b":2}"#, "1"]),
    Sample(
      #"{"properties":{"root":{"const":1},"space":{"const":2},"char":{"type":"string"},"ref-schemas-s0":{"const":4},"unresolved reference":{"const":"unresolved reference"}},"required":["root","space","char","ref-schemas-s0","unresolved reference"]}"#,
      valid: [#"{"root":1,"space":2,"char":"xyz","ref-schemas-s0":4,"unresolved reference":"unresolved reference"}"#],
      invalid: [#"{"root":1}"#]),
    Sample(
      #"{"properties":{"\"]":{"const":1},"\\":{"const":2},"\n":{"const":3}},"required":["\"]","\\","\n"]}"#,
      valid: [#"{"\"]":1,"\\":2,"\n":3}"#], invalid: []),
    Sample(
      #"{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3}"#,
      valid: ["[true]", "[true, false,true]", "[ true ]"], invalid: ["[]", "[true,true,true,true]", "[1]"]),
    Sample(#"{"type":"array","items":{"const":1},"maxItems":0}"#, valid: ["[]"], invalid: ["[1]"]),
    Sample(
      #"{"type":"array","items":{"const":1},"minItems":2}"#, valid: ["[1,1]", "[1,1,1,1,1]"], invalid: ["[1]", "[]"]),
    Sample(#"{"type":"array"}"#, valid: ["[]", #"[1,"a",{"b":[null]},true]"#], invalid: ["{}", "[1,]"]),
    Sample(
      #"{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":false}"#, valid: [#"["a",1]"#],
      invalid: ["[]", #"["a"]"#, #"["a",1,2]"#]),
    Sample(
      #"{"type":"string","minLength":2,"maxLength":3}"#,
      valid: [#""ab""#, #""äöü""#, #""\"\\""#, #""🙂🙂""#, #""\u0041\n""#],
      invalid: [#""a""#, #""abcd""#, #""\ud83d\ude42""#]),
    Sample(#"{"type":"string","maxLength":0}"#, valid: [#""""#], invalid: [#""a""#]),
    Sample(#"{"minimum":1005}"#, valid: ["1005", "1005.5", "2000"], invalid: ["15", "1004.999", "-2000"]),
    Sample(#"{"type":"integer","maximum":-5}"#, valid: ["-5", "-12"], invalid: ["-4", "5", "-012", "-0"]),
    Sample(
      #"{"type":"integer","exclusiveMinimum":0.5,"exclusiveMaximum":3}"#, valid: ["1", "2"], invalid: ["0", "3", "1.0"]),
    Sample(
      #"{"type":"number","exclusiveMinimum":0,"maximum":0.25}"#, valid: ["0.25", "0.000001", "0.1", "0.250"],
      invalid: ["0", "0.0", "0.26", "0.251"]),
    Sample(
      #"{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}"#,
      valid: ["0", "999999999999999"], invalid: ["1.5"]),
    Sample(
      #"{"type":"number"}"#, valid: ["0", "-1.5", "1e5", "2.5E-3", "123456789012345"],
      invalid: ["01", "1.", ".5", "+1", "NaN", "Infinity", "1e999"]),
    Sample(
      #"{"type":"object","additionalProperties":{"type":"integer"}}"#, valid: ["{}", #"{"x": 1,"y": 2}"#],
      invalid: [#"{"x":"1"}"#]),
    Sample(#"{"type":"object","additionalProperties":false}"#, valid: ["{}"], invalid: [#"{"x":1}"#]),
    Sample(
      #"{"type":"object","properties":{},"additionalProperties":true}"#, valid: ["{}", #"{"x":{"y":[]}}"#],
      invalid: ["[]"]),
    Sample(##"{"$ref":"#/$defs/a~1b%25c","$defs":{"a/b%c":{"const":1}}}"##, valid: ["1"], invalid: ["2"]),
    Sample(
      ##"{"$ref":"#/$defs/u/anyOf/1","$defs":{"u":{"anyOf":[false,{"const":1}]}}}"##, valid: ["1"], invalid: ["2"]),
    Sample(
      ##"{"properties":{"a b":{"$ref":"#/$defs/a b"},"c":{"$ref":"#/$defs/a-b"}},"required":["a b","c"],"$defs":{"a b":{"const":1},"a-b":{"const":2}}}"##,
      valid: [#"{"a b":1,"c":2}"#], invalid: [#"{"a b":1,"c":1}"#, #"{"a b":2,"c":2}"#]),
    Sample(
      ##"{"type":"object","properties":{"next":{"$ref":"#"}}}"##, valid: ["{}", #"{"next":{"next":{}}}"#],
      invalid: [#"{"next":1}"#]),
    Sample(
      ##"{"allOf":[{"$ref":"#/$defs/x"}],"title":"T","default":1,"$defs":{"x":{"const":1}}}"##, valid: ["1"],
      invalid: ["2"]),
    Sample(
      #"{"oneOf":[{"type":"integer"},{"type":"string"},{"type":"null"}]}"#, valid: ["1", #""a""#, "null"],
      invalid: ["true"]),
    Sample(
      #"{"oneOf":[{"properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},{"properties":{"k":{"enum":["b","c"]}},"required":["k"]}]}"#,
      valid: [#"{"k":"a","x":1}"#, #"{"k":"c"}"#], invalid: [#"{"k":"a"}"#, #"{"k":"b","x":1}"#]),
    Sample(
      #"{"oneOf":[{"properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false},{"properties":{"b":{"type":"integer"}},"required":["b"],"additionalProperties":false}]}"#,
      valid: [#"{"a":1}"#, #"{"b":1}"#], invalid: [#"{"a":1,"b":1}"#]),
    // Names are what their code points are, whatever they look like.
    Sample(
      #"{"properties":{"\u00e9":{"type":"integer"},"e\u0301":{"type":"string"}},"required":["\u00e9","e\u0301"]}"#,
      valid: ["{\"\u{e9}\":1,\"e\u{301}\":\"x\"}"],
      invalid: ["{\"\u{e9}\":\"x\",\"e\u{301}\":1}", "{\"e\u{301}\":1,\"\u{e9}\":\"x\"}"]),
    Sample(
      ##"{"properties":{"a":{"$ref":"#/$defs/%C3%A9"},"b":{"$ref":"#/$defs/e%CC%81"}},"required":["a","b"],"$defs":{"\u00e9":{"const":1},"e\u0301":{"const":2}}}"##,
      valid: [#"{"a":1,"b":2}"#], invalid: [#"{"a":1,"b":1}"#, #"{"a":2,"b":2}"#]),
    // U+0600 and what follows it are one Character.
    Sample(
      #"{"properties":{"\u0600":{"type":"array","items":{"type":"integer"}},"\u0600/items":{"type":"string"}},"required":["\u0600","\u0600/items"]}"#,
      valid: ["{\"\u{600}\":[1],\"\u{600}/items\":\"x\"}"],
      invalid: [
        "{\"\u{600}\":[\"x\"],\"\u{600}/items\":\"x\"}", "{\"\u{600}\":[1],\"\u{600}/items\":1}",
      ]),
    Sample(
      ##"{"$ref":"#/$defs/%D8%80~1%D8%80~0","$defs":{"\u0600/\u0600~":{"const":1}}}"##, valid: ["1"], invalid: ["2"]),
    Sample(
      #"{"properties":{"*":{"type":"integer"}},"required":["*"]}"#, valid: [#"{"*":1}"#],
      invalid: ["{}", #"{"*":1,"*":2}"#]),
    Sample("true", valid: ["1", #"{"a":[]}"#], invalid: ["tru"]),
    Sample("{}", valid: ["null", "[[[]]]"], invalid: ["nulll"]),
    Sample(#"{"type":"string","pattern":"b+"}"#, valid: [#""abba""#, #""b""#], invalid: [#""aa""#]),
    Sample(#"{"type":"string","pattern":"^\".*\\\\$"}"#, valid: [#""\"x\\""#], invalid: [#""x\\""#]),
  ]

  static func repeated(_ text: String, _ count: Int) -> String { String(repeating: text, count: count) }
  static func list(_ count: Int, _ make: (Int) -> String) -> String {
    (0..<count).map(make).joined(separator: ",")
  }

  /// A schema, and words that the sentence must have.
  static let hostile: [(schema: String, words: [String])] = [
    // Keywords that the converter ignores.
    (#"{"not":{"type":"string"}}"#, ["\"not\"", "#"]),
    (#"{"properties":{"a":{"if":{},"then":{}}}}"#, ["\"if\"", "#/properties/a"]),
    (#"{"type":"array","uniqueItems":true}"#, ["\"uniqueItems\""]),
    (#"{"type":"number","multipleOf":0.01}"#, ["\"multipleOf\""]),
    (#"{"type":"object","patternProperties":{"^a":{}}}"#, ["\"patternProperties\""]),
    (#"{"type":"object","minProperties":1}"#, ["\"minProperties\""]),
    (#"{"type":"object","maxProperties":1}"#, ["\"maxProperties\""]),
    (#"{"type":"object","propertyNames":{"maxLength":3}}"#, ["\"propertyNames\""]),
    (#"{"type":"object","dependentRequired":{"a":["b"]}}"#, ["\"dependentRequired\""]),
    (#"{"type":"object","dependentSchemas":{}}"#, ["\"dependentSchemas\""]),
    (#"{"type":"array","contains":{"const":1}}"#, ["\"contains\""]),
    (#"{"type":"array","unevaluatedItems":false}"#, ["\"unevaluatedItems\""]),
    (#"{"type":"object","unevaluatedProperties":false}"#, ["\"unevaluatedProperties\""]),
    (#"{"type":"array","additionalItems":false}"#, ["\"additionalItems\""]),
    (##"{"$dynamicRef":"#x"}"##, ["\"$dynamicRef\""]),
    (#"{"type":"string","contentEncoding":"base64"}"#, ["\"contentEncoding\""]),
    (#"{"type":"string","format":"uri"}"#, ["\"format\"", "uri"]),
    (#"{"type":"string","format":"uuid4"}"#, ["\"format\""]),
    (#"{"nullable":true}"#, ["\"nullable\""]),
    (#"{"requierd":[]}"#, ["\"requierd\""]),
    // Combinations.
    (##"{"$ref":"#/$defs/a","type":"string","$defs":{"a":{}}}"##, ["\"type\"", "\"$ref\""]),
    (#"{"anyOf":[{}],"oneOf":[{}]}"#, ["\"anyOf\"", "\"oneOf\""]),
    (#"{"anyOf":[{"type":"string"}],"minLength":1}"#, ["\"minLength\"", "\"anyOf\""]),
    (#"{"allOf":[{"type":"object"},{"type":"object"}]}"#, ["\"allOf\""]),
    (#"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#, ["\"oneOf\"", "anyOf"]),
    (#"{"oneOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}"#, ["\"oneOf\""]),
    (
      #"{"oneOf":[{"properties":{"a":{}},"required":["a"]},{"properties":{"a":{},"b":{}},"required":["a","b"]}]}"#,
      ["\"oneOf\""]
    ),
    (#"{"oneOf":[{"const":1},{"const":1.0}]}"#, ["\"oneOf\""]),
    (#"{"const":1,"enum":[1]}"#, ["\"enum\"", "\"const\""]),
    (#"{"type":"string","pattern":"^a$","maxLength":3}"#, ["\"maxLength\"", "\"pattern\""]),
    (#"{"type":"string","format":"date","minLength":3}"#, ["\"minLength\"", "\"format\""]),
    (#"{"properties":{"a":{}},"additionalProperties":{"type":"string"}}"#, ["\"additionalProperties\""]),
    (#"{"properties":{"a":{}},"required":["b"]}"#, ["\"required\"", "\"b\""]),
    (#"{"type":"object","required":["b"]}"#, ["\"required\"", "\"b\""]),
    (#"{"properties":{"\u00e9":{"type":"integer"}},"required":["e\u0301"]}"#, ["\"required\"", "\"e\u{301}\""]),
    (#"{"properties":{"*":{"type":"integer"}}}"#, ["\"properties\"", "\"*\""]),
    (##"{"$ref":"#/$defs/\u00e9","$defs":{"e\u0301":{}}}"##, ["\"$ref\"", "does not exist"]),
    ("{\"$ref\":\"#/x" + repeated("\u{301}", 2000) + "\"}", ["\"$ref\"", "does not exist"]),
    (#"{"minLength":1,"minItems":1}"#, ["\"type\""]),
    // Malformed.
    ("", ["not valid JSON"]), ("{", ["not valid JSON"]), ("[]", ["#", "object"]), ("1", ["#", "object"]),
    ("false", ["#", "false"]),
    (#"{"type":"strin"}"#, ["\"type\"", "\"string\""]), (#"{"type":[]}"#, ["\"type\""]),
    (#"{"type":{}}"#, ["\"type\""]),
    (#"{"type":"string","type":"null"}"#, ["\"type\"", "twice"]), (#"{"properties":[]}"#, ["\"properties\""]),
    (#"{"properties":{"a":1}}"#, ["#/properties/a"]), (#"{"properties":{"a":{},"a":{}}}"#, ["\"a\"", "twice"]),
    (#"{"required":"a"}"#, ["\"required\""]), (#"{"items":[{}]}"#, ["\"items\"", "prefixItems"]),
    (#"{"enum":[]}"#, ["\"enum\""]),
    (#"{"type":"string","enum":[1]}"#, ["\"enum\""]), (#"{"const":1e300}"#, ["\"const\""]),
    (#"{"const":12345678901234567890}"#, ["\"const\""]),
    (#"{"anyOf":[]}"#, ["\"anyOf\""]), (#"{"anyOf":{}}"#, ["\"anyOf\""]), (#"{"anyOf":[false]}"#, ["#/anyOf/0"]),
    (#"{"type":"string","minLength":-1}"#, ["\"minLength\""]),
    (#"{"type":"string","minLength":1.5}"#, ["\"minLength\""]),
    (#"{"type":"string","minLength":"1"}"#, ["\"minLength\""]),
    (#"{"type":"string","minLength":5,"maxLength":3}"#, ["\"maxLength\"", "\"minLength\""]),
    (#"{"type":"array","minItems":5,"maxItems":3}"#, ["\"maxItems\"", "\"minItems\""]),
    (#"{"type":"integer","minimum":"1"}"#, ["\"minimum\""]),
    (#"{"type":"number","exclusiveMinimum":true}"#, ["\"exclusiveMinimum\""]),
    (#"{"type":"integer","minimum":5,"maximum":4}"#, ["\"minimum\""]),
    (#"{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":1}"#, ["integer"]),
    (#"{"minimum":1e300}"#, ["\"minimum\""]),
    (#"{"prefixItems":[{}],"minItems":2}"#, ["\"minItems\""]),
    (#"{"prefixItems":[{},{}],"maxItems":1}"#, ["\"maxItems\""]),
    (#"{"prefixItems":[{}],"items":{"type":"string"}}"#, ["\"items\""]), ("{\"title\":\"\u{0}\"}", ["not valid JSON"]),
    // References.
    (#"{"$ref":"https://example.org/schema"}"#, ["\"$ref\"", "https://example.org/schema"]),
    (##"{"$ref":"#/$defs/absent"}"##, ["\"$ref\"", "absent"]),
    (#"{"$ref":"other.json#/a"}"#, ["\"$ref\""]), (##"{"$ref":"#anchor"}"##, ["\"$ref\""]),
    (#"{"$ref":1}"#, ["\"$ref\""]),
    (##"{"$ref":"#/anyOf/99999999999999999999"}"##, ["\"$ref\""]), (##"{"$ref":"#/%ff"}"##, ["\"$ref\""]),
    (##"{"$ref":"#/%"}"##, ["\"$ref\""]),
    (##"{"$ref":"#"}"##, ["refers to itself"]),
    (##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##, ["refers to itself"]),
    (##"{"anyOf":[{"$ref":"#"},{"type":"null"}]}"##, ["refers to itself"]),
    (##"{"properties":{"a":{"$ref":"#"}},"required":["a"]}"##, ["without end"]),
    (##"{"prefixItems":[{"$ref":"#"}]}"##, ["without end"]),
    (##"{"type":"array","items":{"$ref":"#"},"minItems":1}"##, ["without end"]),
    (#"{"properties":{"a":{"$id":"https://example.org/x","type":"string"}}}"#, ["\"$id\""]),
    // Sizes.
    (#"{"type":"string","maxLength":2001}"#, ["\"maxLength\"", "2001"]),
    (#"{"type":"string","minLength":1e15}"#, ["\"minLength\""]),
    (#"{"type":"string","maxLength":99999999999999999999999}"#, ["\"maxLength\""]),
    (#"{"type":"array","maxItems":1000000000}"#, ["\"maxItems\""]),
    (#"{"type":"array","minItems":513}"#, ["\"minItems\""]), (repeated("[", 100_000), ["65536"]),
    (repeated("[", 1000), ["nested"]),
    ("{\"properties\":{" + list(300) { "\"p\($0)\":{}" } + "}}", ["\"properties\""]),
    ("{\"properties\":{" + list(65) { "\"p\($0)\":{}" } + "}}", ["\"required\""]),
    ("{\"properties\":{\"\(repeated("日", 200))\":{}}}", ["\"properties\"", "600"]),
    ("{\"enum\":[" + list(1025) { "\($0)" } + "]}", ["\"enum\""]),
    ("{\"anyOf\":[" + list(65) { #"{"const":\#($0)}"# } + "]}", ["\"anyOf\""]),
    ("{\"prefixItems\":[" + list(1200) { #"{"const":\#($0)}"# } + "]}", ["\"prefixItems\""]),
    (
      "{\"prefixItems\":[" + list(100) { _ in #"{"type":"string","maxLength":200}"# } + "]}", ["\"maxLength\"", "8192"]
    ),
    ("{\"prefixItems\":[" + list(40) { _ in "{\"prefixItems\":[\(list(40) { _ in "{}" })]}" } + "]}", ["1024"]),
    ("{\"type\":\"string\",\"description\":\"\(repeated("x", 70_000))\"}", ["bytes"]),
    // A chain of references longer than any stack should be.
    (
      ##"{"$ref":"#/$defs/a0","$defs":{"## + list(900) { ##""a\##($0)":{"$ref":"#/$defs/a\##($0 + 1)"}"## }
        + #","a900":{}}}"#, ["32"]
    ),
    // Alternatives that double at every level.
    (
      ##"{"$ref":"#/$defs/a0","$defs":{"##
        + list(20) {
          ##""a\##($0)":{"anyOf":[{"items":{"$ref":"#/$defs/a\##($0 + 1)"}},{"items":{"$ref":"#/$defs/a\##($0 + 1)"}}]}"##
        } + #","a20":{}}}"#, ["begin alike"]
    ),
    (
      ##"{"anyOf":[{"type":"null"},{"properties":{"a":{"$ref":"#"},"b":{"const":1}},"required":["a","b"]},{"properties":{"a":{"$ref":"#"},"c":{"const":1}},"required":["a","c"]}]}"##,
      ["begin alike"]
    ),
    (
      ##"{"$ref":"#/$defs/a0","$defs":{"##
        + list(30) {
          ##""a\##($0)":{"anyOf":[{"$ref":"#/$defs/a\##($0 + 1)"},{"$ref":"#/$defs/b\##($0 + 1)"}]},"b\##($0)":{"anyOf":[{"$ref":"#/$defs/a\##($0 + 1)"},{"type":"string","minLength":\##($0)}]}"##
        } + #","a30":{"type":"array"},"b30":{"type":"string"}}}"#, []
    ),
    // Patterns.
    (#"{"pattern":"("}"#, ["\"pattern\"", "("]), (#"{"pattern":")"}"#, ["\"pattern\""]),
    (#"{"pattern":"*"}"#, ["\"pattern\""]), (#"{"pattern":"[a"}"#, ["\"pattern\""]),
    (#"{"pattern":"[z-a]"}"#, ["\"pattern\""]), (#"{"pattern":"a{2,1}"}"#, ["\"pattern\""]),
    (#"{"pattern":"a{,2}"}"#, ["\"pattern\""]), (#"{"pattern":"a{99999999999}"}"#, ["\"pattern\""]),
    (#"{"pattern":"^(?=a)"}"#, ["\"pattern\"", "lookarounds"]), (#"{"pattern":"(?<n>a)"}"#, ["\"pattern\""]),
    (#"{"pattern":"(a)\\1"}"#, ["\"pattern\""]), (#"{"pattern":"\\bword"}"#, ["\"pattern\""]),
    (#"{"pattern":"\\p{L}"}"#, ["\"pattern\""]), (#"{"pattern":"a^b"}"#, ["\"pattern\"", "anchor"]),
    (#"{"pattern":"(a$)"}"#, ["\"pattern\"", "anchor"]), (#"{"pattern":"a**"}"#, ["\"pattern\""]),
    (#"{"pattern":"[]a]"}"#, ["\"pattern\""]), (#"{"pattern":"^\\ud800$"}"#, ["\"pattern\""]),
    (#"{"pattern":"^\\x00$"}"#, ["\"pattern\""]), (#"{"pattern":"\\"}"#, ["\"pattern\""]),
    (#"{"pattern":1}"#, ["\"pattern\""]),
    ("{\"pattern\":\"^" + repeated("(", 50) + "a" + repeated(")", 50) + "$\"}", ["\"pattern\"", "16"]),
    ("{\"pattern\":\"" + repeated("a", 600) + "\"}", ["\"pattern\"", "512"]),
    (#"{"pattern":"^((a{200}){200}){200}$"}"#, ["\"pattern\"", "too large"]),
    (#"{"pattern":"^.*a.{20}$"}"#, ["\"pattern\"", "too large"]),
    ("{\"prefixItems\":[" + list(100) { _ in #"{"pattern":"^(?:ab|cd|ef){1,128}$"}"# } + "]}", ["8192"]),
  ]

  static let largest: [String] = [
    // A thousand constants in common, which every two of the objects are compared by.
    "{\"oneOf\":["
      + list(60) { object in
        "{\"properties\":{" + list(14) { ##""p\##($0)":{"$ref":"#/$defs/e"}"## } + ",\"kind\":{\"const\":\(object)}},"
          + "\"required\":[" + list(14) { "\"p\($0)\"" } + ",\"kind\"]}"
      } + "],\"$defs\":{\"e\":{\"enum\":[" + list(1000) { "\($0)" } + "]}}}",
    // Choices that all lead to the same thousand constants.
    "{\"prefixItems\":["
      + list(400) { _ in ##"{"anyOf":[{"$ref":"#/$defs/a"}]}"## } + "],\"$defs\":{\"a\":{\"anyOf\":["
      + list(50) { object in
        "{\"properties\":{\"kind\":{\"enum\":[" + list(20) { "\(object * 20 + $0)" } + "]}},\"required\":[\"kind\"]}"
      } + "]}}}",
    // Deep.
    repeated(#"{"items":"#, 120) + #"{"type":"null"}"# + repeated("}", 120),
    repeated(#"{"properties":{"a":"#, 60) + "{}" + repeated("}}", 60),
    // Long chains.
    ##"{"$ref":"#/$defs/a0","$defs":{"##
      + list(500) { ##""a\##($0)":{"properties":{"next":{"$ref":"#/$defs/a\##($0 + 1)"}}}"## } + #","a500":{}}}"#,
    ##"{"$ref":"#/$defs/a0","$defs":{"## + list(30) { ##""a\##($0)":{"$ref":"#/$defs/a\##($0 + 1)"}"## }
      + #","a30":{}}}"#,
    // Wide.
    "{\"properties\":{"
      + list(250) { "\"\(repeated("日", 20))\($0)\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":\($0)}" }
      + "},\"required\":["
      + list(250) { "\"\(repeated("日", 20))\($0)\"" } + "]}",
    "{\"properties\":{" + list(64) { "\"property\($0)\":{\"type\":\"boolean\"}" } + "}}",
    "{\"prefixItems\":[" + list(12) { _ in "{\"properties\":{" + list(64) { "\"p\($0)\":{\"type\":\"null\"}" } + "}}" }
      + "]}",
    "{\"enum\":[" + list(1000) { "\"\(repeated("w", 20))\($0)\"" } + "]}",
    "{\"anyOf\":["
      + list(60) { #"{"properties":{"kind":{"const":\#($0)},"x":{"type":"string"}},"required":["kind","x"]}"# } + "]}",
    #"{"type":"string","minLength":2000,"maxLength":2000}"#,
    #"{"type":"array","items":{},"minItems":512,"maxItems":512}"#,
    "{\"prefixItems\":[" + list(4) { _ in #"{"type":"string","maxLength":2000}"# } + "]}",
    #"{"pattern":"^(?:[a-z]+|[0-9]{2}|x?y?z?){0,60}$"}"#, ##"{"anyOf":[{"type":"null"},{"items":{"$ref":"#"}}]}"##,
    // The most readings.
    "{\"anyOf\":[" + list(60) { #"{"properties":{"a":{"type":"string"},"b\#($0)":{}},"required":["a","b\#($0)"]}"# }
      + "]}",
  ]
}
