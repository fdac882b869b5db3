internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Show where each replica of a cluster goes and why, or what keeps it from fitting.",
    discussion: """
      Starts nothing. Replicas are placed so that each host's memory suffices (by the models' sizes and KV caches), \
      replicas of one expert are on different hosts, and processes of several threads have cores of their own. Ends \
      with 69 if memory does not suffice, with 65 if cores do not.

      --render writes what a launcher would be given, for those who want to apply it themselves: Kubernetes manifests, \
      or Slurm batch scripts.
      """)

  enum Target: String, ExpressibleByArgument, CaseIterable { case kubernetes, slurm }

  @Option(name: [.short, .long], help: ArgumentHelp("The cluster file (YAML).", valueName: "file"))
  var cluster: String

  @Option(help: "text or json.")
  var format: OutputFormat = .text

  @Option(
    help: ArgumentHelp("Write files for this engine into the directory: kubernetes or slurm.", valueName: "engine"))
  var render: Target?

  @Argument(help: ArgumentHelp("Where --render writes.", valueName: "directory"))
  var directory: String?

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard (render == nil) == (directory == nil) else {
      throw ValidationError(
        render == nil ? "A directory is for --render." : "--render needs the directory to write into.")
    }
  }

  func run() throws {
    _ = output.bootstrap(default: .warning)
    let file = try ClusterFile.load(path: cluster)
    let plan: PlacementPlan
    do { plan = try ClusterPlan.plan(file) } catch let error as FusionRouteError {
      if format == .json, let failure = error.cause as? PlacementFailure {
        print(PlanView.object(of: failure, source: file.source, sentence: error.message).rendered)
      }
      throw FusionRouteError(error.code, error.message)
    }
    let view = PlanView(cluster: file, plan: plan)
    switch format {
    case .json: print(view.object.rendered)
    case .text:
      var style = Style(.standardOutput)
      // Where nobody's window is too narrow, nothing is cut.
      if !style.isTerminal { style.width = 400 }
      print(view.lines(style).joined(separator: "\n"))
    }
    if let render, let directory { try write(render, plan, file, into: directory) }
  }

  private func write(_ target: Target, _ plan: PlacementPlan, _ file: ClusterFile, into directory: String) throws {
    let path = URL(fileURLWithPath: cluster).standardizedFileURL.path
    let orders = HostOrder.orders(of: plan, cluster: file, path: path, program: try Executable.path())
    let files: [KubernetesManifests.File]
    var notes: [String] = []
    switch target {
    case .kubernetes:
      let own = orders.filter { $0.host.launcher == .kubernetes }
      try need(own, target)
      let manifests = try KubernetesManifests(
        file, text: try String(contentsOfFile: path, encoding: .utf8),
        directory: URL(fileURLWithPath: path).deletingLastPathComponent().path, router: try ClusterPlan.router(file))
      files = manifests.files(own)
      notes = manifests.secretCommands(own)
      if !manifests.runsCoordinator {
        notes.append(
          "# The coordinator is not among them: \"listen.advertise\" does not name the Service "
            + KubernetesManifests.coordinatorName + ".")
      }
    case .slurm:
      let own = orders.filter { $0.host.launcher == .slurm }
      try need(own, target)
      files = SlurmScript.groups(own).map { group in
        let name = "fusionroute-\(group.first?.host.name ?? "")"
        return .init(name: "\(name).sh", text: SlurmScript.text(group, name: name))
      }
      notes = files.map { Quoting.shell(["sbatch", "\(directory)/\($0.name)"]) }
    }
    try Self.write(files, into: directory)
    let style = Style(.standardError)
    let text =
      style.paint("written to \(directory): ", .faint) + files.map(\.name).joined(separator: ", ") + "\n"
      + notes.map { $0 + "\n" }.joined()
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  private func need(_ orders: [HostOrder], _ target: Target) throws {
    guard orders.isEmpty else { return }
    throw FusionRouteError.badInput(
      "\(cluster): no replica goes to a host with `launcher: \(target.rawValue)`, so there is nothing to render")
  }

  private static func write(_ files: [KubernetesManifests.File], into directory: String) throws {
    for file in files {
      let path = "\(directory)/\(file.name)"
      do {
        try FileManager.default.createDirectory(
          at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
      } catch {
        throw FusionRouteError.unavailable("cannot make a directory for \(path)", cause: error)
      }
      var output = try AtomicFile(path: path)
      try output.write(Array(file.text.utf8))
      try output.commit()
    }
  }
}
