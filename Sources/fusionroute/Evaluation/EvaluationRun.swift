internal import Coordinator
internal import Core
internal import Evaluation
internal import Foundation

/// Has every method answer every prompt, and every answer graded; what is on disk already is not asked again.
struct EvaluationRun: Sendable {
  let settings: EvaluationSettings
  let methods: [Method]
  let tasks: [EvaluationTask]
  let store: AnswerStore
  let grader: GraderPool
  let reward: RewardScorer?
  let options: GenerationOptions
  let progress: EvaluationProgress
  /// Who answers; nil: clusters that the evaluation starts.
  let service: ServedModels?
  /// Of each method, by name.
  let identities: [String: String]
  /// Identity of an expert's answers in a method's cluster.
  let identityOfExpert: @Sendable (Method.Decoding, String) throws -> String
  /// Grade answers anew that are on disk.
  let regrades: Bool
  /// Methods of one cluster at once instead of one after the other.
  let interleaves: Bool

  /// An answer to have.
  struct Job: Sendable {
    var method: Method
    var task: EvaluationTask
    var key: String
  }

  /// Has every record that is still to be answered graded with an empty answer: a record that cannot be graded is better known
  /// before hours of answers than after. Throws what the grader says of it.
  func check(width: Int) async throws {
    let asked = try methods.filter { $0.candidates.isEmpty }.flatMap { try pending($0) }
    let ids = Set(asked.map(\.task.id))
    let tasks = tasks.filter { ids.contains($0.id) }
    guard !tasks.isEmpty else { return }
    try await withThrowingTaskGroup(of: Void.self) { group in
      var next = tasks.makeIterator()
      func start() {
        guard let task = next.next() else { return }
        group.addTask { try await grader.check(task) }
      }
      for _ in 0..<min(max(1, width), tasks.count) { start() }
      while try await group.next() != nil { start() }
    }
  }

  // MARK: What there is to do

  /// The prompts that a method answers.
  func prompts(_ method: Method) -> [EvaluationTask] {
    guard let limit = [method.limit, settings.limit].compactMap({ $0 }).min() else { return tasks }
    var counts: [String: Int] = [:]
    return tasks.filter {
      counts[$0.task, default: 0] += 1
      return counts[$0.task, default: 0] <= limit
    }
  }

  func job(_ method: Method, _ task: EvaluationTask) -> Job {
    Job(method: method, task: task, key: EvaluationIdentity.key(identities[method.name] ?? "", task))
  }

  func pending(_ method: Method) throws -> [Job] {
    try prompts(method).map { job(method, $0) }.filter { job in
      try store.record(job.key, method: method.name).map { isOutgrown($0, method) } ?? true
    }
  }

  private func isOutgrown(_ record: AnswerRecord, _ method: Method) -> Bool {
    switch method.kind {
    case .firstExpert(let decoding): isOutgrown(record, mode: record.chosen.map { "expert:\($0)" } ?? decoding.mode)
    case .decode(let decoding), .collab(let decoding, _): isOutgrown(record, mode: decoding.mode)
    case .select, .oracle, .mean, .given: false
    }
  }

  /// Whether a service may have room by now for an answer that its context has refused or cut off. A service is known
  /// by its models, not by the contexts of its experts: whoever raised these, as is advised, would keep that answer.
  private func isOutgrown(_ record: AnswerRecord, mode: String) -> Bool {
    guard let service, record.finish == "length" else { return false }
    // How long such a prompt is was not told; asking again is cheap, since it is refused at once or fits.
    if record.didNotFit { return true }
    guard record.generatedTokens < settings.maximumTokens, let limit = service.contextLimit(mode) else { return false }
    // One that the context cut off has one token more than fitted.
    return record.promptTokens + record.generatedTokens <= limit
  }

  /// Answers on disk by these methods to their prompts that have other models, settings or lines of the task file behind them.
  func strayAnswers() -> Int {
    methods.reduce(0) { sum, method in
      let jobs = prompts(method).map { job(method, $0) }
      return sum + store.count(of: method.name, ids: Set(jobs.map(\.task.id)), otherThan: Set(jobs.map(\.key)))
    }
  }

  /// Answers of each version of the grader among those that are compared, the most first. None sees what did not fit.
  func graderVersions(_ records: [String: [String: AnswerRecord]]) -> [(version: String?, answers: Int)] {
    var counts: [String?: Int] = [:]
    for records in records.values {
      for record in records.values where !record.didNotFit { counts[record.grade.version, default: 0] += 1 }
    }
    return counts.map { (version: $0.key, answers: $0.value) }.sorted { $0.answers > $1.answers }
  }

