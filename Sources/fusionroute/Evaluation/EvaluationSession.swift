internal import Core
internal import Evaluation
internal import Foundation
internal import Inference
internal import Launch
internal import ModelFiles

/// One `fusionroute eval`: from options and tasks to tables.
struct EvaluationSession: Sendable {
  var settings: EvaluationSettings
  var tasks: [EvaluationTask]
  var options: EvalOptions
  let log: LogSettings
  /// Whether each task is graded with an empty answer first; for records that others have written.
  var checksTasks = false
  let progress = Progress()

  func run() async throws {
    if options.reportOnly {
      guard FileManager.default.fileExists(atPath: "\(options.out)/\(EvaluationOutput.resultsName)") else {
        throw FusionRouteError.badInput("there are no answers in \(options.out): name the --out of an evaluation")
      }
    } else {
      guard settings.grader.map({ !$0.isEmpty }) ?? false else {
        throw FusionRouteError.usage(
          "give the grader's command with --grader, for example Deploy/evaluation/grade of a checkout")
      }
      do {
        try FileManager.default.createDirectory(atPath: options.out, withIntermediateDirectories: true)
      } catch {
        throw FusionRouteError.unavailable("cannot create the directory \(options.out)", cause: error)
      }
    }
    if settings.methods == nil, settings.cluster == nil {
      try await ServiceClient.with(options.service, waiting: { _ in }) { client in
        let answerer = try await RemoteAnswerer(client, tellsPrompts: false)
        let methods = Method.standard(cluster: nil, experts: answerer.experts, hasReward: settings.reward != nil)
        try await run(methods, service: answerer)
      }
    } else {
      try await run(try settings.methods ?? standardMethods(), service: nil)
    }
  }

  private func standardMethods() throws -> [Method] {
    guard let path = settings.cluster else { throw FusionRouteError.internal("no cluster") }
    let experts = try RoutingHead.read(ClusterFile.load(path: path).router.head).experts
    return Method.standard(cluster: path, experts: experts, hasReward: settings.reward != nil)
  }

  /// The methods asked for by name, and those that they choose from.
  private func chosen(_ all: [Method]) throws -> [Method] {
    try Method.check(all)
    guard !options.method.isEmpty else { return all }
    for name in options.method where !all.contains(where: { $0.name == name }) {
      let near = NearestName.find(name, among: all.map(\.name)).map { "did you mean \"\($0)\"?" }
      throw FusionRouteError.badInput(
        "there is no method \"\(name)\": \(near ?? "there are \(all.map(\.name).joined(separator: ", "))")")
    }
    var wanted = Set(options.method)
    for method in all where wanted.contains(method.name) { wanted.formUnion(method.candidates) }
    return all.filter { wanted.contains($0.name) }
  }

  private func run(_ all: [Method], service: RemoteAnswerer?) async throws {
    let methods = try chosen(all)
    try Method.check(limitsOf: methods, limit: settings.limit)
    let reference = try settings.reference(of: methods, among: all, isOption: options.reference != nil)
    try settings.check(tasks: tasks, methods: methods, among: all, reference: reference)
    let command = settings.grader ?? ""
    let reward = options.reportOnly ? nil : try await makeReward(methods)
    defer { reward?.stop() }
    let served = service.map { ServedModels(url: "\(options.service.url)", status: $0.status) }
    let identity = EvaluationIdentity(
      settings: settings, service: served, reward: try rewardFingerprint(methods))
    let identities = try await progress.step("checking the models") {
      try Dictionary(
        uniqueKeysWithValues: methods.map { ($0.name, try identity.identity(of: $0, among: methods)) })
    }
    // Two that write would write over each other's answers.
    let lock = options.reportOnly ? nil : try ResultLock.take(folder: options.out)
    defer { withExtendedLifetime(lock) {} }
    let store = try AnswerStore(
      path: "\(options.out)/\(EvaluationOutput.resultsName)", isReadOnly: options.reportOnly)
    let grader = GraderPool(
      command: command, directory: settings.graderDirectory, instances: options.graders,
      timeout: options.graderTimeout.duration, graded: store.counts)
    let run = EvaluationRun(
      settings: settings, methods: methods, tasks: tasks,
      store: store, grader: grader, reward: reward, options: try generationOptions(),
      progress: EvaluationProgress(progress), service: served, identities: identities,
      identityOfExpert: { decoding, expert in
        var other = decoding
        other.mode = "expert:\(expert)"
        other.scale = nil
        return try identity.decoded(other)
      }, regrades: options.regrade, interleaves: options.interleave)
    if !options.reportOnly {
      do { try await work(run, service: service) } catch {
        await grader.stop()
        throw error
      }
    }
    await grader.stop()
    let old = run.strayAnswers()
    if old > 0 {
      EvaluationOutput.say(
        "\(old) answers in \(options.out) are of other models, settings or prompts than these methods have now: they are left out"
      )
    }
    let records = try run.records()
    for method in methods {
      let count = records[method.name]?.values.count(where: \.didNotFit) ?? 0
      guard count > 0 else { continue }
      EvaluationOutput.say(
        "\(method.name): \(count == 1 ? "1 prompt does" : "\(count) prompts do") not fit into the context, which counts as wrong: "
          + "raise `context` in the cluster file")
    }
    let versions = run.graderVersions(records)
    if versions.count > 1 {
      let states = versions.map { "\($0.answers) by \($0.version ?? "one that does not say which it is")" }
      EvaluationOutput.say(
        "graded by different versions of the grader: \(states.joined(separator: ", ")). --regrade grades all of these answers by "
          + "the present one")
    }
    let prompts = Dictionary(uniqueKeysWithValues: methods.map { ($0.name, run.prompts($0).count) })
    try output(command).write(
      EvaluationResults(
        tasks: tasks, methods: methods.map(\.name), records: records,
        means: Dictionary(
          uniqueKeysWithValues: methods.compactMap {
            if case .mean(let names) = $0.kind { ($0.name, names) } else { nil }
          }),
        reference: reference,
        averaged: settings.average,
        changesFrom: settings.changesFrom.filter { name in methods.contains { $0.name == name } },
        expected: Dictionary(
          uniqueKeysWithValues: methods.map { method in
            guard case .mean(let names) = method.kind else { return (method.name, prompts[method.name] ?? 0) }
            return (method.name, names.compactMap { prompts[$0] }.min() ?? 0)
          }),
        descriptions: Dictionary(uniqueKeysWithValues: methods.map { ($0.name, $0.description) }),
        bootstrap: Bootstrap(resamples: settings.resamples, seed: settings.seed)))
  }

