internal import Core

/// The table and all that is drawn beside it: what became of every method on every task.
public struct EvaluationSummary: Sendable, Equatable {
  /// One method on one task.
  public struct Cell: Sendable, Equatable {
    public var task: String
    /// Prompts.
    public var count: Int
    /// Answers to them; of a mean, those of all its methods.
    public var answers: Int
    /// Right ones among ``answers``.
    public var passed: Int
    /// Nil without prompts.
    public var accuracy: Double?
    public var interval: Interval?
    /// Share of prompts that passed each sub-goal, by name.
    public var parts: [Part]
    /// Right answers in which two experts or more decided tokens that show.
    public var passedWithSeveralExperts: Int
    /// Of those answers: the mean share of such tokens that were not the leading expert's. Nil without such answers.
    public var shareOfOtherExperts: Double?
    /// Between the methods that a mean is of.
    public var spread: Spread?

    public struct Part: Sendable, Equatable {
      public var name: String
      public var share: Double
    }
  }

  /// How far the accuracies of the methods that a mean is of lie apart.
  public struct Spread: Sendable, Equatable {
    public var lowest: Double
    public var highest: Double
    /// The sample's standard deviation.
    public var deviation: Double

    /// Nil for fewer than two values.
    init?(_ values: [Double]) {
      guard values.count > 1, let lowest = values.min(), let highest = values.max(), let mean = Statistics.mean(values)
      else { return nil }
      self.lowest = lowest
      self.highest = highest
      let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
      deviation = (squares / Double(values.count - 1)).squareRoot()
    }
  }

  /// What answers cost.
  public struct Cost: Sendable, Equatable {
    public var answers = 0
    public var generatedTokens = 0
    /// Of the answers whose time was measured, and their tokens.
    public var busySeconds = 0.0
    public var timedTokens = 0
    /// Answers whose time tells little, since other methods' answers were under way.
    public var interleaved = 0
    /// Tokens that went through experts, the router and the reward model, prompts included.
    public var expertEvaluations = 0
    public var routerEvaluations = 0
    public var rewardEvaluations = 0
    /// Answers that ended at the token limit.
    public var cut = 0

    /// Of all answers that are under way together; nil if nothing was measured.
    public var tokensPerSecond: Double? { busySeconds > 0 ? Double(timedTokens) / busySeconds : nil }
    public func perToken(_ evaluations: Int) -> Double? {
      generatedTokens > 0 ? Double(evaluations) / Double(generatedTokens) : nil
    }
    public var tokensPerAnswer: Double? { answers > 0 ? Double(generatedTokens) / Double(answers) : nil }
  }

  /// The reference minus a method, on the prompts that both answered.
  public struct Comparison: Sendable, Equatable {
    public var count: Int
    /// Mean over the averaged tasks of the differences in accuracy; nil while one of them has no common prompts.
    public var difference: Double?
    public var interval: Interval?
    /// Of the paired bootstrap, two-sided.
    public var pValue: Double?
    /// Prompts that only the reference got right, and only the method.
    public var won: Int
    public var lost: Int
    /// p of McNemar's exact test on those; nil where a mean is compared, whose outcomes are not right or wrong.
    public var signTest: Double?
    public var tasks: [Difference]
  }

  public struct Difference: Sendable, Equatable {
    public var task: String
    public var count: Int
    public var difference: Double
    public var interval: Interval?
    public var won: Int
    public var lost: Int
    public var signTest: Double?
  }

  public struct Row: Sendable, Equatable {
    public var method: String
    /// Whether it is the mean of other methods, and has no answers of its own.
    public var isMean: Bool
    public var cells: [Cell]
    /// Mean of the averaged tasks' accuracies; nil while one of them lacks prompts.
    public var average: Double?
    public var averageInterval: Interval?
    public var averageSpread: Spread?
    /// Answers that the method should have given and has not.
    public var missing: Int
    public var cost: Cost
    /// Nil for the reference, and where there are no common prompts.
    public var comparison: Comparison?
  }

  /// What the reference gets right and wrong that another method does not.
  public struct Changes: Sendable, Equatable {
    public var from: String
    public var tasks: [Change]
  }

  /// Ids of a task's prompts.
  public struct Change: Sendable, Equatable {
    public var task: String
    public var fixed: [String]
    public var broken: [String]
    /// p of McNemar's exact test.
    public var signTest: Double { Statistics.signTest(wins: fixed.count, losses: broken.count) }
  }

