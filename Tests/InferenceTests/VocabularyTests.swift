import Core
import Foundation
import ModelFiles
import Testing

@testable import Inference

@Suite(.serialized) struct VocabularyTests {
  static let texts = [
    "", " ", "Hello, world!", "  two  spaces\n\nand\ttabs ", "naïve café — “quotes” …", "日本語のテキスト 🎉👩‍👩‍👧",
    "1234567890 3.14", "a\u{0}b", "<0x41> </s> <|im_start|>", String(repeating: "long ", count: 400),
  ]

  static let models: [(ModelRecipe.Architecture, ModelRecipe.VocabularyKind)] = [(.llama, .spm), (.gemma3, .bpe)]

  private func bytes(_ vocabulary: Vocabulary, _ tokens: [Token]) -> [UInt8] {
    tokens.flatMap { vocabulary.piece($0, special: true) }
  }

  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent), arguments: VocabularyTests.texts)
  func roundTripsThroughSmolLM2(_ text: String) throws {
    let model = try Model.load(path: try TestModels.smolLM2(type: "q4_1"), options: .init(vocabularyOnly: true))
    let tokens = try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: false)
    #expect(bytes(model.vocabulary, tokens) == Array(text.utf8))
    #expect(tokens.allSatisfy { Int($0) < model.vocabulary.size })
  }

  @Test(arguments: VocabularyTests.texts, [ModelRecipe.VocabularyKind.spm, .bpe])
  func roundTripsThroughGenerated(_ text: String, _ kind: ModelRecipe.VocabularyKind) throws {
    let model = try Model.load(path: try TestModels.generated(.llama, vocabulary: kind))
    let tokens = try model.vocabulary.tokenize(text, addSpecial: false, parseSpecial: false)
    var expected = Array(text.utf8)
    // SentencePiece puts a space before a text.
    if kind == .spm, !text.isEmpty, bytes(model.vocabulary, tokens).first == UInt8(ascii: " "),
      bytes(model.vocabulary, tokens).count == expected.count + 1
    {
      expected.insert(UInt8(ascii: " "), at: 0)
    }
    #expect(bytes(model.vocabulary, tokens) == expected)
  }

  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent))
  func knowsSmolLM2sTokens() throws {
    let path = try TestModels.smolLM2(type: "q4_1")
    let model = try Model.load(path: path)
    let vocabulary = model.vocabulary
    #expect(vocabulary.size == 49_152)
    #expect(vocabulary.isEndOfGeneration(0))
    #expect(vocabulary.isEndOfGeneration(2))
    #expect(!vocabulary.isEndOfGeneration(1000))
    #expect(try vocabulary.tokenize("<|im_end|>", addSpecial: false, parseSpecial: true) == [2])
    #expect(try vocabulary.tokenize("<|im_end|>", addSpecial: false, parseSpecial: false).count > 1)
    // Digits one by one.
    #expect(try vocabulary.tokenize("1234", addSpecial: false, parseSpecial: false).count == 4)
    // The file as another reader finds it; 3 is llama.cpp's number for "mostly Q4_1".
    let file = try GGUFFile.read(path)
    let name = try #require(file["general.name"]?.string)
    #expect(file["general.file_type"]?.integer == 3)
    #expect(
      model.information
        == ModelInformation(
          architecture: "llama", name: name, layers: 30, embeddingWidth: 576, heads: 9, keyValueHeads: 3,
          vocabularySize: 49_152, trainedContext: 8192, slidingWindow: nil, weightType: "Q4_1",
          fileBytes: UInt64(file.tensors.map(\.byteCount).reduce(0, +)), parameterCount: 134_515_008,
          isRecurrent: false))
  }

  @Test func idsOutOfRangeAreHarmless() throws {
    let vocabulary = try Model.load(path: try TestModels.generated(.llama)).vocabulary
    for token in [Token(-1), Token(vocabulary.size), Token.max, Token.min] {
      #expect(vocabulary.piece(token, special: true).isEmpty)
      #expect(vocabulary.text(token).isEmpty)
      #expect(vocabulary.attributes(token) == 0)
      #expect(!vocabulary.isEndOfGeneration(token))
      #expect(!vocabulary.isControl(token))
    }
  }

  @Test func fingerprintsTellVocabulariesApart() throws {
    let a = try Model.load(path: try TestModels.generated(.llama, seed: 1)).vocabulary
    let sameTokens = try Model.load(path: try TestModels.generated(.llama, type: "q8_0", seed: 2)).vocabulary
    let other = try Model.load(path: try TestModels.generated(.llama, vocabulary: .bpe)).vocabulary
    #expect(a.fingerprint == sameTokens.fingerprint)
    #expect(a.fingerprint != other.fingerprint)
    #expect(a.fingerprint(ofFirst: 100) == sameTokens.fingerprint(ofFirst: 100))
    #expect(a.fingerprint(ofFirst: 100) != a.fingerprint)
    #expect(a.fingerprint(ofFirst: a.size) == a.fingerprint)
  }

  @Test func callsFromManyThreadsAgree() async throws {
    let vocabulary = try Model.load(path: try TestModels.generated(.llama, vocabulary: .bpe)).vocabulary
    let text = Self.texts.joined(separator: " ")
    let expected = try vocabulary.tokenize(text, addSpecial: true, parseSpecial: true)
    try await withThrowingTaskGroup(of: [Token].self) { group in
      for _ in 0..<32 {
        group.addTask { try vocabulary.tokenize(text, addSpecial: true, parseSpecial: true) }
      }
      for try await tokens in group { #expect(tokens == expected) }
    }
  }
}

