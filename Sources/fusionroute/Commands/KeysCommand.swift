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
      public keys that may connect. Removing a key from allowed/ shuts its workers out at once.

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

    @Flag(help: "Replace keys that exist, which locks out whoever uses the old ones.")
    var force = false

    func run() throws {
      var names = workers
      if let cluster { names += try ClusterFile.load(path: cluster).hosts.map(\.name) }
      if names.isEmpty { names = ["workers"] }
      var seen: Set<String> = []
      names = names.filter { seen.insert($0).inserted }
      try Messaging.Keys.generate(directory: keys.directory, workers: names, force: force)
      print("\(keys.directory): keys of the coordinator and of \(names.joined(separator: ", "))")
      print("Give each worker's host coordinator.pub and its own pair in workers/; keep the rest here.")
    }
  }

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make and allow one more worker's key.")

    @OptionGroup var keys: Directory

    @Argument(help: ArgumentHelp("The worker's or host's name.", valueName: "name"))
    var name: String

    @Flag(help: "Replace the key if it exists.")
    var force = false

    func run() throws { try Messaging.Keys.addWorker(name, directory: keys.directory, force: force) }
  }

  struct Allow: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Allow a public key that was made elsewhere.")

    @OptionGroup var keys: Directory

    @Argument(help: ArgumentHelp("The name it is known by from now on.", valueName: "name"))
    var name: String

    @Argument(help: ArgumentHelp("The public key, 40 characters of Z85, or a file that holds it.", valueName: "key"))
    var key: String

    @Flag(help: "Replace the key if the name exists.")
    var force = false

    func run() throws {
      let text = (try? String(contentsOfFile: key, encoding: .utf8)) ?? key
      try Messaging.Keys.allow(
        name, publicKey: text.trimmingCharacters(in: .whitespacesAndNewlines), directory: keys.directory, force: force)
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
    static let configuration = CommandConfiguration(abstract: "Print the names that may connect.")

    @OptionGroup var keys: Directory

    func run() throws { for name in Messaging.Keys.allowed(directory: keys.directory) { print(name) } }
  }
}
