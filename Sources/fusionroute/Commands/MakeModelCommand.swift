internal import ArgumentParser
internal import Core
internal import Foundation
internal import Inference
internal import ModelFiles
internal import Training

struct MakeModelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make-model",
    abstract: "Write models for trials: random weights, perturbed copies, routing heads.",
    subcommands: [RandomModel.self, Perturb.self, Head.self], defaultSubcommand: RandomModel.self)

  struct RandomModel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "random", abstract: "Write a model of any shape with random weights.",
      discussion: "The same options give the same file. Its text means nothing; its arithmetic is real.")

    @Argument(help: ArgumentHelp("Where to write it (GGUF).", valueName: "out"))
    var result: String

    @Option(help: "llama, gemma2 or gemma3.")
    var architecture: ModelRecipe.Architecture = .llama

    @Option(help: ArgumentHelp("Transformer blocks.", valueName: "n"))
    var layers = 4

    @Option(help: ArgumentHelp("Embedding width.", valueName: "n"))
    var width = 64

    @Option(help: ArgumentHelp("Attention heads.", valueName: "n"))
    var heads = 4

    @Option(
      help: ArgumentHelp(
        "Key/value heads; less than --heads is grouped-query attention. Default: as many.", valueName: "n"))
    var kvHeads: Int?

    @Option(help: ArgumentHelp("Elements of a head. Default: width / heads.", valueName: "n"))
    var headDimension: Int?

    @Option(help: ArgumentHelp("Width of the feed-forward layers. Default: 3 × width.", valueName: "n"))
    var feedForward: Int?

    @Option(
      help: """
        spm (as in Llama 2 and Gemma) or bpe (as in GPT-2 and SmolLM2). Default: spm, and bpe with --vocabulary-from.
        """)
    var vocabulary: ModelRecipe.VocabularyKind?

    @Option(help: ArgumentHelp("Tokens in the vocabulary.", valueName: "n"))
    var vocabularySize = 512

    @Option(
      help: ArgumentHelp(
        "Learn a byte-level BPE vocabulary from this data (text, or JSONL as `train` takes it). Repeatable.",
        valueName: "file"))
    var vocabularyFrom: [String] = []

    @Option(
      help: ArgumentHelp(
        "Positions that a windowed layer sees; 0 is no window. Default: 512 for gemma2 and gemma3.", valueName: "n"))
    var window: Int?

    @Option(
      help: ArgumentHelp(
        "Every n-th layer sees everything. Default: 2 for gemma2, 6 for gemma3.", valueName: "n"))
    var windowPattern: Int?

    @Flag(help: "Give the output a matrix of its own instead of the embedding's.")
    var untied = false

    @Option(help: ArgumentHelp("The context that the model says it was trained with.", valueName: "n"))
    var context = 2048

    @Option(help: ArgumentHelp("Base of the rotary position encoding. Default: the architecture's.", valueName: "f"))
    var ropeBase: Float?

    @Option(help: ArgumentHelp("Weight type: f32, f16, bf16, q8_0, q4_K.", valueName: "type"))
    var type = "f32"

    @Flag(inversion: .prefixedNo, help: "Include a ChatML template.")
    var chatTemplate = true

    @Option(help: ArgumentHelp("Name in the file.", valueName: "name"))
    var name = "generated"

    @Option(help: ArgumentHelp("Seed of the weights.", valueName: "n"))
    var seed: UInt64 = 1

    @OptionGroup(title: "Output") var output: OutputOptions

    func validate() throws {
      guard vocabularyFrom.isEmpty || vocabulary != .spm else {
        throw ValidationError("--vocabulary-from learns a byte-level BPE vocabulary: leave --vocabulary spm out.")
      }
    }

    func recipe() throws -> ModelRecipe {
      guard let type = TensorType(name: type) else {
        throw FusionRouteError.usage("\"\(type)\" is no weight type: use f32, f16, bf16, q8_0 or q4_K")
      }
      var recipe = ModelRecipe(architecture: architecture, seed: seed)
      recipe.layers = layers
      recipe.width = width
      recipe.heads = heads
      recipe.kvHeads = kvHeads ?? heads
      recipe.headDimension = headDimension
      recipe.feedForward = feedForward ?? 3 &* width  // A width for which this wraps around is refused.
      recipe.vocabularyKind = vocabularyFrom.isEmpty ? vocabulary ?? .spm : .bpe
      recipe.vocabularySize = vocabularySize
      if let window { recipe.window = window == 0 ? nil : window }
      recipe.windowPattern = windowPattern
      recipe.tied = !untied
      recipe.context = context
      if let ropeBase { recipe.ropeBase = ropeBase }
      recipe.type = type
      recipe.chatTemplate = chatTemplate
      recipe.name = name
      try recipe.validate()
      return recipe
    }

    func run() async throws {
      _ = output.bootstrap(default: .warning)
      let (result, sources, size) = (result, vocabularyFrom, vocabularySize)
      let recipe = try recipe()
      try ResultPath.check(result, inputs: sources)
      try await withInterruption {
        guard !sources.isEmpty else {
          return try await writing("writing \(result)") { progress in
            try ModelMaker.make(recipe, to: result, progress: progress)
          }
        }
        try await writing("learning the vocabulary and writing \(result)") { progress in
          let learnt = try LearntMerges.learn(from: sources.flatMap(Self.texts), size: size)
          try ModelMaker.make(recipe, vocabulary: learnt, to: result, progress: progress)
        }
      }
    }

    /// The texts of a data file.
    private static func texts(_ path: String) throws -> [String] {
      guard path.hasSuffix(".jsonl") else {
        return [try TextFile.read(path)]
      }
      return try RecordReader.read(path).flatMap { entry in
        switch entry.record {
        case .text(let text): [text]
        case .conversation(let messages): messages.map(\.content)
        case .preference(let prompt, let chosen, let rejected): prompt.map(\.content) + [chosen, rejected]
        }
      }
    }
  }

  struct Perturb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write a copy of a model with noise on its weights: a stand-in for an expert.",
      discussion: """
        Adds N(0, (strength × rms)²) to every weight matrix, rms being that matrix's own. Types, vocabulary and templates \
        stay as they are. Copies with different seeds agree with the original and each other mostly.
        """)

    @Argument(help: ArgumentHelp("The model (GGUF).", valueName: "in"))
    var input: String

    @Argument(help: ArgumentHelp("Where to write the copy.", valueName: "out"))
    var result: String

    @Option(help: ArgumentHelp("Noise relative to the weights.", valueName: "f"))
    var strength: Float

    @Option(help: ArgumentHelp("Seed of the noise.", valueName: "n"))
    var seed: UInt64 = 1

    @Flag(help: "Change norms and biases too; a little noise on them changes much.")
    var includeVectors = false

    @Option(help: ArgumentHelp("Leave tensors whose name contains this as they are. Repeatable.", valueName: "text"))
    var except: [String] = []

    @OptionGroup(title: "Output") var output: OutputOptions

    func run() async throws {
      _ = output.bootstrap(default: .warning)
      let options = ModelMaker.PerturbationOptions(includesVectors: includeVectors, except: except)
      let (input, result, strength, seed) = (input, result, strength, seed)
      try ResultPath.check(result, inputs: [input])
      try await withInterruption {
        try await writing("writing \(result)") { progress in
          try ModelMaker.perturb(
            input, to: result, strength: strength, seed: seed, options: options, progress: progress)
        }
      }
    }
  }

  struct Head: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write a routing head that was not trained: random, or calibrated to alternate.",
      discussion: """
        With --width, or --model alone, the head is random; over a real model such a head picks the same expert at \
        nearly every token. With --model and --text it is calibrated on the model's hidden states over that text, so \
        that the experts alternate.
        """)

    @Argument(help: ArgumentHelp("Where to write it (GGUF).", valueName: "out"))
    var result: String

    @Option(help: ArgumentHelp("The experts' names in the order of the rows: a,b,c.", valueName: "names"))
    var experts: String

    @Option(help: ArgumentHelp("The router's embedding width.", valueName: "n"))
    var width: Int?

    @Option(help: ArgumentHelp("The router's model, instead of --width.", valueName: "file"))
    var model: String?

    @Option(help: ArgumentHelp("A text file to calibrate on.", valueName: "file"))
    var text: String?

    @Option(help: ArgumentHelp("What the router's logits are multiplied by in fusion.", valueName: "f"))
    var complementScale: Float = 1

    @Option(help: ArgumentHelp("Seed of the weights.", valueName: "n"))
    var seed: UInt64 = 1

    @OptionGroup(title: "Output") var output: OutputOptions

    func validate() throws {
      guard (width == nil) != (model == nil) else { throw ValidationError("Give either --width or --model.") }
      guard text == nil || model != nil else { throw ValidationError("--text needs --model.") }
      guard complementScale.isFinite, complementScale >= 0 else {
        throw ValidationError("--complement-scale must be a number from 0.")
      }
    }

    func run() async throws {
      _ = output.bootstrap(default: .warning)
      let names = experts.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      let (model, text, result, scale, seed) = (model, text, result, complementScale, seed)
      try ResultPath.check(result, inputs: [model, text].compactMap { $0 })
      let width = try width ?? Self.width(of: model ?? "")
      try await withInterruption {
        try await Progress().step("writing \(result)") {
          let head: RoutingHead
          if let model, let text {
            let states = try HiddenStates.capture(model: model, texts: Self.paragraphs(of: text), chat: false)
            head = try RoutingHead.calibrated(hidden: states, experts: names, complementScale: scale, seed: seed)
          } else {
            head = try RoutingHead.random(experts: names, embeddingWidth: width, complementScale: scale, seed: seed)
          }
          try head.write(result)
        }
      }
    }

    private static func width(of model: String) throws -> Int {
      let file = try GGUFFile.read(model)
      guard let architecture = file.architecture, let width = file["\(architecture).embedding_length"]?.integer else {
        throw FusionRouteError.badInput("\(model) does not say its embedding width: is it a model?")
      }
      return width
    }

    private static func paragraphs(of path: String) throws -> [String] {
      let parts = try TextFile.read(path).split(separator: "\n\n").map(String.init)
      guard !parts.isEmpty else { throw FusionRouteError.badInput("\(path) is empty: some hundred words are needed") }
      return parts
    }
  }
}

/// Writes a model tensor by tensor, and not to its end if the task is cancelled.
private func writing(
  _ text: String, _ body: @escaping @Sendable (@escaping ModelMaker.Progress) throws -> Void
) async throws {
  let progress = Progress()
  let cancelled = CancellationFlag()
  try await withTaskCancellationHandler {
    try await progress.step(text) {
      try body { tensor, count in
        if cancelled.isSet { throw FusionRouteError.interrupted("interrupted") }
        progress.update("\(text): tensor \(tensor + 1) of \(count)")
      }
    }
  } onCancel: {
    cancelled.set()
  }
}
