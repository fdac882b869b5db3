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
  /// New tokens of an answer that may be asked for.
  static let tokenCounts = 1...1 << 20
  /// New tokens of an answer at most, where that was said.
  var statedMaximumTokens: Int?
  var defaultMaximumTokens = 256
  var maximumTokens: Int { statedMaximumTokens ?? defaultMaximumTokens }
  var stop: [String] = []
  /// Prompts per task at most.
  var limit: Int?
  /// Tasks whose mean is the average; nil: all.
  var average: [String]?
  var reference: String?
  var changesFrom: [String] = []
  var seed: UInt64 = 1
  var resamples = 10_000
  /// Nil: the rows that the cluster has by itself.
  var methods: [Method]?

  /// What was asked for; otherwise `fusionroute`, and where that does not run the last row.
  ///
  /// - Parameters:
  ///   - all: with those that do not run this time. A reference among them is passed over.
  ///   - isOption: the reference was asked for this time, and must run.
  func reference(of methods: [Method], among all: [Method], isOption: Bool) throws -> String {
    func has(_ methods: [Method], _ name: String) -> Bool { methods.contains { $0.name == name } }
    if let reference {
      if has(methods, reference) { return reference }
      guard !isOption, has(all, reference) else {
        throw FusionRouteError.badInput("the reference \"\(reference)\" is none of the methods")
      }
    }
    return has(methods, "fusionroute") ? "fusionroute" : methods.last?.name ?? ""
  }

  /// Checks what names tasks and methods against those that there are. Throws `.badInput`.
  ///
  /// - Parameter all: with the methods that do not run this time.
  func check(tasks: [EvaluationTask], methods: [Method], among all: [Method], reference: String) throws {
    let names = Set(tasks.map(\.task))
    if let name = average?.first(where: { !names.contains($0) }) {
      throw FusionRouteError.badInput(
        "\"average\" names \"\(name)\", which is no task; there are \(names.sorted().joined(separator: ", "))")
    }
    for name in changesFrom where !all.contains(where: { $0.name == name }) {
      throw FusionRouteError.badInput("\"changes_from\" names \"\(name)\", which is no method")
    }
    // Nothing is compared with one that does not run.
    let compared = methods.filter { changesFrom.contains($0.name) }.map(\.name)
    guard !compared.isEmpty else { return }
    for method in methods where compared.contains(method.name) || method.name == reference {
      guard case .mean = method.kind else { continue }
      throw FusionRouteError.badInput(
        "\"changes_from\" compares answers, and \"\(method.name)\" has none: it is a mean; name one of its methods")
    }
  }
}
