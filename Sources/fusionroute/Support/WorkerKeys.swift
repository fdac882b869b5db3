internal import Core
internal import Foundation
internal import Launch
internal import Messaging

/// Which key of a keys directory a worker uses.
enum WorkerKeys {
  /// The key named like the host, else the first there is; nil without a directory or keys.
  static func name(in directory: String?, preferring host: String?) -> String? {
    guard let directory else { return nil }
    let files = (try? FileManager.default.contentsOfDirectory(atPath: "\(directory)/workers")) ?? []
    let names = files.filter { $0.hasSuffix(".key") }.map { String($0.dropLast(4)) }.sorted()
    return host.flatMap { names.contains($0) ? $0 : nil } ?? names.first
  }

  /// The security of a worker that dials `endpoints`. Throws `badInput` where keys are needed and missing.
  static func load(directory: String?, name: String?, endpoints: [String]) throws -> ClientSecurity? {
    if let directory { return try ClientSecurity.load(keysDirectory: directory, worker: name) }
    if let remote = endpoints.first(where: { Launch.Endpoint($0)?.isLocal == false }) {
      throw FusionRouteError.badInput(
        "the coordinator \(remote) is on another machine, which needs keys: give --keys DIRECTORY with what "
          + "`fusionroute keys` made")
    }
    return nil
  }
}
