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

  /// Tokens that a sequence may have in a mode: the least context of the models that take part. Nil while one of them
  /// has no replica.
  func contextLimit(_ mode: String) -> Int? {
    func least(_ expert: CoordinatorStatus.Expert) -> Int? {
      // Of those that take steps.
      expert.replicas.filter { ["serving", "draining"].contains($0.state) }.map(\.context).min()
    }
    switch DecodingMode(parsing: mode) {
    case .expert(let name)?: return status.experts.first { $0.name == name }.flatMap(least)
    case .router?: return status.router.context
    case .fusion?, .noComplement?, nil:
      let experts = status.experts.filter(\.routed)
      let contexts = experts.compactMap(least)
      return contexts.count < experts.count ? nil : contexts.reduce(status.router.context, min)
    }
  }
}
