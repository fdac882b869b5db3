internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct TrainPlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Run a chain of training steps from a YAML file; what is done already is skipped.",
    discussion: """
      A file such as

        steps:
          - { train: sft, cluster: cluster.yaml, data: answers.jsonl, out: stage1 }
          - { train: cdpo, cluster: cluster.yaml, from: stage1, data: pairs.jsonl, out: stage2 }

      `train` names the command, the other keys its options (`model` its argument); paths are relative to the file. A step \
      is skipped if it has been done with the same options and the same contents of everything that it reads, and goes \
      on where it stopped if it was interrupted. `fusionroute train plan.yaml` is short for `train plan plan.yaml`.
      """)

  @Argument(help: ArgumentHelp("The plan (YAML).", valueName: "file"))
  var plan: String

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let steps = try TrainingPlan.load(plan).steps
    let executable = try Executable.path()
    let source = plan
    try await withInterruption {
      for (index, step) in steps.enumerated() {
        try Task.checkCancellation()
        let label = "step \(index + 1) of \(steps.count): train \(step.command) → \(step.out)"
        let fingerprint = try step.fingerprint()
        if step.isDone(fingerprint) {
          Self.say("\(label): done already")
          continue
        }
        Self.say(label)
        let code = try await Self.run(executable, ["train", step.command] + step.arguments)
        guard code == 0 else {
          // The command has said why.
          throw Reported(
            error: FusionRouteError(Self.code(of: code), "\(source):\(step.line): train \(step.command) failed"))
        }
        try step.markDone(fingerprint)
      }
    }
  }

  private static func say(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
  }

  private static func code(of exit: Int32) -> FusionRouteError.Code {
    switch exit {
    case 64: .usage
    case 65: .badInput
    case 69: .unavailable
    case 130: .interrupted
    default: .internal
    }
  }

  /// A process of its own for each step, so that one step's memory is back before the next begins.
  private static func run(_ executable: String, _ arguments: [String]) async throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let box = ProcessBox(process)
    return try await withTaskCancellationHandler {
      try await onThread {
        try box.process.run()
        box.process.waitUntilExit()
        return box.process.terminationStatus
      }
    } onCancel: {
      if box.process.isRunning { box.process.interrupt() }
    }
  }

  /// Foundation's process may be interrupted from another thread.
  private final class ProcessBox: @unchecked Sendable {
    // Unchecked: set up before it is shared; `interrupt` only sends a signal.
    let process: Process

    init(_ process: Process) { self.process = process }
  }
}
