internal import ArgumentParser
internal import Inference

/// Loads a model that may be malformed, so that it is this process that dies of it.
struct ProbeModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: ModelProbe.command, abstract: "Load a model and say whether it works.", shouldDisplay: false)

  @Argument var file: String
  @Option var lora: [String] = []

  func run() throws {
    throw ExitCode(ModelProbe.runInChild(path: file, adapters: lora.map { AdapterFile(path: $0) }))
  }
}
