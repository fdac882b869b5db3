internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

/// Options of commands that serve HTTP; they override the cluster file's keys.
struct ServeOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where to listen for HTTP instead of the cluster file's listen.http; port * lets the system choose.",
      valueName: "host:port"))
  var listen: String?

  @Option(
    help: ArgumentHelp(
      "Write spans of every request to this file, for ui.perfetto.dev; as gateway.trace.", valueName: "file"))
  var trace: String?

  func validate() throws {
    guard let listen, Endpoint.hostAndPort(listen) == nil else { return }
    throw ValidationError("--listen is \"\(listen)\": it must be HOST:PORT.")
  }

  func applied(to cluster: ClusterFile) -> ClusterFile {
    var cluster = cluster
    if let listen { cluster.listen.http = listen }
    if let trace { cluster.gateway.trace = URL(fileURLWithPath: trace).standardizedFileURL.path }
    return cluster
  }
}
