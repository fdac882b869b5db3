internal import Core

/// The section `hosts`. What reaches a command line, a job script or a manifest is held to the words it may be.
extension ClusterBuilder {
  mutating func hosts() throws -> [ClusterFile.Host] {
    var hosts: [ClusterFile.Host] = []
    for section in try root.listedSections("hosts") {
      let name = try section.text("name") ?? ""
      guard ClusterFile.isValidName(name) else {
        throw section.error(at: section.line(of: "name"), "\"\(name)\" cannot be the name of a host")
      }
      if hosts.contains(where: { $0.name == name }) {
        throw section.error(at: section.line(of: "name"), "two hosts have the name \"\(name)\"")
      }
      lines["hosts.\(name)"] = section.line(of: "name")
      var host = ClusterFile.Host(
        name: name, address: try section.text("address") ?? "",
        launcher: try section.choice("launcher", as: ClusterFile.Launcher.self), memory: try section.bytes("memory"),
        threads: section.has("threads") ? try section.integer("threads") : nil)
      try check(host.address, of: host, in: section)
      host.program = try absoluteText("program", in: section)
      host.clusterPath = try absoluteText("cluster", in: section)
      host.ssh = try ssh(try section.section("ssh"))
      host.slurm = try slurm(try section.section("slurm"))
      host.kubernetes = try kubernetes(try section.section("kubernetes"))
      hosts.append(host)
    }
    return hosts
  }

  private func check(_ address: String, of host: ClusterFile.Host, in section: SectionReader) throws {
    guard !address.isEmpty else {
      guard [.manual, .ssh].contains(host.launcher) else { return }
      throw section.error(
        at: section.line,
        "\"\(section.path)\" lacks the key \"address\", which the launcher \"\(host.launcher.rawValue)\" needs")
    }
    // ssh would take a leading hyphen for an option.
    guard Endpoint.isHostName(address) || Endpoint.isNumericIPv6(address), address != "*", !address.hasPrefix("-")
    else {
      throw section.error(
        at: section.line(of: "address"), "\"\(Quoting.shown(address))\" is no name or address of a machine")
    }
  }

  /// A path on another machine, where there is nothing that a relative one could be relative to.
  private func absoluteText(_ key: String, in section: SectionReader) throws -> String? {
    guard let path = try section.text(key) else { return nil }
    guard path.hasPrefix("/"), Quoting.isPrintable(path) else {
      throw section.error(
        at: section.line(of: key),
        "\"\(key)\" is \"\(Quoting.shown(path))\" but must be an absolute path without control characters")
    }
    return path
  }

  private func ssh(_ section: SectionReader) throws -> ClusterFile.SSH {
    var ssh = ClusterFile.SSH()
    ssh.user = try word("user", in: section)
    ssh.port = section.has("port") ? try section.integer("port") : nil
    ssh.identity = try section.text("identity").map(absolute)
    ssh.knownHosts = try section.text("known_hosts").map(absolute)
    for (key, path) in [("identity", ssh.identity), ("known_hosts", ssh.knownHosts)] {
      guard let path, !Quoting.isSSHPath(path) else { continue }
      throw section.error(
        at: section.line(of: key),
        "\"\(key)\" is \"\(Quoting.shown(path))\", which ssh cannot be given: quotes, %, $ and control characters mean other things to it"
      )
    }
    return ssh
  }

  private func slurm(_ section: SectionReader) throws -> ClusterFile.Slurm {
    var slurm = ClusterFile.Slurm()
    slurm.partition = try word("partition", in: section)
    slurm.account = try word("account", in: section)
    slurm.options = try section.names("options")
    if let bad = slurm.options.first(where: { !Quoting.isBatchOption($0) }) {
      throw section.error(
        at: section.line(of: "options"),
        "\"\(Quoting.shown(bad))\" is no option of sbatch that can stand here: write --NAME or --NAME=VALUE, the value of letters, "
          + "digits and \(Quoting.batchPunctuation)")
    }
    return slurm
  }

  private func kubernetes(_ section: SectionReader) throws -> ClusterFile.Kubernetes {
    var kubernetes = ClusterFile.Kubernetes()
    kubernetes.namespace = try label("namespace", in: section)
    kubernetes.volume = try label("volume", in: section)
    kubernetes.image = try section.text("image") ?? kubernetes.image
    guard Quoting.isImage(kubernetes.image) else {
      throw section.error(
        at: section.line(of: "image"),
        "\"image\" is \"\(Quoting.shown(kubernetes.image))\", which is no name of a container image")
    }
    kubernetes.maximumReplicas = section.has("maximum_replicas") ? try section.integer("maximum_replicas") : nil
    return kubernetes
  }

  /// A name without anything that a shell or an option parser would look at twice.
  private func word(_ key: String, in section: SectionReader) throws -> String? {
    guard let text = try section.text(key) else { return nil }
    guard ClusterFile.isValidName(text) else {
      throw section.error(
        at: section.line(of: key),
        "\"\(key)\" is \"\(Quoting.shown(text))\" but must be letters, digits, \".\", \"_\" and \"-\", first a letter or digit"
      )
    }
    return text
  }

  private func label(_ key: String, in section: SectionReader) throws -> String {
    let text = try section.text(key) ?? ""
    guard KubernetesName.isLabel(text) else {
      throw section.error(
        at: section.line(of: key),
        "\"\(key)\" is \"\(Quoting.shown(text))\" but must be lower-case letters, digits and \"-\", at most 63, as Kubernetes names are"
      )
    }
    return text
  }
}