  /// Accuracy on the prompts with a tag.
  public struct TagRow: Sendable, Equatable {
    public var task: String
    public var tag: EvaluationTask.Tag
    /// In the order of ``EvaluationSummary/rows``; nil: no such prompt was answered.
    public var accuracies: [Double?]
    public var count: Int
  }

  /// How tokens of a task are shared between experts, along the answers.
  public struct Shares: Sendable, Equatable {
    public static let bins = 10
    public var task: String
    /// [bins][experts]: shares of the tokens in each tenth of the answers; zeros where there are none.
    public var byPosition: [[Double]]
    /// [experts]
    public var overall: [Double]
  }

  public var tasks: [String]
  /// Tasks whose mean is the average.
  public var averaged: [String]
  public var reference: String
  public var rows: [Row]
  public var changes: [Changes]
  public var tags: [TagRow]
  /// Of the reference's answers.
  public var shares: [Shares]
  public var experts: [String]
  /// What each method is, by name.
  public var descriptions: [String: String]
  public var bootstrap: Bootstrap

  public static func == (a: Self, b: Self) -> Bool {
    a.tasks == b.tasks && a.averaged == b.averaged && a.reference == b.reference && a.rows == b.rows
      && a.changes == b.changes && a.tags == b.tags && a.shares == b.shares && a.experts == b.experts
  }
}

/// All that the summary is made from.
public struct EvaluationResults: Sendable {
  public var tasks: [EvaluationTask]
  /// In the order of the table.
  public var methods: [String]
  /// By method and id.
  public var records: [String: [String: AnswerRecord]]
  /// Rows that are the mean of these methods' outcomes; they have no records of their own.
  public var means: [String: [String]]
  public var reference: String
  /// Nil: every task.
  public var averaged: [String]?
  /// Methods that lack something that the reference has been trained with.
  public var changesFrom: [String]
  /// Answers that each method should give; a method that is not named has all of its.
  public var expected: [String: Int]
  /// What each method is, for people.
  public var descriptions: [String: String]
  public var bootstrap: Bootstrap

  /// Tags with more values than this are labels, not groups.
  public static let maximumTagValues = 40

  public init(
    tasks: [EvaluationTask], methods: [String], records: [String: [String: AnswerRecord]],
    means: [String: [String]] = [:], reference: String, averaged: [String]? = nil, changesFrom: [String] = [],
    expected: [String: Int] = [:], descriptions: [String: String] = [:], bootstrap: Bootstrap = Bootstrap()
  ) {
    self.tasks = tasks
    self.methods = methods
    self.records = records
    self.means = means
    self.reference = reference
    self.averaged = averaged
    self.changesFrom = changesFrom
    self.expected = expected
    self.descriptions = descriptions
    self.bootstrap = bootstrap
  }

  /// Names of tasks in the order in which they first occur.
  public var taskNames: [String] {
    var seen: Set<String> = []
    return tasks.map(\.task).filter { seen.insert($0).inserted }
  }

  /// Experts in the order of the reference's records, then of the others. Answers in which no expert decided, such as those
  /// of a model by itself, name none.
  public var experts: [String] {
    var names: [String] = []
    for method in [reference] + methods {
      // Of the most experts a record knows, which is the head's order.
      let decided = records[method]?.values.filter { record in record.deciders.contains { $0 != nil } } ?? []
      let longest = decided.max { ($0.experts.count, $1.id) < ($1.experts.count, $0.id) }
      for name in longest?.experts ?? [] where !names.contains(name) { names.append(name) }
    }
    return names
  }

  func record(_ method: String, _ task: EvaluationTask) -> AnswerRecord? { records[method]?[task.id] }

  /// What a row's numbers come from: its own record, or those of the methods that it is the mean of.
  func parts(_ method: String, _ task: EvaluationTask) -> [AnswerRecord] {
    (means[method] ?? [method]).compactMap { record($0, task) }
  }

  /// 1 for a right answer and 0 for a wrong one; of a mean their mean, once all its methods have answered.
  func value(_ method: String, _ task: EvaluationTask) -> Double? {
    let records = parts(method, task)
    guard !records.isEmpty, records.count == means[method]?.count ?? 1 else { return nil }
    return Double(records.count(where: \.grade.passed)) / Double(records.count)
  }

  func outcomes(_ method: String, task: String) -> [AnswerRecord] {
    tasks.filter { $0.task == task }.compactMap { record(method, $0) }
  }
}
