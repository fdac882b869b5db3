internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import ModelFiles

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Describe a model, adapter, routing head or cluster file.",
    discussion: """
      Reads headers only, and loads nothing. For a cluster file it also says where a model's chat template or vocabulary \
      differs from the router's.
      """)

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
