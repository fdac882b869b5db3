internal import ArgumentParser
internal import Core
internal import Launch

/// The command line. Each subcommand is a file under Commands.
struct FusionRoute: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fusionroute",
    abstract: "One answer from several language models: a router picks an expert for each token.",
    discussion: """
      Exit codes: 0 success, 64 wrong usage, 65 bad input (a file, key or prompt), 69 something is unavailable \
      (a port in use, no worker, too little memory), 70 internal error, 130 interrupted.
      """,
    version: Software.version,
    subcommands: [
      DemoCommand.self, RunCommand.self, PlanCommand.self, UpCommand.self, DownCommand.self,
      CoordinatorCommand.self, GenerateCommand.self, StatusCommand.self, ScaleCommand.self, DrainCommand.self,
      ReplayCommand.self, WorkersCommand.self,
      WorkerCommand.self, KeysCommand.self, InspectCommand.self,
      ConvertCommand.self, MergeCommand.self, MakeModelCommand.self, TrainCommand.self, SampleCommand.self,
      EvalCommand.self,
      ImportHeadCommand.self, ImportAdapterCommand.self, BenchCommand.self,
      ProbeModelCommand.self,
    ])
}

@main enum Main {
  static func main() async {
    SignalTrap.ignoreBrokenPipes()
    do {
      try RawArguments.checkUTF8()
      var command = try FusionRoute.parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      Failure.exit(error)
    }
  }
}