  /// Clusters one after the other, in the order of their first method; then what chooses among answers.
  private func work(_ run: EvaluationRun, service: RemoteAnswerer?) async throws {
    if checksTasks {
      try await progress.showing("checking the records") { try await run.check(width: options.graders) }
    }
    try await run.regrade(width: options.graders)
    if let service {
      try await run.answer(run.methods, with: service, session: nil)
    } else {
      var order: [EvaluationCluster.Key] = []
      var groups: [EvaluationCluster.Key: [Method]] = [:]
      for method in run.methods {
        guard let decoding = method.decoding else { continue }
        // An expert by itself is the same whatever the router: it runs in the first cluster that has it.
        let key = EvaluationCluster.Key(decoding)
        if groups[key] == nil { order.append(key) }
        groups[key, default: []].append(method)
      }
      for key in order {
        let methods = groups[key] ?? []
        // A method may have come by its answers while an earlier cluster ran.
        guard let first = methods.first?.decoding, try methods.contains(where: { try !run.pending($0).isEmpty }) else {
          continue
        }
        try await EvaluationCluster.with(
          first, settings: settings, attach: options.attach, log: log, progress: progress
        ) { session in
          try await run.answer(methods, with: LocalAnswerer(session), session: session)
        }
      }
    }
    try await run.take(width: options.graders)
    try await run.choose()
  }

  private func rewardFingerprint(_ methods: [Method]) throws -> String? {
    guard methods.contains(where: \.needsReward), let reward = settings.reward else { return nil }
    return try RewardScorer.fingerprint(model: reward.model, folder: reward.folder)
  }

  private func makeReward(_ methods: [Method]) async throws -> RewardScorer? {
    guard methods.contains(where: \.needsReward) else { return nil }
    guard let reward = settings.reward else {
      throw FusionRouteError.badInput(
        "Sequence Selection and Collab need a reward model: \"reward\" in the evaluation file, or --reward and "
          + "--reward-model")
    }
    return try await progress.step("loading the reward model") {
      try RewardScorer(model: reward.model, folder: reward.folder)
    }
  }

  private func generationOptions() throws -> GenerationOptions {
    try GenerationOptions.parse(
      ["--max-tokens", "\(settings.maximumTokens)", "--temperature", "0"] + settings.stop.map { "--stop=\($0)" })
  }

  private func output(_ command: String) -> EvaluationOutput {
    var facts = [("from", settings.source)]
    if let cluster = settings.cluster { facts.append(("cluster", cluster)) }
    facts += [
      ("prompts", "\(tasks.count)\(settings.limit.map { ", at most \($0) of each task" } ?? "")"),
      ("decoding", "greedy, at most \(settings.maximumTokens) tokens"), ("version", Software.version),
    ]
    if !command.isEmpty { facts.append(("grader", command)) }
    return EvaluationOutput(
      folder: options.out, format: options.format, title: options.title, facts: facts, browsable: options.browsable)
  }
}
