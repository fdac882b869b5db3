internal import ArgumentParser
internal import Core
internal import Launch
internal import ModelFiles

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Describe a model, adapter, routing head or cluster file.")

  @Argument(help: ArgumentHelp("One or more GGUF or cluster files.", valueName: "file"))
  var files: [String]

  @Option(help: "text or json (one object per file).")
  var format: OutputFormat = .text

  func run() throws {
    for (index, file) in files.enumerated() {
      if index > 0, format == .text { print() }
      if file.hasSuffix(".yaml") || file.hasSuffix(".yml") {
        print(try ClusterDescription.text(of: try ClusterFile.load(path: file), json: format == .json))
      } else {
        let description = try FileInspector.inspect(file)
        print(format == .json ? try description.json() : description.text)
      }
    }
  }
}
