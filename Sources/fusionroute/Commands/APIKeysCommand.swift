internal import ArgumentParser
internal import Core

/// `fusionroute keys api`: keys of the HTTP service's clients.
struct APIKeysCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "api",
    abstract: "Make and manage the API keys of the HTTP service.",
    discussion: """
      The file holds names and hashes, one key a line; the cluster file's "gateway.api_keys" names it. A running \
      service notices changes: revoking a key shuts its users out at once.
      """,
    subcommands: [Add.self, List.self, Revoke.self])

  struct KeyFile: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The file of API keys.", valueName: "file"))
    var file: String
  }

  struct Add: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a key and print it, this once; the file keeps only its hash.")

    @Argument(help: ArgumentHelp("Whose key it is; logs and lists show it.", valueName: "name"))
    var name: String

    @OptionGroup var keys: KeyFile

    func run() throws { print(try APIKeyFile.update(keys.file, create: true) { try $0.add(name) }) }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print the names of the keys.")

    @OptionGroup var keys: KeyFile

    func run() throws { for name in try APIKeyFile.load(keys.file).names { print(name) } }
  }

  struct Revoke: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Take a key off the file.")

    @Argument(help: ArgumentHelp("The key's name.", valueName: "name"))
    var name: String

    @OptionGroup var keys: KeyFile

    func run() throws { try APIKeyFile.update(keys.file, create: false) { try $0.revoke(name) } }
  }
}
