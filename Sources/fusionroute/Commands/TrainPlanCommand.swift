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
          - { run: ./prepare raw answers.jsonl, reads: [raw, prepare], out: answers.jsonl }
          - { train: sft, cluster: cluster.yaml, data: answers.jsonl, out: stage1 }
          - { sample: prompts.jsonl, cluster: stage1.yaml, as: pairs, grader: ./grade, temperature: 1.7, out: pairs.jsonl }
          - { train: cdpo, cluster: cluster.yaml, from: stage1, data: pairs.jsonl, out: stage2 }

      `train` names the command, the other keys its options (`model` its argument); `sample` names the prompts, the other \
      keys options of `sample`; `run` is a shell command in the plan's directory, in which $FUSIONROUTE is this program. \
      `out` is what a step makes, `reads` what `run` depends on; paths are relative to the file. A step is skipped if it has been done with the same options and the same contents of everything that it reads, and goes \
      on where it stopped if it was interrupted. Minutes and tokens of each step are printed at the end; the seconds of \
      each are kept in plan.yaml.report.jsonl. `fusionroute train plan.yaml` is short for `train plan plan.yaml`.
      """)

  @Argument(help: ArgumentHelp("The plan (YAML).", valueName: "file"))
  var plan: String

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let plan = try TrainingPlan.load(plan)
    let executable = try Executable.path()
    let lock = try ResultLock.take(file: self.plan)
    defer { withExtendedLifetime(lock) {} }
    let report = PlanReport(plan: self.plan)
    let source = self.plan
    try await withInterruption {
      for (index, step) in plan.steps.enumerated() {
        try Task.checkCancellation()
        let label = "step \(index + 1) of \(plan.steps.count): \(step.title) → \(step.out)"
        let fingerprint = try step.fingerprint()
        if step.isDone(fingerprint) {
          Self.say("\(label): done already")
          continue
        }
        Self.say(label)
        if try step.prepare(fingerprint) { try report.begin(step) }
        let begin = ContinuousClock.now
        let code = try await Self.run(step, executable, folder: plan.folder)
        try report.add(step, seconds: (ContinuousClock.now - begin).seconds, isFinished: code == 0)
        guard code == 0 else {
          // The command has said why.
          throw Reported(
            error: FusionRouteError(Self.code(of: code), "\(source):\(step.line): \(step.title) failed"))
        }
        try step.markDone(fingerprint)
      }
    }
    for line in report.lines(of: plan.steps) { print(line) }
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
  private static func run(_ step: TrainingPlan.Step, _ executable: String, folder: String) async throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    // Open for as long as this process lives: a step of ours ends with it, however it ends.
    process.standardInput = Pipe()
    switch step.action {
    case .train(let command): process.arguments = ["train", command, "--exit-with-stdin"] + step.arguments
    case .sample: process.arguments = ["sample", "--exit-with-stdin"] + step.arguments
    case .run(let command):
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments = ["-c", command]
      process.currentDirectoryURL = URL(fileURLWithPath: folder)
      process.environment = ProcessInfo.processInfo.environment.merging(["FUSIONROUTE": executable]) { $1 }
      process.standardInput = FileHandle.nullDevice
    }
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
