internal import ArgumentParser
internal import Core
internal import Foundation
internal import Launch
internal import Messaging

struct KeysCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keys",
    abstract: "Make and manage the keys of connections beyond one machine, and of the HTTP service (`keys api`).",
    discussion: """
      A keys directory holds coordinator.pub and coordinator.key, a pair for each worker in workers/, and allowed/, the \
      public keys that may connect. A file allowed/NAME.pub holds the key on its first line; "role: worker" or "role: \
      coordinator" and "experts: NAME, NAME" on lines after it narrow what its owner may do. A running coordinator \
      notices changes: removing a key from allowed/ shuts its workers out at once.

      A worker's host needs coordinator.pub and its own workers/NAME.pub and workers/NAME.key, and nothing else.
      """,
    subcommands: [Generate.self, Add.self, Allow.self, Revoke.self, List.self, APIKeysCommand.self],
    defaultSubcommand: Generate.self)

  struct Directory: ParsableArguments {
    @Argument(help: ArgumentHelp("The keys directory.", valueName: "directory"))
    var directory: String
  }

  struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a keys directory: the coordinator's key and one for each worker.")

    @OptionGroup var keys: Directory

    @Option(
      name: [.customLong("worker"), .customShort("w")],
      help: ArgumentHelp(
        "A worker or host that gets a key of its own. Repeatable; default: workers.", valueName: "name"))
    var workers: [String] = []

    @Option(
      name: [.short, .long], help: ArgumentHelp("Also a key for each host of this cluster file.", valueName: "file"))
    var cluster: String?

    @OptionGroup var scope: Experts

    @Flag(help: "Replace keys that exist, which locks out whoever uses the old ones.")
    var force = false

    func run() throws {
      var names = workers
      if let cluster { names += try ClusterFile.load(path: cluster).hosts.map(\.name) }
      if names.isEmpty { names = ["workers"] }
      var seen: Set<String> = []
      names = names.filter { seen.insert($0).inserted }
      try Messaging.Keys.generate(directory: keys.directory, workers: names, experts: scope.set, force: force)
      print("\(keys.directory): keys of the coordinator and of \(names.joined(separator: ", "))")
      print("Give each worker's host coordinator.pub and its own pair in workers/; keep the rest here.")
    }
  }

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make and allow one more worker's key.")

    @OptionGroup var keys: Directory

    @Argument(help: ArgumentHelp("The worker's or host's name.", valueName: "name"))
    var name: String

    @OptionGroup var scope: Experts

    @Flag(help: "Replace the key if it exists.")
    var force = false

    func run() throws {
      try Messaging.Keys.addWorker(name, directory: keys.directory, experts: scope.set, force: force)
    }
  }

  struct Experts: ParsableArguments {
    @Option(
      name: .customLong("expert"),
      help: ArgumentHelp("An expert that the key may serve. Repeatable; default: any.", valueName: "name"))
    var names: [String] = []

    var set: Set<String>? { names.isEmpty ? nil : Set(names) }
  }

  struct Allow: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Allow a public key that was made elsewhere, or change what an allowed one may do (--force).")

    @OptionGroup var keys: Directory

    @Argument(help: ArgumentHelp("The name it is known by from now on.", valueName: "name"))
    var name: String

    @Argument(help: ArgumentHelp("The public key, 40 characters of Z85, or a file that holds it.", valueName: "key"))
    var key: String

    @Option(help: ArgumentHelp("What it is: worker or coordinator. A coordinator's key never passes for a worker's."))
    var role = "worker"

    @OptionGroup var scope: Experts

    @Flag(help: "Replace the key if the name exists.")
    var force = false

    func run() throws {
      let text = (try? String(contentsOfFile: key, encoding: .utf8)) ?? key
      try Messaging.Keys.allow(
        name, publicKey: text.trimmingCharacters(in: .whitespacesAndNewlines), role: AllowedKey.Role(rawValue: role),
        experts: scope.set, directory: keys.directory, force: force)
    }
  }

  struct Revoke: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shut a worker's key out, at once.")

    @OptionGroup var keys: Directory

    @Argument(help: ArgumentHelp("The worker's or host's name.", valueName: "name"))
    var name: String

    func run() throws { try Messaging.Keys.revoke(name, directory: keys.directory) }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print who may connect: name, role, experts and key, separated by tabs.")

    @OptionGroup var keys: Directory

    func run() throws {
      for entry in Messaging.Keys.entries(directory: keys.directory) {
        let experts = entry.experts.map { $0.sorted().joined(separator: ",") } ?? "any"
        print(
          [entry.name, entry.role.rawValue, entry.role == .worker ? experts : "-", entry.key].joined(separator: "\t"))
      }
    }
  }
}
