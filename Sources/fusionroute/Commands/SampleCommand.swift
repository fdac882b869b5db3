internal import ArgumentParser
internal import Core
internal import Foundation
internal import Fusion
internal import Inference
internal import Launch
internal import Synchronization
internal import Training

struct SampleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sample",
    abstract: "Sample answers from a cluster, grade them, and write them as training data.",
    discussion: """
      Prompts are JSONL: a "prompt" (a text or a list of messages) a line; other fields are for the grader. With -c the \
      cluster is started and stopped, otherwise --url is asked. Any mode answers: --mode expert:NAME, router, fusion, …
      With --raw, and by models without a chat template, texts are continued; messages need the template. No answer \
      is kept in which others stood in for a lost expert: the sampling ends then, whatever the cluster file says.

      A grader is a command that gets {"prompt", "answer", "record"} (the record is the prompt's whole line) on stdin and \
      exits with 0 for an answer that passes and 1 for one that fails, within 120 s (--grader), one that stays and \
      answers lines as `eval` has it (--grader-service), or a reward model (--reward with --model). \
      --as sft writes the answers that pass, --as pairs writes a passed against a failed answer of similar length. \
      Answers are kept beside the result as they come: the same command again goes on where it stopped. Those of other \
      prompts, settings or models are refused; a service is known by its address only.

      With --format json one object at the end says what became of all of them: answers, how many of them passed and \
      how many did not end (unfinished), the examples that were written, and the file.
      """)

  enum Form: String, ExpressibleByArgument, CaseIterable { case sft, pairs }

  @Argument(help: ArgumentHelp("Prompts (JSONL).", valueName: "prompts"))
  var prompts: String

  @Option(help: ArgumentHelp("Where to write the data (JSONL).", valueName: "file"))
  var out: String

  @Option(name: .customLong("as"), help: "sft: answers that pass. pairs: passed against failed answers.")
  var form: Form = .sft

  /// Of one prompt: far more than anyone grades.
  static let maximumAnswers = 10_000

  @Option(help: ArgumentHelp("Answers per prompt.", valueName: "n"))
  var answers = 4

  @Option(help: ArgumentHelp("A shell command that judges an answer.", valueName: "command"))
  var grader: String?

  @Option(
    help: ArgumentHelp(
      "A persistent grader as `eval` has it, for prompts that are task lines (see `eval tasks --help`).",
      valueName: "command"))
  var graderService: String?

  @Option(help: ArgumentHelp("Graders of --grader-service at once.", valueName: "n"))
  var graders = 2

  @Option(help: ArgumentHelp("Directory of `train reward`, to judge answers by.", valueName: "dir"))
  var reward: String?

  @Option(help: ArgumentHelp("The model that --reward was trained on.", valueName: "file"))
  var model: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Least score of an answer that passes. Default: 1 for a command, 0 for a reward.", valueName: "f"))
  var threshold: Double?

  @Option(help: ArgumentHelp("Examples per prompt at most.", valueName: "n"))
  var perPrompt = 1

  @Option(help: ArgumentHelp("Largest ratio of a pair's lengths; 0 is any.", valueName: "f"))
  var lengthRatio = 1.25

  @Option(
    name: [.short, .long], help: ArgumentHelp("Start this cluster instead of asking a service.", valueName: "file"))
  var cluster: String?

  @Flag(help: "Start no workers; wait for those that were started elsewhere.")
  var attach = false

  @OptionGroup(title: "Service") var service: ServiceOptions
  @OptionGroup(title: "Generation") var generation: GenerationOptions
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup var parent: StepParentOptions

  func validate() throws {
    guard [grader, graderService, reward].count(where: { $0 != nil }) == 1 else {
      throw ValidationError("Give one of --grader, --grader-service and --reward.")
    }
    guard graders > 0 else { throw ValidationError("--graders must be positive, not \(graders).") }
    guard (reward == nil) == (model == nil) else { throw ValidationError("--reward and --model belong together.") }
    guard (1...Self.maximumAnswers).contains(answers), perPrompt > 0 else {
      throw ValidationError("--answers must be 1 to \(Self.maximumAnswers), and --per-prompt positive.")
    }
    guard form == .sft || answers > 1 else {
      throw ValidationError("--as pairs needs --answers 2 or more: a pair is a passed and a failed answer.")
    }
    guard threshold?.isNaN != true else { throw ValidationError("--threshold must be a number.") }
    guard LengthRatio.isPossible(lengthRatio) else { throw ValidationError(LengthRatio.rule) }
    guard !attach || cluster != nil else {
      throw ValidationError("--attach needs --cluster, whose workers it waits for; a service is asked as it is.")
    }
    guard answers == 1 || generation.temperature > 0 else {
      throw ValidationError("Several answers to a prompt need --temperature above 0; 1.7 suits a fused model.")
    }
  }

  func run() async throws {
    parent.watch()
    let log = output.bootstrap(default: .warning)
    let progress = Progress()
    try ResultPath.check(out, inputs: [prompts] + [cluster, model].compactMap { $0 })
    let list = try SamplePrompt.read(prompts, areTasks: graderService != nil, isRaw: generation.raw)
    // Held from here, so that nothing is started for a result that another process writes.
    let lock = try ResultLock.take(file: out)
    defer { withExtendedLifetime(lock) {} }
    try await withInterruption { [self] in
      if let cluster {
        let file = try Self.clusterFile(cluster)
        let identity = try await progress.step("checking the models") { try self.identity(list, file) }
        let grader = try await makeGrader(progress)
        try await ClusterSession.with(file, workers: attach ? .elsewhere : .all, log: log, progress: progress) {
          session in
          try await sample(list, identity, with: LocalAnswerer(session), grader: grader, progress: progress)
        }
      } else {
        let identity = try await progress.step("checking the models") { try self.identity(list, nil) }
        let grader = try await makeGrader(progress)
        try await ServiceClient.with(service, waiting: { _ in }) { client in
          let answerer = try await RemoteAnswerer(client, tellsPrompts: false)
          try await sample(list, identity, with: answerer, grader: grader, progress: progress)
        }
      }
    }
  }

  /// The cluster file, but an answer in which others would stand in for a lost expert fails: it is not the mode's.
  static func clusterFile(_ path: String) throws -> ClusterFile {
    var file = try ClusterFile.load(path: path)
    file.onExpertLoss = .fail
    return file
  }

  private func makeGrader(_ progress: Progress) async throws -> AnswerGrader {
    if let grader { return .command(grader) }
    if let graderService { return .service(GraderPool(command: graderService, directory: nil, instances: graders)) }
    guard let reward, let model else { throw FusionRouteError.usage("give --grader or --reward") }
    return try await progress.step("loading the reward model") {
      .reward(try RewardGrader(model: model, folder: reward, threads: 1))
    }
  }

  /// Everything that the answers and their scores depend on. Digests of files are cached.
  ///
  /// - Parameter file: nil: a service answers.
  private func identity(_ list: [SamplePrompt], _ file: ClusterFile?) throws -> String {
    var hasher = SHA256Hasher()
    for prompt in list { hasher.update(field: prompt.record) }
    let sampling = Self.text(of: generation.sampling)
    hasher.update(field: "\(sampling) \(generation.maxTokens) \(generation.mode.mode) \(generation.stop)")
    hasher.update(
      field: "\(generation.raw) \(grader ?? graderService ?? "") \(reward ?? "") \(cluster ?? service.url.description)")
    if let file {
      for engine in [file.router.engine] + file.experts.map(\.engine) {
        // A worker's files may be on its machine alone.
        let isHere = [engine.model, engine.lora].compactMap { $0 }.allSatisfy(Self.isFile)
        hasher.update(field: try isHere ? EvaluationIdentity.fingerprint(of: engine) : "elsewhere")
      }
      // The cluster's start says what is missing.
      let head = file.router.head
      if Self.isFile(head) {
        hasher.update(field: try ModelFingerprint.compute(model: head, adapters: [], settings: [:]).hex)
      }
    }
    if let reward, let model { hasher.update(field: try RewardScorer.fingerprint(model: model, folder: reward)) }
    return hasher.finalize().hex
  }

  /// The same for equal settings in every process. Up to one bias it is what Swift prints, which the identity of older
  /// answers has; the order in which Swift prints more of them is drawn anew at each start.
  static func text(of sampling: SamplingParameters) -> String {
    guard sampling.logitBias.count > 1 else { return "\(sampling)" }
    var plain = sampling
    plain.logitBias = [:]
    return "\(plain) \(sampling.logitBias.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" })"
  }

  private static func isFile(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  private func sample(
    _ list: [SamplePrompt], _ identity: String, with answerer: some Answerer, grader: AnswerGrader,
    progress: Progress
  ) async throws {
    let store = try SampleStore(path: "\(out).answers", identity: identity)
    let known = Set(store.answers.map { [$0.prompt, $0.sample] })
    let work = list.indices.flatMap { prompt in
      (0..<answers).compactMap { known.contains([prompt, $0]) ? nil : (prompt: prompt, sample: $0) }
    }
    try await progress.showing("sampling \(work.count) answers") {
      try await withThrowingTaskGroup(of: SampledAnswer.self) { group in
        var next = work.makeIterator()
        func start() {
          guard let (prompt, sample) = next.next() else { return }
          group.addTask { try await self.answer(list[prompt], prompt, sample, with: answerer, grader: grader) }
        }
        for _ in 0..<answerer.parallelism { start() }
        var done = 0
        while let answer = try await group.next() {
          try store.add(answer)
          done += 1
          progress.update("sampling: \(done) of \(work.count) answers")
          start()
        }
      }
    }
    try write(store.answers.filter { $0.sample < answers }, list)
  }

  func answer(
    _ prompt: SamplePrompt, _ index: Int, _ sample: Int, with answerer: some Answerer, grader: AnswerGrader
  ) async throws -> SampledAnswer {
    var asked = Prompt(label: "line \(index + 1)", content: prompt.content)
    // A seed of its own for every answer, whatever the order in which they come.
    asked.sampling.seed = SplitMix64.mix(generation.seed &+ UInt64(index) << 20 &+ UInt64(sample)) >> 1
    let collected = Mutex(Answer())
    try await answerer.answer(asked, options: generation) { event in collected.withLock { $0.add(event) } }
    // A stream that ends by cancellation ends without an error, in the middle of its answer.
    try Task.checkCancellation()
    let answer = collected.withLock { $0 }
    let summary = try answer.checkedSummary()
    let isEmpty = answer.text.allSatisfy(\.isWhitespace)
    let score = isEmpty ? -Double.greatestFiniteMagnitude : try await grader.score(prompt, answer: answer.text)
    return SampledAnswer(
      prompt: index, sample: sample, text: answer.text, isComplete: summary.finishReason == "stop", score: score,
      tokens: answer.tokens.count)
  }

  /// Writes the data, and says what became of the answers.
  private func write(_ answers: [SampledAnswer], _ list: [SamplePrompt]) throws {
    let selection = SampleSelection(
      threshold: threshold ?? (reward == nil ? 1 : 0), perPrompt: perPrompt,
      lengthRatio: lengthRatio > 0 ? lengthRatio : nil)
    let byPrompt = Dictionary(grouping: answers.sorted { $0.sample < $1.sample }, by: \.prompt)
    var file = try AtomicFile(path: out)
    var count = 0
    for (index, prompt) in list.enumerated() {
      let own = byPrompt[index] ?? []
      let lines: [[(String, JSONText)]] =
        switch form {
        case .sft: selection.passed(own).map { [("completion", .text($0.text))] }
        case .pairs:
          selection.pairs(own).map { [("chosen", .text($0.chosen.text)), ("rejected", .text($0.rejected.text))] }
        }
      for line in lines {
        try file.write(Array((JSONText.object([("prompt", prompt.json)] + line).rendered + "\n").utf8))
        count += 1
      }
    }
    try file.commit()
    let passed = answers.count { $0.score >= selection.threshold }
    let cut = answers.count { !$0.isComplete }
    switch generation.format {
    case .json:
      print(
        JSONText.object([
          ("answers", .integer(answers.count)), ("passed", .integer(passed)), ("unfinished", .integer(cut)),
          ("examples", .integer(count)), ("file", .text(out)),
        ]).rendered)
    case .text:
      print("\(count) \(form == .sft ? "answers" : "pairs") in \(out)")
      let text =
        "\(passed) of \(answers.count) answers passed; \(cut) did not end within \(generation.maxTokens) tokens\n"
      try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
  }
}
