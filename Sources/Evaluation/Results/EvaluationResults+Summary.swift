extension EvaluationResults {
  /// Aggregates. Deterministic: the same results and seed give the same numbers.
  public func summary() -> EvaluationSummary {
    let names = taskNames
    let averaged = names.filter { self.averaged?.contains($0) ?? true }
    let grouped = Dictionary(grouping: tasks, by: \.task)
    let rows = methods.map { row($0, names: names, averaged: averaged, grouped: grouped) }
    return EvaluationSummary(
      tasks: names, averaged: averaged, reference: reference, rows: rows,
      changes: changesFrom.map { .init(from: $0, tasks: changes(from: $0, names: names, grouped: grouped)) },
      tags: tagRows(names: names, grouped: grouped), shares: names.compactMap { shares($0) }, experts: experts,
      descriptions: descriptions, bootstrap: bootstrap)
  }

  // MARK: Rows

  private func row(
    _ method: String, names: [String], averaged: [String], grouped: [String: [EvaluationTask]]
  ) -> EvaluationSummary.Row {
    var replicates: [[Double]] = []
    var cells: [EvaluationSummary.Cell] = []
    var cost = EvaluationSummary.Cost()
    let members = means[method] ?? []
    // [tasks][members]
    var ofMembers: [[Double]] = []
    for name in names {
      let answered = (grouped[name] ?? []).filter { value(method, $0) != nil }
      let values = answered.compactMap { value(method, $0) }
      let records = answered.flatMap { parts(method, $0) }
      let drawn = bootstrap.replicates(values, stratum: name)
      if averaged.contains(name) { replicates.append(drawn) }
      var cell = Self.cell(name, values, records, interval: Bootstrap.interval(drawn))
      let accuracies = members.compactMap { member in
        Statistics.mean(answered.compactMap { task in record(member, task).map { $0.grade.passed ? 1 : 0 } })
      }
      cell.spread = .init(accuracies)
      if averaged.contains(name), !accuracies.isEmpty { ofMembers.append(accuracies) }
      cells.append(cell)
      for record in records { cost.add(record) }
    }
    let means = cells.filter { averaged.contains($0.task) }.map(\.accuracy)
    let complete = means.compactMap { $0 }
    let isWhole = complete.count == means.count && !means.isEmpty
    let averages = members.indices.compactMap { member in Statistics.mean(ofMembers.map { $0[member] }) }
    return EvaluationSummary.Row(
      method: method, isMean: self.means[method] != nil, cells: cells,
      average: isWhole ? Statistics.mean(complete) : nil,
      averageInterval: isWhole ? Bootstrap.average(replicates).flatMap { Bootstrap.interval($0) } : nil,
      averageSpread: isWhole ? .init(averages) : nil,
      missing: max(0, (expected[method] ?? 0) - cells.reduce(0) { $0 + $1.count }), cost: cost,
      comparison: method == reference ? nil : comparison(method, averaged: averaged, grouped: grouped))
  }

  private static func cell(
    _ task: String, _ values: [Double], _ records: [AnswerRecord], interval: Interval?
  ) -> EvaluationSummary.Cell {
    var names: [String] = []
    for record in records {
      for part in record.grade.parts where !names.contains(part.name) { names.append(part.name) }
    }
    // An answer that failed as a whole, for instance one that did not fit, has failed each sub-goal; where prompts differ in
    // their sub-goals nobody knows which.
    let isUniform = records.allSatisfy { $0.grade.parts.isEmpty || $0.grade.parts.count == names.count }
    let failed = isUniform ? records.count { $0.grade.parts.isEmpty && !$0.grade.passed } : 0
    let parts = names.map { name in
      let all = records.flatMap(\.grade.parts).filter { $0.name == name }
      return EvaluationSummary.Cell.Part(
        name: name, share: Double(all.count(where: \.passed)) / Double(all.count + failed))
    }
    let shared = records.filter { $0.grade.passed && $0.decidingExperts.count > 1 }
    let others = shared.map { record in
      let counts = record.visibleTokens.values
      return 1 - Double(counts.max() ?? 0) / Double(counts.reduce(0, +))
    }
    return EvaluationSummary.Cell(
      task: task, count: values.count, answers: records.count, passed: records.count { $0.grade.passed },
      accuracy: Statistics.mean(values), interval: interval, parts: parts,
      passedWithSeveralExperts: shared.count, shareOfOtherExperts: Statistics.mean(others))
  }

  // MARK: Comparisons

  private func comparison(
    _ method: String, averaged: [String], grouped: [String: [EvaluationTask]]
  ) -> EvaluationSummary.Comparison? {
    var replicates: [[Double]] = []
    var differences: [EvaluationSummary.Difference] = []
    // Outcomes of a mean lie between right and wrong: it loses to one that is right whenever a single method of it fails.
    let isBinary = means[method] == nil && means[reference] == nil
    for name in averaged {
      let pairs = (grouped[name] ?? []).compactMap { task -> Double? in
        guard let own = value(reference, task), let other = value(method, task) else { return nil }
        return own - other
      }
      guard let mean = Statistics.mean(pairs) else { continue }
      let drawn = bootstrap.replicates(pairs, stratum: name)
      replicates.append(drawn)
      let (won, lost) = (pairs.count { $0 > 0 }, pairs.count { $0 < 0 })
      differences.append(
        .init(
          task: name, count: pairs.count, difference: mean, interval: Bootstrap.interval(drawn), won: won, lost: lost,
          signTest: isBinary ? Statistics.signTest(wins: won, losses: lost) : nil))
    }
    guard !differences.isEmpty else { return nil }
    let (won, lost) = (differences.reduce(0) { $0 + $1.won }, differences.reduce(0) { $0 + $1.lost })
    let isWhole = differences.count == averaged.count
    let average = isWhole ? Bootstrap.average(replicates) : nil
    return EvaluationSummary.Comparison(
      count: differences.reduce(0) { $0 + $1.count },
      difference: isWhole ? Statistics.mean(differences.map(\.difference)) : nil,
      interval: average.flatMap { Bootstrap.interval($0) }, pValue: average.map { Bootstrap.pValue($0) }, won: won,
      lost: lost, signTest: isBinary ? Statistics.signTest(wins: won, losses: lost) : nil, tasks: differences)
  }

  private func changes(
    from before: String, names: [String], grouped: [String: [EvaluationTask]]
  ) -> [EvaluationSummary.Change] {
    names.map { name in
      var change = EvaluationSummary.Change(task: name, fixed: [], broken: [])
      for task in grouped[name] ?? [] {
        guard let own = record(reference, task), let other = record(before, task) else { continue }
        if own.grade.passed, !other.grade.passed { change.fixed.append(task.id) }
        if !own.grade.passed, other.grade.passed { change.broken.append(task.id) }
      }
      return change
    }
  }

  // MARK: Break-downs

  private func tagRows(names: [String], grouped: [String: [EvaluationTask]]) -> [EvaluationSummary.TagRow] {
    names.flatMap { name -> [EvaluationSummary.TagRow] in
      // Only prompts that somebody answered.
      let tasks = (grouped[name] ?? []).filter { task in methods.contains { record($0, task) != nil } }
      var order: [String] = []
      var groups: [String: [(tag: EvaluationTask.Tag, tasks: [EvaluationTask])]] = [:]
      for task in tasks {
        for tag in task.tags {
          if groups[tag.name] == nil { order.append(tag.name) }
          if let index = groups[tag.name]?.firstIndex(where: { $0.tag == tag }) {
            groups[tag.name]?[index].tasks.append(task)
          } else {
            groups[tag.name, default: []].append((tag, [task]))
          }
        }
      }
      return order.flatMap { key -> [EvaluationSummary.TagRow] in
        let values = groups[key] ?? []
        guard values.count <= Self.maximumTagValues else { return [] }
        return values.sorted { $0.tag.value < $1.tag.value }.map { group in
          EvaluationSummary.TagRow(
            task: name, tag: group.tag,
            accuracies: methods.map { method in
              Statistics.mean(group.tasks.compactMap { value(method, $0) })
            }, count: group.tasks.count)
        }
      }
    }
  }

  private func shares(_ task: String) -> EvaluationSummary.Shares? {
    let experts = experts
    let bins = EvaluationSummary.Shares.bins
    var counts = Array(repeating: Array(repeating: 0.0, count: experts.count), count: bins)
    var isEmpty = true
    for record in outcomes(reference, task: task) {
      for position in record.pieces.indices {
        guard let expert = record.visibleDecider(position).flatMap({ experts.firstIndex(of: $0) }) else { continue }
        counts[position * bins / record.deciders.count][expert] += 1
        isEmpty = false
      }
    }
    guard !isEmpty else { return nil }
    func normalised(_ row: [Double]) -> [Double] {
      let sum = row.reduce(0, +)
      return sum > 0 ? row.map { $0 / sum } : row
    }
    let totals = experts.indices.map { expert in counts.reduce(0) { $0 + $1[expert] } }
    return EvaluationSummary.Shares(task: task, byPosition: counts.map(normalised), overall: normalised(totals))
  }
}

extension EvaluationSummary.Cost {
  mutating func add(_ record: AnswerRecord) {
    answers += 1
    generatedTokens += record.generatedTokens
    if let seconds = record.busySeconds {
      busySeconds += seconds
      timedTokens += record.generatedTokens
    }
    expertEvaluations += record.expertEvaluations
    routerEvaluations += record.evaluations[AnswerRecord.router] ?? 0
    rewardEvaluations += record.evaluations[AnswerRecord.reward] ?? 0
    if record.finish == "length" { cut += 1 }
    if record.interleaved { interleaved += 1 }
  }
}
