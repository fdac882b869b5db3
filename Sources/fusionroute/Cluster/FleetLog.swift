internal import Core
internal import Foundation
internal import Launch
internal import Logging

/// What becomes of the hosts that launchers start, as log lines.
struct FleetLog: Sendable {
  let logger: Logger

  func record(_ event: Fleet.Event) {
    switch event {
    case .starting(let hosts, let launcher):
      logger.info("starting host", metadata: metadata(hosts, ["launcher": "\(launcher.rawValue)"]))
    case .started(let hosts, .started(let detail)):
      logger.notice("host started", metadata: metadata(hosts, ["as": "\(detail)"]))
    case .started(let hosts, .running(let detail)):
      logger.notice("host runs already", metadata: metadata(hosts, ["as": "\(detail)"]))
    case .stopping(let hosts, let launcher):
      logger.info("stopping host", metadata: metadata(hosts, ["launcher": "\(launcher.rawValue)"]))
    case .stopped(let hosts): logger.notice("host stopped", metadata: metadata(hosts, [:]))
    case .scaled(let host, _, let expert, let from, let to):
      logger.notice(
        "host scaled", metadata: metadata([host], ["expert": "\(expert)", "from": "\(from)", "to": "\(to)"]))
    case .failed(let hosts, let error):
      logger.error("host failed", metadata: metadata(hosts, ["error": "\(error)"]))
    }
  }

  private func metadata(_ hosts: [String], _ more: Logger.Metadata) -> Logger.Metadata {
    more.merging(["host": "\(hosts.joined(separator: ","))"]) { $1 }
  }
}
