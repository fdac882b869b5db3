internal import Core
internal import Foundation

/// What `up` has started for one cluster file and `down` has not yet stopped, in a file that is replaced as a whole.
public struct LaunchState: Sendable, Equatable, Codable {
  static let version = 1
  private static let maximumBytes = 16 << 20

  var version = LaunchState.version
  /// Absolute path of the cluster file.
  public var cluster: String
  public var records: [LaunchRecord]

  public init(cluster: String, records: [LaunchRecord] = []) {
    self.cluster = cluster
    self.records = records
  }

  /// Reads the file; an empty state if there is none. Throws `badInput` if it cannot be understood.
  public static func load(path: String, cluster: String) throws -> LaunchState {
    guard FileManager.default.fileExists(atPath: path) else { return LaunchState(cluster: cluster) }
    guard let data = FileManager.default.contents(atPath: path), data.count <= maximumBytes else {
      throw FusionRouteError.badInput("cannot read \(path), where `up` notes what it has started")
    }
    do {
      let state = try JSONDecoder().decode(LaunchState.self, from: data)
      guard state.version == version else {
        throw FusionRouteError.badInput(
          "\(path) was written by another version of fusionroute: stop its hosts with that version's `down`")
      }
      return state
    } catch let error as DecodingError {
      throw FusionRouteError.badInput(
        "\(path), where `up` notes what it has started, is damaged; stop what runs by hand and remove it", cause: error)
    }
  }

  /// Writes the file, or removes it when nothing is left to stop.
  public func save(path: String) throws {
    guard !records.isEmpty else {
      try? FileManager.default.removeItem(atPath: path)
      return
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let data: Data
    do { data = try encoder.encode(self) } catch {
      throw FusionRouteError.internal("cannot write down what was started", cause: error)
    }
    var file = try AtomicFile(path: path, isPrivate: true)
    try file.write(Array(data))
    try file.commit()
  }
}
