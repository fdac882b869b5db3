internal import ArgumentParser
internal import Core
internal import Foundation
internal import Inference
internal import Launch

struct ConvertCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Change the weight type of a model.",
    discussion: """
      Writes OUT whole or not at all, in place of a file that is there. Which type to use: BF16 batches best, Q8_0 is \
      fastest alone and half the size; the small types (Q4_K) are smallest and may lose reproducibility.
      """)

  @Argument(help: ArgumentHelp("The model to convert (GGUF).", valueName: "in"))
  var input: String

  @Argument(help: ArgumentHelp("Where to write the result.", valueName: "out"))
  var result: String

  @Option(help: ArgumentHelp("One of \(Quantizer.typeNames.joined(separator: ", ")).", valueName: "type"))
  var type: String

  @Option(help: ArgumentHelp("Threads; 0 is one per core.", valueName: "n"))
  var threads = 0

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard Quantizer.typeNames.contains(type.lowercased()) else {
      throw ValidationError(
        "\"\(type)\" is no weight type: use one of \(Quantizer.typeNames.joined(separator: ", ")).")
    }
  }

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    try ResultPath.check(result, inputs: [input])
    let (input, result, type, threads) = (input, result, type, threads)
    let trap = try SignalTrap { _, _ in
      // llama.cpp cannot be stopped in the middle: end here, without the unfinished file.
      let folder = URL(fileURLWithPath: result).deletingLastPathComponent().path
      let unfinished = URL(fileURLWithPath: result).lastPathComponent + ".partial-\(getpid())"
      try? FileManager.default.removeItem(atPath: "\(folder)/\(unfinished)")
      _exit(FusionRouteError.Code.interrupted.exitCode)
    }
    defer { trap.cancel() }
    try await Progress().step("converting \(input) to \(type)") {
      try ModelProbe.check(path: input, adapters: [], executable: try Executable.path())
      try Quantizer.convert(input: input, output: result, type: type, threads: threads)
    }
  }
}
