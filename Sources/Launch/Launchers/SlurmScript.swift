/// The batch script of an array job: one task for each host entry.
public enum SlurmScript {
  /// What is passed on from the submitting environment; an API key in it is nobody's business there.
  private static let environment = "HOME,PATH,USER,LOGNAME,LANG,LD_LIBRARY_PATH,FUSIONROUTE_CACHE"

  /// Orders that one array can hold: its tasks are alike in cores, memory and options.
  public static func groups(_ orders: [HostOrder]) -> [[HostOrder]] {
    var groups: [[HostOrder]] = []
    for order in orders {
      let index = groups.firstIndex { group in
        group.first.map {
          $0.host.slurm == order.host.slurm && cores($0) == cores(order) && mebibytes($0) == mebibytes(order)
            && $0.cluster == order.cluster
        } == true
      }
      if let index { groups[index].append(order) } else { groups.append([order]) }
    }
    return groups
  }

  /// The host's cores where the file names them, so that a task has what the plan counted on, else what the replicas
  /// need.
  static func cores(_ order: HostOrder) -> Int { order.host.threads ?? max(1, order.threads) }

  /// Nil where neither the file nor the models say.
  static func mebibytes(_ order: HostOrder) -> UInt64? {
    let bytes = order.host.memory.map(UInt64.init(clamping:)) ?? order.bytes
    return bytes > 0 ? bytes.addingSaturated((1 << 20) - 1) >> 20 : nil
  }

  /// Where the cluster file is there.
  static func folder(_ orders: [HostOrder]) -> String {
    let path = orders.first.map { $0.host.clusterPath ?? $0.cluster } ?? "/"
    return path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "/"
  }

  /// - Parameter orders: one of ``groups(_:)``.
  public static func text(_ orders: [HostOrder], name: String) -> String {
    guard let first = orders.first else { return "" }
    var lines = [
      "#!/bin/sh", "# One task for each host entry of the cluster file; written by fusionroute.",
      "#SBATCH --job-name=\(name)", "#SBATCH --array=0-\(orders.count - 1)", "#SBATCH --nodes=1", "#SBATCH --ntasks=1",
      "#SBATCH --cpus-per-task=\(cores(first))",
      "#SBATCH --export=\(environment)", "#SBATCH --output=\(name)-%a.log", "#SBATCH --open-mode=append",
    ]
    if let mebibytes = mebibytes(first) { lines.append("#SBATCH --mem=\(mebibytes)M") }
    if let partition = first.host.slurm.partition { lines.append("#SBATCH --partition=\(partition)") }
    if let account = first.host.slurm.account { lines.append("#SBATCH --account=\(account)") }
    lines += first.host.slurm.options.map { "#SBATCH \($0)" }
    lines += [
      "", "umask 077", "cd -- \(Quoting.shell(folder(orders))) || exit 69",
      "case \"$SLURM_ARRAY_TASK_ID\" in",
    ]
    for (index, order) in orders.enumerated() {
      // exec: Slurm's signals then reach the supervisor itself.
      lines.append("\(index)) exec \(Quoting.shell(order.workers)) ;;")
    }
    lines += ["*) echo \"error: no such task: $SLURM_ARRAY_TASK_ID\" >&2; exit 70 ;;", "esac", ""]
    return lines.joined(separator: "\n")
  }
}
