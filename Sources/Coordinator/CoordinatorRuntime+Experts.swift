public import Core

extension CoordinatorRuntime {
  /// Identity of the model, adapter and settings that `expert` is served with; nil while it has no replica.
  ///
  /// Replicas of one expert are of one identity: others are refused when they register.
  public func fingerprint(of expert: String) -> SHA256Digest? {
    pool.state.withLock { state in
      state.registry.replicas.values.first { $0.offer.expert == expert }?.offer.modelFingerprint
    }
  }
}
