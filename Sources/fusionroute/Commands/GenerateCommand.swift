internal import ArgumentParser
internal import Core
internal import Foundation

struct GenerateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Have prompts answered by a running service, or chat with it.",
    discussion: """
      Takes the same options as `run`, writes the same answers, and leaves the service running. Without --prompt, \
      prompts come from stdin, one a line, as in `run`; if stdin is a terminal, a chat begins that keeps its history \
      (/help lists its commands).

      A service that is busy is asked again when it says, for a minute at most. An API key comes from \
      FUSIONROUTE_API_KEY or --api-key-file.
      """)

  @OptionGroup(title: "Service") var service: ServiceOptions

  @Option(
    name: [.short, .long], parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A prompt to answer. Repeatable; without it prompts are read from stdin.", valueName: "text"))
  var prompt: [String] = []

  @Flag(
    inversion: .prefixedNo,
    help: "Show the experts' colours and a closing summary on stderr. Default: if stderr is a terminal.")
  var summary: Bool?

  @OptionGroup(title: "Generation") var generation: GenerationOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let terminal = Style(.standardError).isTerminal
    let isInteractive = prompt.isEmpty && isatty(STDIN_FILENO) == 1
    let isChat = isInteractive && generation.format == .text && !generation.raw
    let waiting: @Sendable (Duration) -> Void = { wait in
      let text = "The service is busy: trying again in \(Int(wait.seconds)) s.\n"
      try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
    let work: @Sendable () async throws -> Void = { [self] in
      try await ServiceClient.with(service, waiting: waiting) { client in
        let answerer = try await RemoteAnswerer(client, tellsPrompts: generation.format == .json)
        if isChat {
          var chat = ChatLoop(answerer: answerer, options: generation)
          return try await chat.run()
        }
        if isInteractive { PromptSource.inviteToType() }
        let answers = AnswerRun(
          options: generation, showsSummary: summary ?? (terminal && generation.format == .text),
          showsPrompts: generation.format == .text && Style(.standardOutput).isTerminal && prompt.count > 1)
        try await answers.answer(prompt.isEmpty ? .standardInput : .given(prompt), with: answerer)
      }
    }
    // A chat has its own meaning of Ctrl-C.
    if isChat { try await work() } else { try await withInterruption(work) }
  }
}
