internal import ArgumentParser
internal import Core
internal import Launch

/// Where the service of a cluster is, by its URL or by its cluster file.
struct ClusterAddress: ParsableArguments {
  @Option(
    name: [.short, .long], help: ArgumentHelp("The cluster file, whose listen.http says where.", valueName: "file"))
  var cluster: String?

  @OptionGroup(title: "Service") var service: ServiceOptions

  func validate() throws {
    guard cluster == nil || service.url.description == ServiceURL.usual.description else {
      throw ValidationError("--cluster and --url both say where the service is: give one.")
    }
  }

  /// Throws `badInput` for a file that does not say it.
  func resolved() throws -> ServiceOptions {
    guard let cluster else { return service }
    let file = try ClusterFile.load(path: cluster)
    guard let (host, port) = Endpoint.hostAndPort(file.listen.http), port != 0 else {
      throw FusionRouteError.badInput(
        "\(cluster) leaves the port of listen.http open: say where the service is with --url")
    }
    let shown = ["*", "0.0.0.0", "::"].contains(host) ? "127.0.0.1" : host
    let scheme = file.gateway.certificate == nil ? "http" : "https"
    guard let url = ServiceURL("\(scheme)://\(shown.contains(":") ? "[\(shown)]" : shown):\(port)") else {
      throw FusionRouteError.badInput("\(cluster): \(file.listen.http) is no address that can be reached")
    }
    var service = service
    service.url = url
    return service
  }
}
