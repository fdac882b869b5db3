internal import Core
internal import Evaluation
internal import Foundation

/// What is evaluated and how: an evaluation file, or the same from options.
struct EvaluationSettings: Sendable {
  struct Reward: Sendable, Equatable {
    /// The model that it was trained on.
    var model: String
    /// Directory of `train reward`.
    var folder: String
  }

  /// Where the settings come from, for reports.
  var source: String
  var tasks: [String] = []
  /// Absolute path of the cluster file that methods use unless they name another.
  var cluster: String?
  var grader: String?
  /// Where the grader runs; nil: here.
  var graderDirectory: String?
  var reward: Reward?
  var maximumTokens = 256
  var stop: [String] = []
  /// Prompts per task at most.
  var limit: Int?
  /// Tasks whose mean is the average; nil: all.
  var average: [String]?
  var reference: String?
  var changesFrom: String?
  var seed: UInt64 = 1
  var resamples = 10_000
  /// Nil: the rows that the cluster has by itself.
  var methods: [Method]?

  /// Of an evaluation with one row, that one; otherwise `fusionroute`.
  func reference(of methods: [Method]) throws -> String {
    let name = reference ?? (methods.contains { $0.name == "fusionroute" } ? "fusionroute" : methods.last?.name ?? "")
    guard methods.contains(where: { $0.name == name }) else {
      throw FusionRouteError.badInput("the reference \"\(name)\" is none of the methods")
    }
    return name
  }
}
