internal import ArgumentParser
internal import Core
internal import Evaluation
internal import Foundation

struct EvalJudgeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "judge",
    abstract: "Let a judge model compare the answers of two methods.",
    discussion: """
      The judge is any service with OpenAI's chat API. It sees a question with both answers and writes a score from 1 to \
      10 for each on the first line; every pair is shown in both orders, and the sums decide. The result is the win rate \
      of --method: wins and half of the ties. A pair for which the judge does not write two scores is left out, and asked \
      about again the next time. Answers come from the results of `fusionroute eval`. The judge's API key comes from \
      FUSIONROUTE_JUDGE_KEY.
      """)

  @Argument(help: ArgumentHelp("Task files (JSONL) that were evaluated.", valueName: "tasks"))
  var tasks: [String]

  @Option(help: ArgumentHelp("The files are of this published benchmark instead.", valueName: "benchmark"))
  var benchmark: Benchmark?

  @Option(help: ArgumentHelp("Directory of `fusionroute eval` with the answers.", valueName: "dir"))
  var results: String

  @Option(help: ArgumentHelp("The method that is judged.", valueName: "name"))
  var method = "fusionroute"

  @Option(help: ArgumentHelp("The method that it is compared with.", valueName: "name"))
  var against: String

  @Option(help: ArgumentHelp("Name of the judge's model.", valueName: "name"))
  var judge: String

  @Option(help: ArgumentHelp("Pairs at most; 0: all.", valueName: "n"))
  var limit = 0

  @Option(help: ArgumentHelp("Questions to the judge at once.", valueName: "n"))
  var parallel = 4

  @Option(help: ArgumentHelp("Tokens of a reply at most, with those of the judge's reasoning.", valueName: "n"))
  var maxTokens = 512

  @Option(help: ArgumentHelp("Resamples of the bootstrap.", valueName: "n"))
  var resamples = 10_000

  @Option(help: ArgumentHelp("Seed of the bootstrap.", valueName: "n"))
  var seed: UInt64 = 1

  @Option(help: "text or json (one object).") var format: OutputFormat = .text
  @OptionGroup(title: "Judge's service") var service: JudgeOptions
  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard limit >= 0, parallel > 0, maxTokens > 0, JudgeOptions.timeouts.contains(service.timeout),
      Bootstrap.resampleCounts.contains(resamples)
    else {
      throw ValidationError(
        "--parallel and --max-tokens must be positive, --limit 0 or more, --timeout "
          + "\(JudgeOptions.timeouts.lowerBound) to \(JudgeOptions.timeouts.upperBound), --resamples "
          + "\(Bootstrap.resampleCounts.lowerBound) to \(Bootstrap.resampleCounts.upperBound).")
    }
    guard method != against else { throw ValidationError("--method and --against are the same.") }
  }

  func run() async throws {
    _ = output.bootstrap(default: .warning)
    let questions = try EvalSupport.tasks(tasks, of: benchmark)
    var pairs = try JudgePair.read(
      tasks: questions, results: "\(results)/\(EvaluationOutput.resultsName)", method: method,
      against: against)
    if pairs.count < questions.count {
      EvaluationOutput.say(
        "\(questions.count - pairs.count) of \(questions.count) questions lack one of the two answers: left out")
    }
    if limit > 0 { pairs = Array(pairs.prefix(limit)) }
    let file = "\(results)/judge-\(JudgeRun.fileName(method))-\(JudgeRun.fileName(against)).jsonl"
    let lock = try ResultLock.take(folder: results, name: ".judge.lock")
    defer { withExtendedLifetime(lock) {} }
    let (options, list) = (self, pairs)
    // Over the line that shows the progress.
    let start = Style(.standardError).isTerminal ? "\r\u{1B}[K" : ""
    let note: @Sendable (String) -> Void = { EvaluationOutput.say(start + $0) }
    let outcome = try await withInterruption {
      try await JudgeClient.with(options.service, model: options.judge, maximumTokens: options.maxTokens, note: note) {
        client in
        let run = JudgeRun(client: client, progress: EvaluationProgress(Progress()))
        return try await run.judge(list, file: file, width: options.parallel)
      }
    }
    for fault in outcome.unjudged {
      let what =
        fault.isRefused ? "\(judge) refused it: " : "\(judge) does not write two scores on the first line, but: "
      EvaluationOutput.say("\(fault.id) is not judged: \(what)\(fault.said)")
    }
    let rate = WinRate(
      outcome.judgements, unjudged: outcome.unjudged.map(\.id), bootstrap: Bootstrap(resamples: resamples, seed: seed))
    switch format {
    case .json: print(rate.json.text)
    case .text:
      let interval = rate.interval.map {
        " (95 %: \(Summary.decimal(100 * $0.lower, 1))–\(Summary.decimal(100 * $0.upper, 1)))"
      }
      let unjudged = rate.unjudged.isEmpty ? "" : "\(rate.unjudged.count) not judged, "
      print(
        "\(method) against \(against): \(Summary.decimal(100 * (rate.rate ?? 0), 1)) %\(interval ?? ""), \(rate.wins) won, "
          + "\(rate.ties) tied, \(rate.losses) lost, \(unjudged)sign test p \(Summary.decimal(rate.signTest, 4))")
      EvaluationOutput.say("scores   \(file)")
    }
  }
}
