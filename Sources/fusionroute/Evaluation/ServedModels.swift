internal import Coordinator
internal import Fusion

/// The models of a running service, as it tells of them itself.
struct ServedModels {
  let url: String
  let status: CoordinatorStatus

  /// What answers of a mode depend on: the models that take part, wherever they are served; the address alone if the
  /// service does not tell, being older, or if one of these experts has no replica now.
  func identity(_ mode: String) -> [String] {
    var parts = ["context \(status.router.context)"]
    var fingerprints: [String?] = []
    func add(_ name: String, _ fingerprint: String?) {
      parts += [name, fingerprint ?? ""]
      fingerprints.append(fingerprint)
    }
    // Of every mode: its file brings the chat template and the tokenizer.
    add("router", status.router.fingerprint)
    switch DecodingMode(parsing: mode) {
    case .expert(let name)?: add(name, status.experts.first { $0.name == name }?.fingerprint)
    case .router?: break
    case .fusion?, .noComplement?, nil:
      for expert in status.experts where expert.routed { add(expert.name, expert.fingerprint) }
    }
    return fingerprints.contains(nil) ? [url] : parts
  }
}
