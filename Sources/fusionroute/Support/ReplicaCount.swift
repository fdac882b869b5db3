internal import ArgumentParser
internal import Launch

/// How many replicas an expert is to have: `math=3`.
struct ReplicaCount: ExpressibleByArgument, Equatable {
  static let range = 0...1024

  let expert: String
  let count: Int

  init(expert: String, count: Int) {
    self.expert = expert
    self.count = count
  }

  init?(argument: String) {
    guard let equals = argument.lastIndex(of: "="), let count = Int(argument[argument.index(after: equals)...]),
      Self.range.contains(count), ClusterFile.isValidName(String(argument[..<equals]))
    else { return nil }
    expert = String(argument[..<equals])
    self.count = count
  }
}