/// Rendered prompts, byte for byte as Python's Jinja2 renders them with the settings of `apply_chat_template`.
@Suite struct ChatTemplateTests {
  static let conversations: [[ChatMessage]] = [
    [ChatMessage(role: "user", content: "Hello")],
    [ChatMessage(role: "system", content: "Be brief."), ChatMessage(role: "user", content: "Hi there ")],
    [
      ChatMessage(role: "user", content: "a \"quoted\" <tag> & 日本 🎉\n\nnew line"),
      ChatMessage(role: "assistant", content: " answer\n"), ChatMessage(role: "user", content: ""),
    ],
  ]

  /// Llama 3, Gemma and Mistral in their essentials, and features that differ between engines.
  static let templates = [
    """
    {% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + \
    message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
    {% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
    """,
    """
    {{ bos_token }}
    {%- if messages[0]['role'] == 'system' -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
        {%- set rest = messages[1:] -%}
    {%- else -%}
        {%- set prefix = '' -%}
        {%- set rest = messages -%}
    {%- endif -%}
    {%- for message in rest -%}
        {%- if message.role == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message.role %}{% endif -%}
        {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') + message.content | trim }}
        {{- '<end_of_turn>\n' }}
    {%- endfor -%}
    {%- if add_generation_prompt -%}
        {{ '<start_of_turn>model\n' }}
    {%- endif -%}
    """,
    """
    {% for m in messages %}
      {% if not tools and tools is none %}
    [{{ loop.index }}/{{ loop.length }}] {{ m.role | upper }}: {{ m['content'] | replace('a', 'A') }}{{ eos_token }}
      {% endif %}
    {% endfor %}
    {{ messages | length }} {{ namespace is defined }}
    """,
    """
    {% macro show(text) %}<{{ text }}>{% endmacro %}{% set ns = namespace(count=0) %}
    {% for m in messages if m.role != 'system' %}{% set ns.count = ns.count + 1 %}{{ show(m.content) }}{% endfor %}
    {{- ns.count }} {{ "yes" if add_generation_prompt else "no" }} {{ [1, 2, 3] | join(', ') }}
    """,
  ]

  private static let script = """
    import json, sys
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    data = json.load(sys.stdin)
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = env.from_string(data["template"])
    out = template.render(messages=data["messages"], tools=None, documents=None,
        add_generation_prompt=data["generate"], bos_token=data["bos"], eos_token=data["eos"])
    sys.stdout.buffer.write(out.encode())
    """

