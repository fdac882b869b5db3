import Core
import Foundation
import Inference
package import ModelFiles

/// A router, its head and experts on disk, all of one vocabulary.
package struct TestModels: Sendable {
  package var router: String
  package var head: String
  /// In the head's order.
  package var experts: [(name: String, path: String)]

  package init(router: String, head: String, experts: [(name: String, path: String)]) {
    self.router = router
    self.head = head
    self.experts = experts
  }

  /// Generated models: experts are perturbations of one another, so that they agree often but not always, and the head
  /// is calibrated so that all of them are selected.
  package static func make(
    in scratch: Scratch, recipe: ModelRecipe = ModelRecipe(), experts count: Int = 3, strength: Float = 0.3,
    complementScale: Float = 1
  ) throws -> TestModels {
    let router = scratch.path("router.gguf")
    try ModelMaker.make(recipe, to: router)
    var experts: [(String, String)] = []
    for index in 0..<count {
      let name = ["math", "code", "instruct", "law", "medicine"][index]
      let path = scratch.path("\(name).gguf")
      try ModelMaker.perturb(router, to: path, strength: strength, seed: UInt64(100 + index))
      experts.append((name, path))
    }
    let head = scratch.path("head.gguf")
    let hidden = try hiddenStates(of: router)
    try RoutingHead.calibrated(
      hidden: hidden, experts: experts.map(\.0), complementScale: complementScale, seed: 5
    ).write(head)
    return TestModels(router: router, head: head, experts: experts)
  }

  /// Hidden states of a model along random tokens.
  package static func hiddenStates(of path: String, tokens count: Int = 128) throws -> [[Float]] {
    let model = try Model.load(path: path)
    let decoder = try BatchingDecoder(
      model: model, configuration: DecoderConfiguration(slots: 1, contextPerSequence: 256, hiddenStates: true))
    defer { decoder.shutdown() }
    var random = SplitMix64(seed: 3)
    let tokens = (0..<count).map { _ in Token.random(in: 0..<Token(model.vocabulary.size), using: &random) }
    let done = DispatchSemaphore(value: 0)
    let rows = LockedBox<[[Float]]>([])
    decoder.submit(
      DecodeRequest(
        id: 1, sequence: 1, tokens: tokens, wanted: Array(0..<count), wantsHidden: true,
        deliver: { row in rows.withValue { $0.append(row.hidden ?? []) } }, completion: { _ in done.signal() }))
    done.wait()
    return rows.withValue { $0 }
  }
}

/// A value behind a lock, for callbacks.
package final class LockedBox<Value>: @unchecked Sendable {
  // Unchecked: every access holds the lock.
  private let lock = NSLock()
  private var value: Value

  package init(_ value: Value) { self.value = value }

  package func withValue<R>(_ body: (inout Value) throws -> R) rethrows -> R {
    lock.lock()
    defer { lock.unlock() }
    return try body(&value)
  }
}
