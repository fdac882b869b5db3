internal import Foundation

/// How many processors this process may use.
public enum ProcessorCount {
  /// Of those of the machine, or of its control group, what the affinity mask leaves: `taskset` and batch systems like Slurm
  /// set one. At least 1.
  public static var usable: Int {
    let all = max(1, ProcessInfo.processInfo.activeProcessorCount)
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let allowed = allowed(inStatus: status)
    else { return all }
    return max(1, min(all, allowed))
  }

  /// Processors in the mask of a Linux process, by its `/proc/PID/status`; nil if there is none.
  static func allowed(inStatus status: String) -> Int? {
    for line in status.split(separator: "\n") {
      guard let mask = line.wholeMatch(of: /Cpus_allowed:\s*([0-9a-f,]+)/)?.1 else { continue }
      // Words of 32 bits in hexadecimal, with commas between them.
      return mask.reduce(0) { $0 + ($1.hexDigitValue?.nonzeroBitCount ?? 0) }
    }
    return nil
  }
}
