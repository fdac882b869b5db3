internal import ArgumentParser
internal import Core
internal import Foundation
internal import Inference
internal import Launch
internal import Messaging
internal import Wire
internal import Worker

struct WorkerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "worker",
    abstract: "Serve one expert to one or more coordinators.",
    discussion: """
      Loads the model, dials every coordinator and answers until it is told to stop. SIGTERM drains: it finishes what \
      it has, takes nothing new and ends. It ends by itself when no coordinator has been heard from for --orphan-after.
      """)

  @Option(help: ArgumentHelp("The expert's name, as in the routing head.", valueName: "name"))
  var expert: String

  @Option(help: ArgumentHelp("The expert's model (GGUF).", valueName: "file"))
  var model: String

  @Option(
    help: ArgumentHelp("Where a coordinator listens: tcp://HOST:PORT or ipc://PATH. Repeatable.", valueName: "endpoint")
  )
  var coordinator: [String]

  @Option(help: ArgumentHelp("A LoRA adapter (GGUF) on top of the model.", valueName: "file"))
  var lora: String?

  @Option(parsing: .unconditional, help: ArgumentHelp("What the adapter's weights are multiplied by.", valueName: "f"))
  var loraScale: Float = 1

  @Option(help: ArgumentHelp("Computing threads.", valueName: "n"))
  var threads = 1

  @Option(help: ArgumentHelp("Layers computed on a GPU.", valueName: "n"))
  var gpuLayers = 0

  @Option(help: ArgumentHelp("Tokens per sequence.", valueName: "n"))
  var context = 4096

  @Option(help: ArgumentHelp("Sequences held in the KV cache at once.", valueName: "n"))
  var slots = 4

  @Option(help: ArgumentHelp("Number format of the KV cache: auto, f16 or f32.", valueName: "type"))
  var kv: ClusterFile.KVType = .auto

  @Flag(inversion: .prefixedNo, help: "The same tokens give the same bits whatever the batch.")
  var reproducible = true

  @Option(help: ArgumentHelp("This machine's name, as the coordinator shows it.", valueName: "name"))
  var hostName: String = ProcessInfo.processInfo.hostName

  @Option(help: ArgumentHelp("The keys directory, for coordinators beyond this machine.", valueName: "directory"))
  var keys: String?

  @Option(help: ArgumentHelp("Which of the directory's worker keys is this worker's.", valueName: "name"))
  var key: String?

  @Option(help: ArgumentHelp("End after so long without any coordinator.", valueName: "duration"))
  var orphanAfter: DurationArgument = .init(.seconds(60))

  @Option(help: ArgumentHelp("How long a draining worker waits for its sequences to move away.", valueName: "duration"))
  var drainTime: DurationArgument = .init(.seconds(10))

  @Option(
    help: ArgumentHelp(
      "For `bench scale`: no model; what a batch takes.", valueName: "duration+duration", visibility: .hidden))
  var stub: StubArgument?

  @Flag(help: "End at once when stdin does; for processes that start workers.")
  var exitWithStdin = false

  @OptionGroup(title: "Output") var output: OutputOptions

  func validate() throws {
    guard ClusterFile.isValidName(expert) else {
      throw ValidationError(
        "\"\(expert)\" cannot be the name of an expert: use letters, digits, \".\", \"_\" and \"-\", at most "
          + "\(ClusterFile.maximumNameLength).")
    }
    guard !coordinator.isEmpty else { throw ValidationError("At least one --coordinator is needed.") }
    for text in coordinator where Launch.Endpoint(text) == nil {
      throw ValidationError("\"\(text)\" is no endpoint: use tcp://HOST:PORT or ipc://PATH.")
    }
    guard lora != nil || loraScale == 1 else { throw ValidationError("--lora-scale needs --lora.") }
    guard loraScale.isFinite else { throw ValidationError("--lora-scale must be a finite number.") }
    guard (1...1024).contains(threads) else { throw ValidationError("--threads must be 1 to 1024.") }
    guard (1...256).contains(slots) else { throw ValidationError("--slots must be 1 to 256.") }
    let longest = WireLimits().context
    guard (1...longest).contains(context) else { throw ValidationError("--context must be 1 to \(longest).") }
    guard gpuLayers >= 0 else { throw ValidationError("--gpu-layers must be 0 or more.") }
  }

  func run() async throws {
    // First of all, so that nothing that takes long outlives the parent.
    if exitWithStdin { ParentWatch.exitWhenStdinEnds() }
    let logger = output.bootstrap(default: .info, isSupervised: exitWithStdin).logger
    var configuration = WorkerConfiguration(expert: expert, model: model, coordinators: coordinator)
    configuration.adapters = lora.map { [AdapterFile(path: $0, scale: loraScale)] } ?? []
    configuration.gpuLayers = gpuLayers
    configuration.threads = threads
    configuration.context = context
    configuration.slots = slots
    configuration.kvType = KVType(rawValue: kv.rawValue)
    configuration.reproducible = reproducible
    configuration.host = hostName
    configuration.orphanTimeout = orphanAfter.duration
    configuration.drainTimeout = drainTime.duration
    configuration.security = try WorkerKeys.load(directory: keys, name: key, endpoints: coordinator)
    let final = configuration
    let runtime = try await onThread { [stub] in
      if let stub { return try WorkerRuntime.start(final, stub: stub.model, logger: logger) }
      try ModelProbe.check(path: final.model, adapters: final.adapters, executable: try Executable.path())
      return try WorkerRuntime.start(final, logger: logger)
    }
    let trap = try SignalTrap { _, count in
      if count > 1 { _exit(FusionRouteError.Code.interrupted.exitCode) }
      runtime.drain()
    }
    defer { trap.cancel() }
    try await runtime.run()
  }
}
