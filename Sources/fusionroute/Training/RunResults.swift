internal import Core
internal import Foundation

/// The models that a run leaves in its directory.
///
/// A directory holds those of one run: an adapter would be taken for one result with the head that another run has left
/// beside it. What a run has left is named by `.results`, and gone before the next one writes what it leaves.
struct RunResults {
  /// They are removed in this order, and the head is written first: after a crash there is no adapter or model without it.
  static let names = ["adapter.gguf", "model.gguf", "head.gguf"]
  private static let listName = ".results"

  let folder: String
  /// Those of the names that this run leaves.
  let written: [String]
  /// Files that the run reads. They stay, whoever has left them.
  let inputs: [String]

  /// Throws `.usage` if there is a model beside which the run would leave its own, and which none has left here.
  func check() throws {
    let known = written + left
    let foreign = Self.names.first { !known.contains($0) && isThere($0) && !isRead($0) }
    guard let foreign else { return }
    throw FusionRouteError.usage(
      "\(folder)/\(foreign) would be taken for a result of this run, which leaves \(written.joined(separator: ", ")): give "
        + "another --out directory, or move that file away")
  }

  /// Removes what earlier runs have left. Returns the names of what this run does not leave itself.
  func clear() throws -> [String] {
    let stale = left.filter { !written.contains($0) && isThere($0) && !isRead($0) }
    // A single file is replaced by renaming, and is at every moment the one or the other.
    let isMixture = written.count > 1 || !stale.isEmpty
    for name in Self.names where stale.contains(name) || isMixture && written.contains(name) {
      // No directory, whoever gave it this name.
      guard unlink("\(folder)/\(name)") == 0 || errno == ENOENT else {
        throw FusionRouteError.unavailable(
          "\(folder)/\(name), which an earlier run has left, cannot be removed: \(String(cString: strerror(errno)))")
      }
    }
    return stale
  }

  /// Notes what the run has left. After a crash before that, it is taken for a file of the user's.
  func list() throws {
    var file = try AtomicFile(path: "\(folder)/\(Self.listName)")
    try file.write(Array(written.map { $0 + "\n" }.joined().utf8))
    try file.commit()
  }

  /// What the latest run has left.
  private var left: [String] {
    let text = (try? String(contentsOfFile: "\(folder)/\(Self.listName)", encoding: .utf8)) ?? ""
    return text.split(separator: "\n").map(String.init).filter { Self.names.contains($0) }
  }

  private func isThere(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(folder)/\(name)") }

  private func isRead(_ name: String) -> Bool { ResultPath.replaced([name], in: folder, of: inputs) != nil }
}

extension TrainStart {
  /// What a run's results are wanted for.
  enum Purpose {
    /// To train adapters on: those of the run, or new ones on its whole model.
    case adapters
    /// To train every weight on: those of its whole model.
    case everyWeight
    /// To compute with: a whole model, in which adapters are baked, is faster than one with adapters beside it.
    case computing
  }

  /// What a run has left in its directory. All that goes on from results or computes with them asks here, so that it is
  /// the same for all.
  init(resultsIn folder: String, baseModel: String, for purpose: Purpose) throws {
    func existing(_ name: String) -> (path: String, date: Date)? {
      let path = "\(folder)/\(name)"
      guard FileManager.default.fileExists(atPath: path) else { return nil }
      let target = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
      let attributes = try? FileManager.default.attributesOfItem(atPath: target)
      return (path, attributes?[.modificationDate] as? Date ?? .distantPast)
    }
    let (adapter, model) = (existing("adapter.gguf"), existing("model.gguf"))
    // With --bake the model is written after the adapter. An older one is what that was trained on, or an earlier run's.
    let isStale = model.map { $0.date < adapter?.date ?? .distantPast } ?? false
    let head = existing("head.gguf")?.path
    let whole = isStale ? nil : model.map { TrainStart(model: $0.path, head: head) }
    let adapted = adapter.map { TrainStart(model: baseModel, adapter: $0.path, head: head) }
    let found: TrainStart? =
      switch purpose {
      case .adapters: adapted ?? whole
      case .everyWeight: whole
      case .computing: whole ?? adapted
      }
    guard let found else {
      guard !isStale else {
        throw FusionRouteError.badInput(
          "\(folder)/model.gguf is older than the adapter.gguf beside it, so it is not of the same run: leave out --full, "
            + "or give the directory of a run with --full or --bake")
      }
      throw FusionRouteError.badInput(
        "\(folder) has no \(purpose == .everyWeight ? "" : "adapter.gguf and no ")model.gguf: give the directory of a "
          + "finished run")
    }
    self = found
  }
}
