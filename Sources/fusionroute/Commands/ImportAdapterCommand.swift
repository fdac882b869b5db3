internal import ArgumentParser
internal import Core
internal import ModelFiles
internal import Training

struct ImportAdapterCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import-adapter",
    abstract: "Turn a LoRA adapter that was trained elsewhere into one for a cluster.",
    discussion: """
      Reads the directory that PEFT's save_pretrained wrote (adapter_config.json, adapter_model.safetensors) and writes \
      the GGUF adapter that `lora` of a router or an expert names, and that `train` goes on from. A whole model that was \
      trained elsewhere needs no import once it is GGUF: name it as `model`.
      """)

  @Argument(help: ArgumentHelp("The adapter's directory.", valueName: "in"))
  var input: String

  @Argument(help: ArgumentHelp("Where to write the adapter (GGUF).", valueName: "out"))
  var result: String

  @Option(help: ArgumentHelp("The model that it is for (GGUF).", valueName: "file"))
  var model: String

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    try ResultPath.check(result, inputs: AdapterImport.files(of: input) + [model])
    let (rank, matrices) = try AdapterImport.run(input, model: GGUFFile.read(model), to: result)
    print("\(result): rank \(rank) on \(matrices) matrices")
  }
}
