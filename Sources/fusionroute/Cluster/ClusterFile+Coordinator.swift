internal import Coordinator
internal import Core
internal import Foundation
internal import Launch
internal import Messaging

extension ClusterFile {
  /// What the coordinator of this cluster is started with.
  func coordinatorConfiguration(binding endpoint: Launch.Endpoint, placement: Placement) throws
    -> CoordinatorConfiguration
  {
    let engine = router.engine
    var configuration = CoordinatorConfiguration(
      routerModel: engine.model, routerHead: router.head, endpoints: [endpoint.description])
    configuration.routerAdapters = engine.adapters
    configuration.experts = experts.map(\.name)
    configuration.gpuLayers = engine.gpuLayers
    configuration.threads = engine.threads
    configuration.context = engine.context
    configuration.slots = engine.slots
    configuration.kvType = engine.kvType
    configuration.security = try keys.map { try ServerSecurity.load(keysDirectory: $0) }
    configuration.topK = decoding.topK
    configuration.reproducible = decoding.reproducible
    configuration.auditRate = decoding.auditRate
    configuration.expertWait = expertWait
    configuration.heartbeat = faults.heartbeat
    configuration.silence = faults.silence
    configuration.hang = faults.hang
    configuration.stepTimeout = faults.stepTimeout
    configuration.hedging.share = faults.hedgeShare
    configuration.hedging.percentile = faults.hedgePercentile
    configuration.hedging.factor = faults.hedgeFactor
    configuration.hedging.minimum = faults.hedgeAfter
    configuration.warmsAtArrival = expertsHaveOwnCores(
      cores: ProcessorCount.usable, placement: placement)
    configuration.queueLimit = gateway.queueLimit
    configuration.clientQueueLimit = gateway.clientQueueLimit
    return configuration
  }
}
