public import Core

extension EvaluationSummary {
  /// Everything, as one JSON object.
  public var json: JSONValue {
    .members([
      ("reference", .string(reference)), ("tasks", .array(tasks.map { .string($0) })),
      ("averaged_tasks", .array(averaged.map { .string($0) })),
      (
        "bootstrap",
        .members([
          ("resamples", .integer(Int64(bootstrap.resamples))), ("seed", .string("\(bootstrap.seed)")),
          ("confidence", .number(Bootstrap.confidence)),
        ])
      ),
      ("methods", .array(rows.map { Self.row($0, descriptions[$0.method]) })),
      ("changes", .array(changes.map(Self.changes))),
      ("experts", .array(experts.map { .string($0) })),
      (
        "expert_shares",
        .array(
          shares.map {
            .members([
              ("task", .string($0.task)), ("overall", .array($0.overall.map { .finite($0) })),
              ("by_position", .array($0.byPosition.map { .array($0.map { .finite($0) }) })),
            ])
          })
      ),
      (
        "tags",
        .array(
          tags.map { row in
            .members([
              ("task", .string(row.task)), ("tag", .string(row.tag.name)), ("value", .string(row.tag.value)),
              ("prompts", .integer(Int64(row.count))),
              ("accuracy", .members(zip(rows, row.accuracies).map { ($0.method, .finite($1)) })),
            ])
          })
      ),
    ])
  }

  private static func interval(_ interval: Interval?) -> JSONValue {
    guard let interval else { return .null }
    return .array([.finite(interval.lower), .finite(interval.upper)])
  }

  private static func changes(_ changes: Changes) -> JSONValue {
    .members([
      ("from", .string(changes.from)),
      (
        "tasks",
        .array(
          changes.tasks.map {
            .members([
              ("task", .string($0.task)), ("fixed", .array($0.fixed.map { .string($0) })),
              ("broken", .array($0.broken.map { .string($0) })), ("mcnemar_exact_p", .finite($0.signTest)),
            ])
          })
      ),
    ])
  }

  private static func spread(_ spread: Spread?) -> JSONValue {
    guard let spread else { return .null }
    return .members([
      ("lowest", .finite(spread.lowest)), ("highest", .finite(spread.highest)),
      ("standard_deviation", .finite(spread.deviation)),
    ])
  }

  private static func row(_ row: Row, _ description: String?) -> JSONValue {
    .members([
      ("method", .string(row.method)), ("description", description.map { .string($0) } ?? .null),
      (
        "tasks",
        .array(
          row.cells.map { cell in
            .members([
              ("task", .string(cell.task)), ("prompts", .integer(Int64(cell.count))),
              ("answers", .integer(Int64(cell.answers))), ("passed", .integer(Int64(cell.passed))),
              ("accuracy", .finite(cell.accuracy)), ("interval", interval(cell.interval)),
              ("parts", .members(cell.parts.map { ($0.name, .finite($0.share)) })),
              ("passed_with_several_experts", .integer(Int64(cell.passedWithSeveralExperts))),
              ("share_of_other_experts", .finite(cell.shareOfOtherExperts)), ("spread", spread(cell.spread)),
            ])
          })
      ),
      ("average", .finite(row.average)), ("average_interval", interval(row.averageInterval)),
      ("average_spread", spread(row.averageSpread)), ("missing_answers", .integer(Int64(row.missing))),
      ("cost", cost(row.cost)), ("reference_minus_method", row.comparison.map(comparison) ?? .null),
    ])
  }

  private static func cost(_ cost: Cost) -> JSONValue {
    .members([
      ("answers", .integer(Int64(cost.answers))), ("generated_tokens", .integer(Int64(cost.generatedTokens))),
      ("tokens_per_answer", .finite(cost.tokensPerAnswer)), ("busy_seconds", .finite(cost.busySeconds)),
      ("tokens_per_second", .finite(cost.tokensPerSecond)),
      ("interleaved_answers", .integer(Int64(cost.interleaved))),
      ("expert_evaluations_per_token", .finite(cost.perToken(cost.expertEvaluations))),
      ("router_evaluations_per_token", .finite(cost.perToken(cost.routerEvaluations))),
      ("reward_evaluations_per_token", .finite(cost.perToken(cost.rewardEvaluations))),
      ("cut_at_limit", .integer(Int64(cost.cut))),
    ])
  }

  private static func comparison(_ comparison: Comparison) -> JSONValue {
    .members([
      ("prompts", .integer(Int64(comparison.count))), ("difference", .finite(comparison.difference)),
      ("interval", interval(comparison.interval)), ("paired_bootstrap_p", .finite(comparison.pValue)),
      ("only_reference_right", .integer(Int64(comparison.won))),
      ("only_method_right", .integer(Int64(comparison.lost))), ("mcnemar_exact_p", .finite(comparison.signTest)),
      (
        "tasks",
        .array(
          comparison.tasks.map {
            .members([
              ("task", .string($0.task)), ("prompts", .integer(Int64($0.count))),
              ("difference", .finite($0.difference)),
              ("interval", interval($0.interval)), ("only_reference_right", .integer(Int64($0.won))),
              ("only_method_right", .integer(Int64($0.lost))), ("mcnemar_exact_p", .finite($0.signTest)),
            ])
          })
      ),
    ])
  }
}