  /// All that is on disk, by method and prompt.
  func records() throws -> [String: [String: AnswerRecord]] {
    var records: [String: [String: AnswerRecord]] = [:]
    for method in methods {
      for task in prompts(method) {
        if let record = try store.record(job(method, task).key, method: method.name) {
          records[method.name, default: [:]][task.id] = record
        }
      }
    }
    return records
  }

  // MARK: Running

  /// Runs body on items, at most `width` at once; the first error ends the others.
  static func forEach<Item: Sendable>(
    _ items: [Item], width: Int, _ body: @escaping @Sendable (Item) async throws -> Void
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      var next = items.makeIterator()
      for _ in 0..<max(1, width) {
        guard let item = next.next() else { break }
        group.addTask { try await body(item) }
      }
      while try await group.next() != nil {
        try Task.checkCancellation()
        if let item = next.next() { group.addTask { try await body(item) } }
      }
    }
  }

  /// All items of all lists, one of each list in turn. Each list begins elsewhere: an answer to a prompt that another
  /// method has just read finds it in the caches, and what the method costs would seem less.
  static func interleaved<Item>(_ lists: [[Item]]) -> [Item] {
    var items: [Item] = []
    for index in 0..<(lists.map(\.count).max() ?? 0) {
      for (place, list) in lists.enumerated() where index < list.count {
        items.append(list[(index + place * list.count / lists.count) % list.count])
      }
    }
    return items
  }

  /// Has the methods of one cluster answer.
  ///
  /// - Parameter session: nil where a running service answers.
  func answer(_ methods: [Method], with answerer: any Answerer, session: ClusterSession?) async throws {
    let decoder = AnswerDecoder(answerer: answerer, options: options, limiter: Limiter(answerer.parallelism))
    // As many again, so that grading keeps nobody from decoding.
    let width = 2 * answerer.parallelism
    let plain = methods.filter { if case .decode = $0.kind { true } else { false } }
    if interleaves, plain.count > 1 {
      let jobs = Self.interleaved(try plain.map { try pending($0) })
      try await run("\(plain.count) methods", jobs, of: plain, width: width) {
        try await decode($0, decoder, interleaved: true)
      }
    } else {
      for method in plain {
        try await run(method.name, try pending(method), of: [method], width: width) { try await decode($0, decoder) }
      }
    }
    for method in methods {
      switch method.kind {
      case .firstExpert(let decoding):
        try await run(method.name, try pending(method), of: [method], width: width) { job in
          try await answering(job) { try await firstExpert(job, decoding, decoder) }
        }
      case .collab(_, let rollout):
        let jobs = try pending(method)
        guard !jobs.isEmpty else { continue }
        guard let session, let reward else {
          throw FusionRouteError.badInput("the method \"\(method.name)\" needs a cluster file and a reward model")
        }
        // Each answer comes back to each model again and again: with more of them under way than slots, hardly a beginning would
        // still be in a cache.
        let width = min(answerer.parallelism, CollabRunner.maximumWidth)
        let runner = CollabRunner(session: session, decoder: decoder, reward: reward, rollout: rollout)
        try runner.prepare(jobs.map(\.task), maximumTokens: settings.maximumTokens, width: width)
        try await run(method.name, jobs, of: [method], width: width) { job in
          try await answering(job) {
            let decoded = try await runner.answer(job.task, maximumTokens: settings.maximumTokens)
            try await keep(decoded, job, chosen: nil)
          }
        }
      case .decode, .select, .oracle, .mean, .given: continue
      }
    }
  }

  /// - Parameter methods: whose answers on disk count as well where progress is told.
  private func run(
    _ name: String, _ jobs: [Job], of methods: [Method] = [], width: Int,
    _ body: @escaping @Sendable (Job) async throws -> Void
  ) async throws {
    guard !jobs.isEmpty else { return }
    try await progress.showing(name, count: jobs.count, known: try known(methods, beside: jobs)) {
      try await Self.forEach(jobs, width: width) { job in
        do { try await body(job) } catch let error as FusionRouteError where error.code != .interrupted {
          throw FusionRouteError(error.code, "\(job.method.name), \(job.task.id): \(error.message)", cause: error.cause)
        }
      }
    }
  }

  /// Answers of these methods on disk that are none of the jobs'.
  private func known(_ methods: [Method], beside jobs: [Job]) throws -> (count: Int, passed: Int) {
    let asked = Dictionary(grouping: jobs, by: \.method.name).mapValues { Set($0.map(\.key)) }
    let records = try methods.flatMap { method in
      try prompts(method).map { job(method, $0).key }.filter { asked[method.name]?.contains($0) != true }
        .compactMap { try store.record($0, method: method.name) }
    }
    return (records.count, records.count(where: \.grade.passed))
  }

  // MARK: Kinds of methods

  /// A prompt that does not fit into the context has no answer, which is wrong: one of many must not end an evaluation.
  private func answering(_ job: Job, _ body: () async throws -> Void) async throws {
    do { try await body() } catch let error as FusionRouteError {
      guard error.cause is PromptTooLong || error.cause is ContextLengthExceeded else { throw error }
      // One that was asked again and still does not fit stays as it is.
      if let known = try store.record(job.key, method: job.method.name) {
        return progress.advance(passed: known.grade.passed)
      }
      let grade = Grade(passed: false, reason: error.message)
      try store.add(
        AnswerRecord(
          key: job.key, method: job.method.name, id: job.task.id, task: job.task.task, text: "", finish: "length",
          grade: grade))
      progress.advance(passed: false)
    }
  }

  private func decode(_ job: Job, _ decoder: AnswerDecoder, interleaved: Bool = false) async throws {
    guard case .decode(let decoding) = job.method.kind else { return }
    try await answering(job) {
      var decoded = try await decoder.answer(job.task, mode: decoding.mode, maximumTokens: settings.maximumTokens)
      decoded.interleaved = interleaved
      try await keep(decoded, job, chosen: nil)
    }
  }

  /// The router's expert for the first token; its answer is the one that its own row has, where there is one.
  private func firstExpert(_ job: Job, _ decoding: Method.Decoding, _ decoder: AnswerDecoder) async throws {
    let first = try await decoder.answer(job.task, mode: "no-complement", maximumTokens: 1)
    guard let decider = first.deciders.first, let index = decider, first.experts.indices.contains(index) else {
      throw FusionRouteError.internal("no expert decided the first token")
    }
    let expert = first.experts[index]
    let key = EvaluationIdentity.key(try identityOfExpert(decoding, expert), job.task)
    let expertRead = first.evaluations[expert] ?? 0
    let routerRead = first.evaluations[AnswerRecord.router] ?? 0
    var decoded: DecodedAnswer
    if let known = store.shared(key), !isOutgrown(known, mode: "expert:\(expert)") {
      decoded = DecodedAnswer(known)
      // Its time has the expert's reading of the prompt in it already: the router's part comes on top.
      decoded.busySeconds = decoded.busySeconds.map {
        $0 + (first.busySeconds ?? 0) * Double(routerRead) / Double(max(1, routerRead + expertRead))
      }
    } else {
      decoded = try await decoder.answer(
        job.task, mode: "expert:\(expert)", maximumTokens: settings.maximumTokens)
      // The prompt, which it finds in its cache now.
      decoded.evaluations[expert, default: 0] += expertRead
      decoded.busySeconds = decoded.busySeconds.map { $0 + (first.busySeconds ?? 0) }
    }
    // The router reads the prompt too; the expert reads it once.
    decoded.evaluations[AnswerRecord.router, default: 0] += routerRead
    try await keep(decoded, job, chosen: expert)
  }

  /// Answers that something else wrote are graded as the others are.
  func take(width: Int) async throws {
    for method in methods {
      guard case .given(let path) = method.kind else { continue }
      let jobs = try pending(method)
      guard !jobs.isEmpty else { continue }
      let given = try GivenAnswers.read(try TextFile.read(path), source: path, method: method.name)
      let missing = jobs.filter { given[$0.task.id] == nil }
      if let first = missing.first {
        throw FusionRouteError.badInput(
          "\(path) has no answer of \"\(method.name)\" to \(missing.count) of \(jobs.count) prompts, such as \(first.task.id): "
            + "add them, or give the method a lower limit")
      }
      try await run(method.name, jobs, of: [method], width: width) { job in
        guard var record = given[job.task.id] else { return }
        record.key = job.key
        record.task = job.task.task
        record.grade = try await grade(record, job)
        try store.add(record)
        progress.advance(passed: record.grade.passed)
      }
    }
  }

  /// Methods that choose among the answers of others, which must be there. Nothing else may compute.
  func choose() async throws {
    for method in methods {
      switch method.kind {
      case .select(let names):
        let jobs = try prompts(method).map { job(method, $0) }.filter { try isToChoose($0, names) }
        guard !jobs.isEmpty else { continue }
        guard let reward else {
          throw FusionRouteError.badInput("the method \"\(method.name)\" needs a reward model")
        }
        let width = 4
        try reward.use(slots: width, threads: ProcessorCount.usable, longest: RewardScorer.maximumLength)
        let time = TimeSharing()
        try await run(method.name, jobs, of: [method], width: width) { job in
          let candidates = try candidates(names, job.task)
          let (ratings, seconds) = try await time.measure {
            var ratings: [RewardScorer.Rating] = []
            for candidate in candidates {
              ratings.append(try await reward.rate(job.task.messages, answer: candidate.text))
            }
            return ratings
          }
          guard let best = AnswerChoice.best(ratings.map(\.reward)) else {
            throw FusionRouteError.badInput("\"select\" names no method whose answers could be chosen")
          }
          let record = chosen(
            best, candidates, job, rewardTokens: ratings.reduce(0) { $0 + $1.evaluated },
            rewardSeconds: seconds)
          try store.add(record)
          progress.advance(passed: record.grade.passed)
        }
      case .oracle(let names):
        // From grades, which may have changed: made anew each time, and cheap.
        for task in prompts(method) {
          let job = job(method, task)
          let candidates = try candidates(names, task)
          guard let best = AnswerChoice.oracle(candidates.map(\.grade)) else { continue }
          let record = chosen(best, candidates, job, rewardTokens: 0, rewardSeconds: 0)
          if try store.record(job.key, method: method.name) != record { try store.add(record) }
        }
      case .decode, .mean, .firstExpert, .collab, .given: continue
      }
    }
  }

  /// Whether a selection is still to be made, or was made before a service answered a candidate's prompt anew.
  private func isToChoose(_ job: Job, _ names: [String]) throws -> Bool {
    guard let record = try store.record(job.key, method: job.method.name) else { return true }
    guard service != nil else { return false }
    let candidates = try candidates(names, job.task)
    // Of the others only what all of them took is noted with it.
    func others(_ evaluations: [String: Int]) -> [String: Int] { evaluations.filter { $0.key != AnswerRecord.reward } }
    return !candidates.contains { $0.method == record.chosen && $0.text == record.text }
      || others(record.evaluations) != others(evaluations(of: candidates))
  }

  private func evaluations(of records: [AnswerRecord]) -> [String: Int] {
    records.reduce(into: [:]) { $0.merge($1.evaluations, uniquingKeysWith: +) }
  }

  private func candidates(_ names: [String], _ task: EvaluationTask) throws -> [AnswerRecord] {
    try names.map { name in
      guard let method = methods.first(where: { $0.name == name }),
        let record = try store.record(job(method, task).key, method: name)
      else {
        throw FusionRouteError.badInput(
          "\"\(name)\" has no answer to \(task.id) to choose from: its limit is lower than that of the method that "
            + "chooses")
      }
      return record
    }
  }

  private func chosen(
    _ best: Int, _ candidates: [AnswerRecord], _ job: Job, rewardTokens: Int, rewardSeconds: Double?
  ) -> AnswerRecord {
    var record = candidates[best]
    record.chosen = record.method
    record.method = job.method.name
    record.key = job.key
    record.busySeconds = candidates.reduce(rewardSeconds) { sum, candidate in
      candidate.busySeconds.flatMap { seconds in sum.map { $0 + seconds } }
    }
    record.interleaved = candidates.contains { $0.interleaved }
    record.evaluations = evaluations(of: candidates)
    if rewardTokens > 0 { record.evaluations[AnswerRecord.reward] = rewardTokens }
    return record
  }

  // MARK: Grading

  private func keep(_ decoded: DecodedAnswer, _ job: Job, chosen: String?) async throws {
    let grade = try await grader.grade(job.task, text: decoded.text)
    try store.add(decoded.record(job, grade: grade, chosen: chosen))
    progress.advance(passed: grade.passed)
  }

  /// What the grader says of a record's text. Where the prompt did not fit there is no answer, which is wrong: a grader
  /// might pass an empty one.
  private func grade(_ record: AnswerRecord, _ job: Job) async throws -> Grade {
    guard record.didNotFit else { return try await grader.grade(job.task, text: record.text) }
    // Older versions had it graded anew.
    return record.grade.passed ? Grade(passed: false, reason: "the prompt does not fit into the context") : record.grade
  }

  /// Grades all answers on disk anew, before methods choose among them.
  func regrade(width: Int) async throws {
    guard regrades else { return }
    for method in methods where method.candidates.isEmpty {
      let known = try prompts(method).map { job(method, $0) }.filter {
        try store.record($0.key, method: method.name) != nil
      }
      try await run("grading \(method.name)", known, width: width) { job in
        guard let record = try store.record(job.key, method: job.method.name) else { return }
        let grade = try await grade(record, job)
        // Also of methods that share the answer and are not run now.
        try store.regrade(job.key, grade)
        progress.advance(passed: grade.passed)
      }
    }
    for method in methods {
      guard case .select(let names) = method.kind else { continue }
      for task in prompts(method) {
        guard var record = try store.record(job(method, task).key, method: method.name),
          let candidate = try candidates(names, task).first(where: { $0.method == record.chosen })
        else { continue }
        record.grade = candidate.grade
        try store.add(record)
      }
    }
  }
}
