/// What a run of hostile messages came to.
package struct FuzzReport: Sendable {
  /// Messages fed in.
  package var messages = 0
  /// Of them, those that were damaged on the way.
  package var damaged = 0
  /// What they led to, by name.
  package var effects: [String: Int] = [:]
  /// Rules that did not hold.
  package var violations: [String] = []

  package init() {}

  mutating func count(_ effect: String, _ times: Int = 1) { effects[effect, default: 0] += times }

  mutating func require(_ holds: Bool, _ sentence: @autoclosure () -> String) {
    if !holds, violations.count < 20 { violations.append(sentence()) }
  }

  package var description: String {
    let parts = effects.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    return "\(messages) messages, \(damaged) of them damaged: " + parts.joined(separator: ", ")
  }
}
