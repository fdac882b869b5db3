internal import Coordinator
internal import Core
internal import Foundation
internal import Fusion
internal import Launch
internal import ModelFiles
internal import Training

/// Asks a cluster's experts what they think of sequences. What was asked before comes from the cache.
struct ExpertScoring {
  let cluster: ClusterFile
  let attach: Bool
  let log: LogSettings
  let progress: Progress

  var experts: [String] { cluster.experts.map(\.name) }

  /// How often an expert is asked whose last replica leaves after each answer.
  private static let attempts = 3

  /// Sequences that may be asked about at once. What is asked takes the router's slots, though not the router: at least two for
  /// each expert, so that it neither waits for the others nor for the next sequence.
  private var slots: Int { max(cluster.router.engine.slots, 2 * experts.count) }

  /// Opinions on the judged tokens of every sequence, in their order.
  func opinions(on sequences: [TrainingSequence]) async throws -> [ExpertOpinions] {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fusionroute-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // Routing is not asked for, but a coordinator has a head: one that names the experts.
    var started = cluster
    started.router.engine.slots = slots
    started.router.head = folder.appendingPathComponent("head.gguf").path
    let shape = try ModelShape(GGUFFile.read(cluster.router.engine.model))
    try RoutingHead(
      experts: experts, weight: [Float](repeating: 0, count: experts.count * shape.width), embeddingWidth: shape.width
    ).write(started.router.head)
    let result = ResultBox()
    try await ClusterSession.with(started, workers: attach ? .elsewhere : .all, log: log, progress: progress) {
      session in result.put(try await score(sequences, session.coordinator))
    }
    return result.value
  }

  private func score(
    _ sequences: [TrainingSequence], _ coordinator: CoordinatorRuntime
  ) async throws -> [ExpertOpinions] {
    let folder = try CacheDirectory.url().appendingPathComponent("scores").path
    let fingerprints = try experts.map { expert in
      guard let fingerprint = coordinator.fingerprint(of: expert) else {
        throw FusionRouteError.unavailable("expert \"\(expert)\" has no replica")
      }
      return fingerprint
    }
    let caches = try fingerprints.map { try ScoreCache(folder: folder, fingerprint: $0) }
    let keys = sequences.map(ScoreCache.key(of:))
    let missing = experts.indices.map { expert in sequences.indices.filter { caches[expert][keys[$0]] == nil } }
    let count = missing.map(\.count).reduce(0, +)
    let all = experts.count * sequences.count
    let text =
      "asking \(experts.count) experts about \(sequences.count) sequences"
      + (count < all ? " (\(all - count) of \(all) answers are known)" : "")
    try await progress.showing(text) {
      // A lane per expert, as wide as its share of the slots, so that no expert waits for another.
      let limit = slots / experts.count
      try await withThrowingTaskGroup(of: Int.self) { group in
        var lanes = missing.map { $0.makeIterator() }
        func ask(_ expert: Int) {
          guard let index = lanes[expert].next() else { return }
          group.addTask {
            let (sequence, name) = (sequences[index], experts[expert])
            let scores = try await Self.asking(
              name, of: fingerprints[expert], served: { coordinator.fingerprint(of: name) }
            ) { try await Self.scores(of: sequence, expert: name, coordinator) }
            try caches[expert].store(scores, for: keys[index])
            return expert
          }
        }
        for expert in experts.indices { (0..<limit).forEach { _ in ask(expert) } }
        var done = 0
        while let expert = try await group.next() {
          done += 1
          progress.update("\(text): \(done) of \(count)")
          ask(expert)
        }
      }
    }
    return try keys.map { key in
      ExpertOpinions(
        try caches.map { cache in
          guard let scores = cache[key] else { throw FusionRouteError.internal("a sequence was not scored") }
          return scores
        })
    }
  }

  /// What an expert says, if its replicas are of one model all the while. Once the last of them has left, others may
  /// come that have another, and what these say would be kept as the first one's for good.
  ///
  /// - Parameter served: identity of the model that the expert has now; nil while it has no replica.
  static func asking<Value>(
    _ expert: String, of fingerprint: SHA256Digest, served: () -> SHA256Digest?, _ body: () async throws -> Value
  ) async throws -> Value {
    func isServed() throws -> Bool {
      guard let now = served() else { return false }
      guard now == fingerprint else {
        throw FusionRouteError.unavailable(
          "expert \"\(expert)\" has another model than when it was first asked: start its workers with the one that is "
            + "wanted, and give the command again; what was scored before is kept")
      }
      return true
    }
    for _ in 0..<attempts {
      _ = try isServed()
      let value = try await body()
      // Whoever said it may have left since: then it is asked again, which waits for a replica.
      if try isServed() { return value }
    }
    throw FusionRouteError.unavailable("expert \"\(expert)\" loses its replicas while it is asked: see to its workers")
  }

  private static func scores(
    of sequence: TrainingSequence, expert: String, _ coordinator: CoordinatorRuntime
  ) async throws -> ExpertScores {
    guard let first = sequence.judged.first, let last = sequence.judged.last else {
      return ExpertScores(logProbabilities: [], argmaxes: [])
    }
    // Position p judges tokens[p + 1]; what comes behind the last need not be computed.
    let scores = try await coordinator.score(
      Array(sequence.tokens[...(last + 1)]), first: first + 1, mode: .expert(expert), client: "train")
    let judged = sequence.judged.map { scores[$0 - first] }
    return ExpertScores(logProbabilities: judged.map(\.logProbability), argmaxes: judged.map(\.argmax))
  }

  /// Takes a result out of a session's body.
  private final class ResultBox: @unchecked Sendable {
    // Unchecked: written by the body before `with` returns, read afterwards.
    private(set) var value: [ExpertOpinions] = []

    func put(_ value: [ExpertOpinions]) { self.value = value }
  }
}