  private static func python(_ script: String, input: Data) throws -> Data? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", "-c", script]
    let stdin = Pipe()
    let stdout = Pipe()
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = FileHandle.nullDevice
    try process.run()
    try? stdin.fileHandleForWriting.write(contentsOf: input)
    try? stdin.fileHandleForWriting.close()
    let data = Data(ModelProbe.readToEnd(stdout.fileHandleForReading))
    process.waitUntilExit()
    return process.terminationStatus == 0 ? data : nil
  }

  static let hasJinja2 = ((try? python("import jinja2", input: Data())) ?? nil) != nil

  private func jinja2(
    _ template: String, _ messages: [ChatMessage], generate: Bool, bos: String, eos: String
  ) throws -> String {
    let input: [String: Any] = [
      "template": template, "generate": generate, "bos": bos, "eos": eos,
      "messages": messages.map { ["role": $0.role, "content": $0.content] },
    ]
    let data = try #require(
      try Self.python(Self.script, input: try JSONSerialization.data(withJSONObject: input)))
    return String(decoding: data, as: UTF8.self)
  }

  @Test(.enabled(if: hasJinja2, "Python's jinja2 is not installed"), arguments: templates.indices)
  func equalsJinja2(_ index: Int) throws {
    for messages in Self.conversations {
      for generate in [true, false] {
        let ours = try ChatTemplate.render(
          Self.templates[index], messages: messages, addGenerationPrompt: generate, beginning: "<s>", end: "</s>",
          source: "test")
        let theirs = try jinja2(Self.templates[index], messages, generate: generate, bos: "<s>", eos: "</s>")
        #expect(ours == theirs)
      }
    }
  }

  @Test(.enabled(if: hasJinja2 && TestModels.hasSmolLM2, "needs Python's jinja2 and SmolLM2"))
  func smolLM2EqualsJinja2() throws {
    let model = try Model.load(path: try TestModels.smolLM2(type: "q4_1"), options: .init(vocabularyOnly: true))
    let template = try #require(model.chatTemplate)
    for messages in Self.conversations {
      for generate in [true, false] {
        let theirs = try jinja2(template, messages, generate: generate, bos: "<|im_start|>", eos: "<|im_end|>")
        #expect(try model.renderChat(messages, addGenerationPrompt: generate) == theirs)
      }
    }
  }

  @Test(.enabled(if: TestModels.hasSmolLM2, TestModels.absent))
  func smolLM2GetsItsDefaultSystemMessage() throws {
    let model = try Model.load(path: try TestModels.smolLM2(type: "q4_1"), options: .init(vocabularyOnly: true))
    let text = try model.renderChat([ChatMessage(role: "user", content: "Hello")], addGenerationPrompt: true)
    #expect(
      text == """
        <|im_start|>system
        You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
        <|im_start|>user
        Hello<|im_end|>
        <|im_start|>assistant

        """)
  }

  @Test func aTemplateThatRefusesIsOneSentence() {
    func message(_ template: String, _ messages: [ChatMessage] = ChatTemplateTests.conversations[0]) -> String {
      do {
        return try ChatTemplate.render(
          template, messages: messages, addGenerationPrompt: true, beginning: "", end: "", source: "x.gguf")
      } catch { return (error as? FusionRouteError)?.message ?? "\(error)" }
    }
    let refused = message("{{ raise_exception('roles must alternate') }}")
    #expect(refused.contains("x.gguf") && refused.contains("roles must alternate"), "\(refused)")
    for broken in ["{% if %}", "{{ unknown_function() }}", "{% for x in %}", "{{ messages["] {
      let text = message(broken)
      #expect(text.contains("chat template of x.gguf") && !text.contains("\n"), "\(broken): \(text)")
    }
    #expect(message("{{ 1 }}", [ChatMessage(role: "user", content: "a\u{0}b")]).contains("NUL"))
  }
}
