internal import Coordinator

/// Everything that `/metrics` tells. Names and meanings are also in the article Metrics; a test compares them.
struct MetricsRenderer {
  let status: CoordinatorStatus
  let http: GatewayMetrics.State
  /// Of the gateway at this moment.
  var connections: Int
  var connectionLimit: Int
  var bodyBytes: Int
  var answersRunning: Int
  var lostLogLines: Int
  /// Nil without a journal.
  var batches: Batches?
  var process: ProcessStatistics?

  struct Batches {
    var counts: BatchCounts.State
    /// Bytes; nil while the journal cannot be read.
    var journalBytes: Int?
    var journalLimit: Int
  }

  func render() -> String {
    var text = PrometheusText()
    service(&text)
    requests(&text)
    answers(&text)
    coordinator(&text)
    router(&text)
    experts(&text)
    hosts(&text)
    if let door = status.door { self.door(door, &text) }
    if let batches { self.batches(batches, &text) }
    if let process { self.process(process, &text) }
    return text.text
  }

  private func service(_ text: inout PrometheusText) {
    text.family("fusionroute_info", .gauge, "The version that runs, as a label.")
    text.sample(1, [("version", status.version)])
    text.single("fusionroute_uptime_seconds", .gauge, "Time since the start.", status.uptimeS)
    text.single(
      "fusionroute_ready", .gauge, "1 while every expert of the head has a replica, else 0.", status.ready ? 1 : 0)
  }

  private func requests(_ text: inout PrometheusText) {
    text.family("fusionroute_http_requests_total", .counter, "HTTP responses, by route, method and status.")
    for (labels, count) in http.requests.sorted(by: { Self.order($0.key) < Self.order($1.key) }) {
      text.sample(
        count, [("route", labels.route), ("method", labels.method), ("status", String(labels.status))])
    }
    text.family("fusionroute_http_response_seconds", .histogram, "Time from a request's head to its response's head.")
    for (route, histogram) in http.responses.sorted(by: { $0.key < $1.key }) {
      text.sample(histogram, [("route", route)])
    }
    text.single("fusionroute_http_connections", .gauge, "Connections open.", connections)
    text.single("fusionroute_http_connections_limit", .gauge, "Connections that may be open.", connectionLimit)
    text.single("fusionroute_http_body_bytes", .gauge, "Bytes of request bodies in memory.", bodyBytes)
    text.single(
      "fusionroute_request_log_lost_lines_total", .counter, "Lines of the request log that were not written.",
      lostLogLines)
  }

  private static func order(_ labels: GatewayMetrics.RequestLabels) -> (String, String, Int) {
    (labels.route, labels.method, labels.status)
  }

  private func answers(_ text: inout PrometheusText) {
    text.single("fusionroute_answers_running", .gauge, "Requests whose answers are under way.", answersRunning)
    text.family(
      "fusionroute_answers_total", .counter, "Requests for answers that ended: finished, or the error's code.")
    for (outcome, count) in http.answers.sorted(by: { $0.key < $1.key }) { text.sample(count, [("outcome", outcome)]) }
    let histograms: [(String, String, Histogram)] = [
      ("fusionroute_answer_seconds", "Time from a request's head to the end of its answer.", http.answerTime),
      ("fusionroute_first_token_seconds", "Time from a request's head to its first token.", http.firstToken),
      ("fusionroute_queue_seconds", "Time that an answer waited for a slot.", http.queued),
      ("fusionroute_token_seconds", "Mean time between the tokens of an answer.", http.tokenTime),
    ]
    for (name, help, histogram) in histograms {
      text.family(name, .histogram, help)
      text.sample(histogram)
    }
  }

