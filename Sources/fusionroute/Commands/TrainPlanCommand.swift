internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Synchronization

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
      keys options of `sample`; `run` is a shell command, in which $FUSIONROUTE is this program. `out` is what a \
      step makes, `reads` what `run` depends on, and what `sample` does besides prompts and models, such as a \
      grader's files. Paths are relative to the file, in whose directory commands work, graders too. Of a directory \
      that `reads` names all files count, but for hidden ones and __pycache__; of results of `train` the models, \
      adapters and heads.

      Options are checked before the first step begins. A step is skipped if it has been done with the same options \
      and the same contents of everything that it reads, and goes on where it stopped if it was interrupted. Sampled \
      answers stay where `sample` goes on from them, such as with more `answers` or another `per_prompt`. Minutes and \
      tokens of each step are printed at the end, and kept in plan.yaml.report.jsonl. `fusionroute train plan.yaml` \
      is short for `train plan plan.yaml`.
      """)

  @Argument(help: ArgumentHelp("The plan (YAML).", valueName: "file"))
  var plan: String

  @OptionGroup(title: "Output") var output: OutputOptions

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let plan = try TrainingPlan.load(plan)
    for step in plan.steps { try check(step) }
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
        // That may have taken minutes; nothing is removed for a step that does not begin.
        try Task.checkCancellation()
        if step.isDone(fingerprint) {
          Self.say("\(label): done already")
          continue
        }
        Self.say(label)
        if try step.prepare(fingerprint, answers: try step.answersFingerprint()) { try report.begin(step) }
        let begin = ContinuousClock.now
        let code = try await Self.run(step, executable, folder: plan.folder)
        let seconds = (ContinuousClock.now - begin).seconds
        try report.add(step, seconds: seconds, isFinished: code == 0)
        // Whatever its exit code: it was interrupted.
        try Task.checkCancellation()
        guard code == 0 else { throw Self.failure(of: step, code, plan: source) }
        try step.markDone(fingerprint)
      }
    }
    for line in report.lines(of: plan.steps) { print(line) }
  }

  private static func say(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data((text + "\n").utf8))
  }

  /// Throws `.badInput` for options that the command does not have: not after hours, when it is the step's turn.
  private func check(_ step: TrainingPlan.Step) throws {
    guard let command = Self.command(of: step) else { return }
    do { _ = try command.parse(step.arguments) } catch {
      throw FusionRouteError.badInput("\(plan):\(step.line): \(step.title): \(command.message(for: error))")
    }
  }

  /// Nil for a command of the user's.
  private static func command(of step: TrainingPlan.Step) -> (any ParsableCommand.Type)? {
    switch step.action {
    case .train("lm"): TrainLMCommand.self
    case .train("sft"): TrainSFTCommand.self
    case .train("cdpo"): TrainCDPOCommand.self
    case .train("dpo"): TrainDPOCommand.self
    case .train: TrainRewardCommand.self
    case .sample: SampleCommand.self
    case .run: nil
    }
  }

  private static func failure(of step: TrainingPlan.Step, _ exit: Int32, plan: String) -> any Error {
    let code: FusionRouteError.Code? =
      switch exit {
      case 64: .usage
      case 65: .badInput
      case 69: .unavailable
      case 130: .interrupted
      default: nil
      }
    let text = "\(plan):\(step.line): \(step.title) ended with \(exit)"
    // A command of the user's may not have said why; that it fails is no defect of this program.
    if step.isCommand { return FusionRouteError(code ?? .badInput, "\(text); its output above may say why") }
    // Our own commands say why, unless they were killed.
    guard let code else { return FusionRouteError.internal(text) }
    return Reported(error: FusionRouteError(code, text))
  }

  /// A process of its own for each step, so that one step's memory is back before the next begins.
  private static func run(_ step: TrainingPlan.Step, _ executable: String, folder: String) async throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.environment = environment(from: ProcessInfo.processInfo.environment, executable: executable)
    // Open for as long as this process lives: a step of ours ends with it, however it ends.
    process.standardInput = Pipe()
    switch step.action {
    case .train(let command): process.arguments = ["train", command, "--exit-with-stdin"] + step.arguments
    case .sample: process.arguments = ["sample", "--exit-with-stdin"] + step.arguments
    case .run(let command):
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments = ["-c", watched, "sh", command]
    }
    let box = ProcessBox(process, isGroup: step.isCommand)
    return try await withTaskCancellationHandler {
      try await onThread {
        try box.start()
        box.process.waitUntilExit()
        box.waitForGroup()
        return box.process.terminationStatus
      }
    } onCancel: {
      box.interrupt()
    }
  }

  /// This process's, for another directory.
  static func environment(from own: [String: String], executable: String) -> [String: String] {
    var environment = own
    environment["FUSIONROUTE"] = executable
    for name in ["FUSIONROUTE_CACHE", "FUSIONROUTE_STATE"] {
      guard let path = own[name], !path.isEmpty else { continue }
      environment[name] = URL(fileURLWithPath: path).standardizedFileURL.path
    }
    return environment
  }

  /// Runs a command ($1), whose end it waits for, in the process group that this shell leads, and ends the group when stdin
  /// does: a command of the user's does not know that its plan may be killed. Its own stdin is empty.
  private static let watched = """
    exec 3<&0 </dev/null
    ( trap '' INT TERM; read -r _ <&3; kill -TERM -$$; sleep 5; kill -KILL -$$ ) >/dev/null 2>&1 &
    watcher=$!
    trap : INT
    /bin/sh -c "$1" 3<&-
    code=$?
    kill -KILL "$watcher"
    exit "$code"
    """

  /// Foundation's process may be interrupted from another thread. Unchecked: it is set up before it is shared and started
  /// under the mutex; `interrupt` only sends signals.
  final class ProcessBox: @unchecked Sendable {
    let process: Process
    /// Whether what it starts is to be interrupted too, and ended if that does not suffice.
    private let isGroup: Bool
    private static let patience = Duration.seconds(10)
    /// When the interruption came.
    private let interruption = Mutex<ContinuousClock.Instant?>(nil)

    init(_ process: Process, isGroup: Bool) {
      self.process = process
      self.isGroup = isGroup
    }

    /// Throws `CancellationError` after an interruption, which found nothing to interrupt.
    func start() throws {
      // Under the mutex: an interruption comes before, and is seen here, or finds the process running.
      try interruption.withLock {
        guard $0 == nil else { throw CancellationError() }
        try process.run()
      }
    }

    func interrupt() {
      interruption.withLock { $0 = .now }
      guard process.isRunning else { return }
      guard isGroup else { return process.interrupt() }
      // Foundation makes each process the leader of a group of its own, which no Ctrl-C of a terminal reaches.
      kill(-process.processIdentifier, SIGINT)
      Task.detached { [self] in
        try? await Task.sleep(for: Self.patience)
        if process.isRunning { kill(-process.processIdentifier, SIGKILL) }
      }
    }

    /// After an interruption: returns when all that the command had started has ended; some clean up for a moment.
    func waitForGroup() {
      guard isGroup, let begin = interruption.withLock({ $0 }) else { return }
      let deadline = begin + Self.patience
      while kill(-process.processIdentifier, 0) == 0 {
        guard ContinuousClock.now < deadline else {
          kill(-process.processIdentifier, SIGKILL)
          return
        }
        usleep(20_000)
      }
    }
  }
}
