internal import Foundation

extension Method {
  /// What it is, in words: kind, files, settings, note.
  public var description: String {
    var parts = [whatItIs]
    if let limit { parts.append("the first \(limit) prompts of each task") }
    if let note { parts.append(note) }
    return parts.joined(separator: "; ")
  }

  private var whatItIs: String {
    switch kind {
    case .decode(let decoding): decoding.description
    case .firstExpert(let decoding):
      "the expert that the router selects for the first token writes the whole answer" + decoding.files
    case .collab(let decoding, let rollout):
      "at each token the expert whose continuation of \(rollout) tokens a reward model rates highest" + decoding.files
    case .select(let names): "of the answers of \(Self.list(names)) the one that a reward model rates highest"
    case .oracle(let names): "of the answers of \(Self.list(names)) a right one, if there is one: an upper bound"
    case .mean(let names): "the mean of \(Self.list(names))"
    case .given(let path):
      "what something else answered (\(path.split(separator: "/").suffix(2).joined(separator: "/")))"
    }
  }

  private static func list(_ names: [String]) -> String {
    guard names.count > 1, let last = names.last else { return names.joined() }
    return names.dropLast().joined(separator: ", ") + " and " + last
  }
}

extension Method.Decoding {
  fileprivate var description: String {
    let what: String
    switch mode {
    case "fusion":
      let factor = scale.map {
        " times \($0.formatted(.number.locale(Locale(identifier: "en_US_POSIX")).grouping(.never)))"
      }
      what = "the logits of the selected expert and the router’s\(factor ?? "")"
    case "no-complement": what = "the logits of the selected expert alone"
    case "router" where cluster == nil && model != nil: return "one model by itself" + files
    case "router": what = "the router by itself"
    default:
      let parts = mode.split(separator: ":", maxSplits: 1)
      return "the expert \(parts.last.map(String.init) ?? mode) by itself"
    }
    return what + files
  }

  /// The files that are its own, each with the folder that tells it from others.
  fileprivate var files: String {
    let names = [("model", model), ("adapter", lora), ("head", head)].compactMap { kind, path in
      path.map { "\(kind) \($0.split(separator: "/").suffix(2).joined(separator: "/"))" }
    }
    return names.isEmpty ? "" : " (\(names.joined(separator: ", ")))"
  }
}
