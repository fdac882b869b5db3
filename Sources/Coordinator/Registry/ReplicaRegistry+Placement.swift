public import Core

/// What a sequence that has begun is bound to: another replica continues it exactly only if it has the same weights and,
/// where answers are to be reproducible, computes the same bits.
struct ReplicaPin: Sendable, Equatable {
  var model: SHA256Digest
  /// Nil: any.
  var numerics: SHA256Digest?
}

extension ReplicaRegistry {
  func pin(of offer: ReplicaOffer) -> ReplicaPin {
    ReplicaPin(model: offer.modelFingerprint, numerics: requirements.reproducible ? offer.numericsHash : nil)
  }

  /// Whether a sequence so bound can go on there.
  private func fits(_ offer: ReplicaOffer, _ pin: ReplicaPin?) -> Bool {
    guard let pin else { return true }
    return offer.modelFingerprint == pin.model && (pin.numerics == nil || offer.numericsHash == pin.numerics)
  }

  /// The replica on which a sequence costs least, see ``PlacementPolicy``; `fingerprint` binds one that has begun.
  public func place(_ expert: String, fingerprint: SHA256Digest?, excluding: Set<ReplicaID>) -> ReplicaID? {
    place(expert, pin: fingerprint.map { ReplicaPin(model: $0, numerics: nil) }, excluding: excluding)
  }

  /// - Parameters:
  ///   - prefix: what the sequence has read so far.
  ///   - needsRoom: only a replica with a free slot.
  func place(
    _ expert: String, pin: ReplicaPin?, excluding: Set<ReplicaID>, prefix: PrefixBlocks = .none,
    needsRoom: Bool = false, now: UInt64 = 0
  ) -> ReplicaID? {
    let replicas = serving(expert).filter {
      fits($0.offer, pin) && !excluding.contains($0.id) && ($0.hasRoom || !needsRoom)
    }
    // The usual case, not worth a comparison.
    if replicas.count == 1 { return replicas[0].id }
    let best = replicas.compactMap(\.stepTime.mean).min() ?? 0
    let candidates = replicas.map { replica in
      PlacementPolicy.Candidate(
        id: replica.id, slots: replica.offer.slots, assigned: replica.assigned.count, pending: replica.pending,
        held: prefixes.held(prefix, at: replica.id),
        slowness: replica.stepTime.slowness(comparedTo: best, now: now),
        burden: health.burden(incarnation: replica.offer.incarnation, host: replica.offer.host, now: now))
    }
    return PlacementPolicy.choose(candidates, tokens: prefix.tokens)
  }

  /// Whether a sequence placed there had better move: the replica holds more than its cache does, and another that could
  /// go on with the sequence has a free slot.
  func isCrowded(_ id: ReplicaID, pin: ReplicaPin?) -> Bool {
    guard let replica = replicas[id], replica.assigned.count > replica.offer.slots else { return false }
    return place(replica.offer.expert, pin: pin, excluding: [id], needsRoom: true) != nil
  }

  /// The replica has read this prefix of the sequence.
  mutating func note(_ sequence: UInt64, _ prefix: PrefixBlocks, at id: ReplicaID) {
    guard let slots = replicas[id]?.offer.slots else { return }
    prefixes.note(sequence, prefix, at: id, slots: slots)
  }

  /// A step of so many tokens was answered after so many nanoseconds.
  mutating func stepped(_ id: ReplicaID, tokens: Int, nanoseconds: UInt64, now: UInt64) {
    if tokens <= StepTime.maximumTokens { replicas[id]?.stepTime.add(nanoseconds, now: now) }
  }

  /// The replica failed or was slow: it is avoided for a while, also when it comes back.
  mutating func fault(_ id: ReplicaID, weight: Double = 1, now: UInt64) {
    guard let offer = replicas[id]?.offer else { return }
    health.fault(incarnation: offer.incarnation, host: offer.host, weight: weight, now: now)
  }

  /// Experts that would be left without a serving replica if these no longer served.
  func abandoned(without drained: Set<ReplicaID>) -> [String] {
    let experts = Set(drained.compactMap { replicas[$0]?.state == .serving ? replicas[$0]?.offer.expert : nil })
    return experts.filter { serving($0).allSatisfy { drained.contains($0.id) } }.sorted()
  }
}