  private func coordinator(_ text: inout PrometheusText) {
    let requests = status.requests
    text.single("fusionroute_sequences_running", .gauge, "Sequences that hold a slot.", requests.running)
    text.single("fusionroute_sequences_waiting", .gauge, "Sequences that wait for a slot.", requests.waiting)
    text.single("fusionroute_queue_limit", .gauge, "Sequences that may wait.", requests.queueLimit)
    text.family("fusionroute_sequences_total", .counter, "Sequences that ended, by outcome.")
    for (outcome, count) in [
      ("finished", requests.finished), ("failed", requests.failed), ("cancelled", requests.cancelled),
      ("refused", requests.refused),
    ] { text.sample(count, [("outcome", outcome)]) }
    let totals = status.totals
    for (name, help, value) in [
      ("fusionroute_prompt_tokens_total", "Tokens of prompts.", totals.promptTokens),
      ("fusionroute_cached_tokens_total", "Tokens of prompts that were in the cache.", totals.cachedTokens),
      ("fusionroute_generated_tokens_total", "Tokens generated.", totals.generatedTokens),
      ("fusionroute_failovers_total", "Sequences that moved to another replica.", totals.failovers),
      ("fusionroute_row_bytes_total", "Bytes of experts' logits that came from workers.", totals.rowBytes),
    ] { text.single(name, .counter, help, value) }
    if let faults = status.faults {
      text.single(
        "fusionroute_replicas_lost_total", .counter, "Replicas that did not leave in order.", faults.lostReplicas)
      text.single(
        "fusionroute_hedged_steps_total", .counter, "Slow steps that were sent to a second replica as well.",
        faults.hedgedSteps)
      text.single(
        "fusionroute_hedges_won_total", .counter, "Slow steps that the second replica answered first.",
        faults.hedgesWon)
    }
    text.family("fusionroute_time_seconds_total", .counter, "Where the time of tokens went, by part.")
    for (part, microseconds) in [
      ("router_queue", totals.routerQueueUs), ("router_compute", totals.routerComputeUs), ("wire", totals.wireUs),
      ("expert_queue", totals.expertQueueUs), ("expert_compute", totals.expertComputeUs), ("merge", totals.mergeUs),
    ] { text.sample(Double(microseconds) / 1e6, [("part", part)]) }
    text.single(
      "fusionroute_tokens_per_second", .gauge, "Tokens generated per second, over the last ten seconds.",
      status.tokensPerSecond)
  }

  private func router(_ text: inout PrometheusText) {
    let router = status.router
    text.single("fusionroute_router_slots", .gauge, "Sequences that the router decodes at once.", router.slots)
    text.single("fusionroute_router_queued", .gauge, "Requests that wait for the router's model.", router.queued)
    text.single(
      "fusionroute_router_resident_sequences", .gauge, "Sequences in the router's cache.", router.residentSequences)
    text.single("fusionroute_router_kv_tokens", .gauge, "Tokens in the router's cache.", router.kvTokens)
    text.single(
      "fusionroute_router_evaluated_tokens_total", .counter, "Tokens that went through the router.",
      router.evaluatedTokens)
  }

  private func experts(_ text: inout PrometheusText) {
    text.family("fusionroute_expert_tokens_total", .counter, "Tokens that each expert decided.")
    for expert in status.experts { text.sample(expert.tokens, [("expert", expert.name)]) }
    text.family("fusionroute_expert_replicas", .gauge, "Replicas of each expert, by state.")
    for expert in status.experts {
      for state in Self.replicaStates {
        let count = expert.replicas.count { $0.state == state }
        text.sample(count, [("expert", expert.name), ("state", state)])
      }
    }
    // Sums over replicas: a replica's own name is new at every start.
    let gauges: [(String, PrometheusText.Kind, String, (CoordinatorStatus.Replica) -> Int)] = [
      ("fusionroute_expert_slots", .gauge, "Sequences that each expert's replicas decode at once.", \.slots),
      ("fusionroute_expert_sequences", .gauge, "Sequences placed on each expert's replicas.", \.sequences),
      ("fusionroute_expert_queued", .gauge, "Requests that wait for each expert's models.", \.queued),
      ("fusionroute_expert_kv_tokens", .gauge, "Tokens in the caches of each expert.", \.kvTokens),
    ]
    for (name, kind, help, value) in gauges {
      text.family(name, kind, help)
      for expert in status.experts { text.sample(Self.sum(expert.replicas.map(value)), [("expert", expert.name)]) }
    }
  }

  /// Of what workers tell, which must not end the service whatever it is: a sum that is too large stays at the largest.
  private static func sum(_ values: [Int]) -> Int {
    values.reduce(0) { sum, value in
      let (total, overflows) = sum.addingReportingOverflow(value)
      return overflows ? .max : total
    }
  }

  private func process(_ process: ProcessStatistics, _ text: inout PrometheusText) {
    text.single("process_cpu_seconds_total", .counter, "Processor time of this process.", process.cpuSeconds)
    text.single("process_resident_memory_bytes", .gauge, "Memory of this process.", process.residentBytes)
    text.single("process_open_fds", .gauge, "Files and sockets open.", process.openDescriptors)
    text.single("process_max_fds", .gauge, "Files and sockets that may be open.", process.descriptorLimit)
  }
}
