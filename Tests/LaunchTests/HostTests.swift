import Core
import Foundation
import Testing

@testable import Launch

@Suite struct HostTests {
  private static func hosts(_ text: String) -> String {
    ClusterFileTests.least + "listen: { workers: \"tcp://10.0.0.1:5570\" }\nsecurity: { keys: keys }\nhosts:\n" + text
  }

  @Test func launchersAndTheirSettings() throws {
    let cluster = try ClusterFileTests.parse(
      Self.hosts(
        """
          - { name: here, launcher: local, threads: 4 }
          - name: far
            address: far.example
            launcher: ssh
            program: /opt/fusionroute
            cluster: /data/cluster.yaml
            ssh: { user: ai, port: 2222, identity: keys/id, known_hosts: /etc/known }
          - { name: node, launcher: slurm, slurm: { partition: gpu, account: lab, options: [--exclusive, "--time=1:00"] } }
          - { name: pool, launcher: kubernetes, kubernetes: { namespace: ai, image: "r.example:5000/f@sha256:0a", volume: m } }

        """))
    #expect(cluster.hosts.map(\.launcher) == [.local, .ssh, .slurm, .kubernetes])
    #expect(cluster.hosts.map(\.isHere) == [true, false, false, false])
    #expect(cluster.hosts.map(\.isRemote) == [false, true, true, true])
    let far = cluster.hosts[1]
    #expect(far.program == "/opt/fusionroute" && far.clusterPath == "/data/cluster.yaml")
    #expect(far.ssh.user == "ai" && far.ssh.port == 2222 && far.ssh.knownHosts == "/etc/known")
    // A file of this machine: relative to the cluster file.
    #expect(far.ssh.identity == "/srv/cluster/keys/id")
    #expect(cluster.hosts[2].slurm.options == ["--exclusive", "--time=1:00"])
    #expect(cluster.hosts[3].kubernetes.image == "r.example:5000/f@sha256:0a")
    #expect(cluster.hosts[3].kubernetes.maximumReplicas == nil)
    // A loopback address without a launcher is this machine.
    #expect(ClusterFile.Host(name: "a", address: "127.0.0.1").isHere)
    #expect(!ClusterFile.Host(name: "a", address: "127.0.0.1", launcher: .ssh).isHere)
  }

  /// Each: what is wrong, the entry, what the sentence must contain.
  static let mistakes: [(String, String, [String])] = [
    ("no address", "- { name: a, launcher: ssh }", ["lacks the key \"address\"", "\"ssh\""]),
    ("no address", "- { name: a }", ["lacks the key \"address\"", "\"manual\""]),
    ("an option as address", "- { name: a, address: -oProxyCommand=id, launcher: ssh }", ["no name or address"]),
    ("an option as address", "- { name: a, address: -x, launcher: ssh }", ["no name or address"]),
    ("a command as address", "- { name: a, address: \"h;id\" }", ["no name or address"]),
    ("a command behind an IPv6 address", "- { name: a, address: \"::1;id\" }", ["no name or address"]),
    ("a command as zone", "- { name: a, address: \"fe80::1%$(id)\" }", ["no name or address"]),
    ("a relative program", "- { name: a, address: h, program: bin/f }", ["\"program\"", "absolute"]),
    ("a program with a line break", "- { name: a, address: h, program: \"/a\\nb\" }", ["\"program\"", "absolute"]),
    ("an option as user", "- { name: a, address: h, ssh: { user: -lroot } }", ["\"user\"", "letters"]),
    ("a port beyond", "- { name: a, address: h, ssh: { port: 65536 } }", ["\"port\"", "1 to 65535"]),
    (
      "a token in a path", "- { name: a, address: h, ssh: { identity: /a%h } }",
      ["\"identity\"", "ssh cannot be given"]
    ),
    ("a quote in a path", "- { name: a, address: h, ssh: { known_hosts: '/a\"b' } }", ["\"known_hosts\""]),
    (
      "a command as option", "- { name: a, launcher: slurm, slurm: { options: [\"--wrap=$(id)\"] } }",
      ["no option of sbatch"]
    ),
    ("no option", "- { name: a, launcher: slurm, slurm: { options: exclusive } }", ["no option of sbatch"]),
    ("two lines", "- { name: a, launcher: slurm, slurm: { options: \"--a\\n#SBATCH --b\" } }", ["no option of sbatch"]),
    ("a partition with a space", "- { name: a, launcher: slurm, slurm: { partition: \"a b\" } }", ["\"partition\""]),
    (
      "a namespace in capitals", "- { name: a, launcher: kubernetes, kubernetes: { namespace: AI } }", ["\"namespace\""]
    ),
    ("an image with a space", "- { name: a, launcher: kubernetes, kubernetes: { image: \"a b\" } }", ["\"image\""]),
    ("another's key", "- { name: a, address: h, ssh: { partition: p } }", ["\"partition\"", "\"hosts[0].ssh\""]),
    ("an unknown launcher", "- { name: a, address: h, launcher: rsh }", ["`kubernetes`"]),
  ]

  @Test(arguments: mistakes.indices) func mistakesGetOneSentence(_ index: Int) throws {
    let (what, text, parts) = Self.mistakes[index]
    let sentence = try #require(ClusterFileTests.sentence(Self.hosts("  \(text)\n")), "\(what) was accepted")
    for part in parts { #expect(sentence.contains(part), "\(what): \(sentence)") }
    #expect(sentence.hasPrefix("cluster.yaml:10:"), "\(what): \(sentence)")
    #expect(!sentence.contains("\n"), "\(what): \(sentence)")
  }

  /// The reference lists the keys of sections within entries too.
  @Test func theReferenceGoesAllTheWayDown() {
    let article = ClusterReference.article()
    for heading in [
      "### ssh in entries of hosts", "### slurm in entries of hosts", "### kubernetes in entries of hosts",
    ] {
      #expect(article.contains(heading + "\n"))
    }
    for key in ["known_hosts", "partition", "maximum_replicas"] { #expect(article.contains("| `\(key)` |")) }
  }

  /// The examples that are shipped are cluster files.
  @Test(arguments: ["kubernetes", "slurm"]) func examplesAreValid(_ name: String) throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Deploy/\(name)/cluster.yaml").standardizedFileURL.path
    let cluster = try ClusterFile.load(path: path)
    #expect(cluster.hosts.allSatisfy { $0.launcher.rawValue == name })
  }
}
