internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Start a cluster on this machine, answer prompts, stop it.",
    discussion: """
      Starts the coordinator in this process and every replica of the cluster file as a process of its own, answers, \
      and leaves nothing running, however it ends.

      Without --prompt, prompts come from stdin, one a line: the text itself, or a JSON object with "prompt", \
      "messages" or "tokens" and any of max_tokens, temperature, seed, mode, stop, raw, top_k, top_p, min_p, \
      repetition_penalty, presence_penalty, frequency_penalty and logit_bias. Several prompts are answered at once, \
      as many as the router has slots, and printed in order. Empty lines are skipped.

      Answers go to stdout; logs, progress and the summary to stderr. If prompts fail, each gets a line that says why, \
      and the highest exit code is returned.
      """)

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String

  @Option(
    name: [.short, .long], parsing: .unconditionalSingleValue,
    help: ArgumentHelp("A prompt to answer. Repeatable; without it prompts are read from stdin.", valueName: "text"))
  var prompt: [String] = []

  @Flag(help: "Start no workers; wait for those that were started elsewhere (`fusionroute workers`).")
  var attach = false

  @Flag(
    inversion: .prefixedNo,
    help: "Show the experts' colours and a closing summary on stderr. Default: if stderr is a terminal.")
  var summary: Bool?

  @OptionGroup(title: "Generation") var generation: GenerationOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    let log = output.bootstrap(default: .warning)
    let file = try ClusterFile.load(path: cluster)
    let isInteractive = prompt.isEmpty && isatty(STDIN_FILENO) == 1
    let terminal = Style(.standardError).isTerminal
    let progress = Progress(isQuiet: !terminal)
    let answers = AnswerRun(
      options: generation, showsSummary: summary ?? (terminal && generation.format == .text),
      showsPrompts: generation.format == .text && Style(.standardOutput).isTerminal && prompt.count > 1)
    try await withInterruption { [self] in
      try await ClusterSession.with(file, workers: attach ? .elsewhere : .all, log: log, progress: progress) {
        session in
        if isInteractive { PromptSource.inviteToType() }
        try await answers.answer(prompt.isEmpty ? .standardInput : .given(prompt), with: LocalAnswerer(session))
      }
    }
  }
}
