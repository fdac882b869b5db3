internal import ArgumentParser
internal import Core
internal import ModelFiles

struct ImportHeadCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import-head",
    abstract: "Turn a head that was trained elsewhere into a routing head, or give a routing head another scale.",
    discussion: """
      Reads a matrix [experts, embedding width] from a safetensors file, as a linear layer of PyTorch stores it, and \
      writes the GGUF file that `router.head` of a cluster file names. Without --tensor and --experts it reads a routing \
      head (GGUF) and writes a copy with the scale that --complement-scale names, such as the one that was best on \
      validation prompts.
      """)

  @Argument(help: ArgumentHelp("The safetensors file, or a routing head (GGUF).", valueName: "in"))
  var input: String

  @Argument(help: ArgumentHelp("Where to write the head (GGUF).", valueName: "out"))
  var result: String

  @Option(help: ArgumentHelp("Name of the matrix in a safetensors file.", valueName: "name"))
  var tensor: String?

  @Option(help: ArgumentHelp("Name of the bias in the file, if there is one.", valueName: "name"))
  var bias: String?

  @Option(
    help: ArgumentHelp("The experts' names in the order of a safetensors file's rows: a,b,c.", valueName: "names"))
  var experts: String?

  @Option(
    help: ArgumentHelp(
      "What the router's logits are multiplied by in fusion. Default: 1, or a routing head's own.", valueName: "f"))
  var complementScale: Float?

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    try ResultPath.check(result, inputs: [input])
    try head().write(result)
  }

  func head() throws -> RoutingHead {
    if tensor == nil, bias == nil, experts == nil {
      let head = try RoutingHead.read(input)
      return try RoutingHead(
        experts: head.experts, weight: head.weight, bias: head.bias,
        complementScale: complementScale ?? head.complementScale, embeddingWidth: head.embeddingWidth,
        isRaw: head.isRaw)
    }
    guard let tensor, let experts else {
      throw FusionRouteError.usage("a safetensors file needs --tensor and --experts")
    }
    let names = experts.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let file = try SafetensorsFile.read(input)
    func find(_ name: String) throws -> SafetensorsTensor {
      guard let tensor = file.tensor(named: name) else {
        let known = file.tensors.map { "'\($0.name)'" }.prefix(12).joined(separator: ", ")
        throw FusionRouteError.badInput("\(input) has no tensor '\(name)'; it has \(known.isEmpty ? "none" : known)")
      }
      return tensor
    }
    let matrix = try find(tensor)
    guard matrix.shape.count == 2, matrix.shape[0] == names.count else {
      throw FusionRouteError.badInput(
        "\(input): tensor '\(tensor)' has shape \(matrix.shape), but \(names.count) experts need [\(names.count), width]"
      )
    }
    let offsets = try bias.map { try find($0) }
    if let offsets, offsets.shape != [names.count] {
      throw FusionRouteError.badInput(
        "\(input): tensor '\(offsets.name)' has shape \(offsets.shape), but \(names.count) experts need [\(names.count)]"
      )
    }
    return try RoutingHead(
      experts: names, weight: file.floats(of: matrix), bias: try offsets.map { try file.floats(of: $0) },
      complementScale: complementScale ?? 1, embeddingWidth: matrix.shape[1])
  }
}
