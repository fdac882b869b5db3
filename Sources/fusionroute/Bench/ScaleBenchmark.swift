internal import Coordinator
internal import Core
internal import Foundation
internal import Launch
internal import Worker

/// Stub workers as processes of their own, and the load of one coordinator on them.
struct ScaleBenchmark {
  struct Row: Codable, Equatable {
    var workers: Int
    var streams: Int
    /// What the workers could do in full batches without pause, in steps per second. They fall short of it: whoever asks
    /// first after a batch begins the next alone.
    var limit: Double
    var figures: StepLoad.Figures
    /// Steps per second.
    var speed: Double
  }

  let stub: StubModel
  let streamsPerWorker: Int
  let warmUp: Duration
  let duration: Duration
  let log: LogSettings

  /// Measures with the first `counts[i]` of the workers, one count after another.
  func run(_ counts: [Int]) async throws -> [Row] {
    let directory = try RuntimeDirectory()
    defer { directory.remove() }
    let load = try StepLoad(
      endpoint: directory.endpoint("scale").description,
      vocabulary: (stub.vocabularySize, stub.vocabularyFingerprint), logger: log.logger
    ) { [stub] in stub.next(after: $0) }
    let supervisor = ProcessSupervisor(executable: try Executable.path()) { _ in }
    var rows: [Row] = []
    do {
      var running = 0
      for count in counts.sorted() {
        for index in running..<max(running, count) {
          try supervisor.start(.init(name: "stub.\(index)", arguments: arguments(load.boundEndpoint)))
        }
        running = max(running, count)
        try await load.wait(replicas: running, timeout: .seconds(120))
        let streams = running * streamsPerWorker
        let figures = try await load.run(streams: streams, warmUp: warmUp, duration: duration)
        let batch = (stub.base + stub.perSequence * streamsPerWorker) / Duration.seconds(1)
        rows.append(
          Row(
            workers: running, streams: streams, limit: Double(streams) / batch, figures: figures,
            speed: figures.stepsPerSecond))
      }
    } catch {
      await supervisor.stop()
      load.shutdown()
      throw error
    }
    load.shutdown()
    await supervisor.stop()
    return rows
  }

  private func arguments(_ endpoint: String) -> [String] {
    [
      "worker", "--expert", StepLoad.expertName, "--model", "stub", "--coordinator", endpoint, "--slots",
      "\(streamsPerWorker)", "--context", "512", "--stub",
      "\(Quantity.text(stub.base))+\(Quantity.text(stub.perSequence))",
      "--exit-with-stdin", "--log-level", "error",
    ]
  }
}

/// What `bench scale` found.
struct ScaleReport: CustomStringConvertible {
  let stub: StubModel
  let streamsPerWorker: Int
  var rows: [ScaleBenchmark.Row] = []

  private struct JSON: Encodable {
    var stub_base_ms: Double
    var stub_per_sequence_ms: Double
    var streams_per_worker: Int
    var cores: Int
    var rows: [Line]

    struct Line: Encodable {
      var workers: Int
      var streams: Int
      var steps_per_second: Double
      var limit_steps_per_second: Double
      var speed_up: Double
      var share_of_linear: Double
      var coordinator_cores: Double
      var steps_per_coordinator_core: Double
      var added_median_ms: Double
      var added_p99_ms: Double
      var failovers: Int
    }
  }

  private func speedUp(_ row: ScaleBenchmark.Row) -> Double { rows.first.map { row.speed / $0.speed } ?? 1 }

  /// Speed for each worker over that of the first row.
  private func ofLinear(_ row: ScaleBenchmark.Row) -> Double {
    rows.first.map { speedUp(row) * Double($0.workers) / Double(row.workers) } ?? 1
  }

  /// The fewest workers with which less than nine tenths of linear growth was reached.
  var saturation: ScaleBenchmark.Row? { rows.first { ofLinear($0) < 0.9 } }

  var description: String {
    func text(_ value: Double, _ places: Int) -> String { String(format: "%.\(places)f", value) }
    var table = TextTable()
    table.add(
      [
        "workers", "streams", "steps/s", "speed-up", "of linear", "cores", "per core", "added ms", "p99 ms",
      ].map { .number($0) })
    for row in rows {
      table.add(
        [
          "\(row.workers)", "\(row.streams)", text(row.speed, 0), text(speedUp(row), 2), text(ofLinear(row), 3),
          text(row.figures.processorSeconds / row.figures.seconds, 2), text(row.figures.stepsPerCore, 0),
          text(row.figures.addedMedianMs, 2), text(row.figures.addedP99Ms, 2),
        ].map { .number($0) })
    }
    var lines = table.lines(Style(.standardOutput))
    if let saturation {
      lines.append(
        "less than 0.9 of linear growth from \(saturation.workers) workers on, with \(text(saturation.speed, 0)) "
          + "steps/s (coordinator and workers share \(ProcessorCount.usable) cores)")
    }
    return lines.joined(separator: "\n")
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    let lines = rows.map { row in
      JSON.Line(
        workers: row.workers, streams: row.streams, steps_per_second: row.speed, limit_steps_per_second: row.limit,
        speed_up: speedUp(row), share_of_linear: ofLinear(row),
        coordinator_cores: row.figures.processorSeconds / row.figures.seconds,
        steps_per_coordinator_core: row.figures.stepsPerCore, added_median_ms: row.figures.addedMedianMs,
        added_p99_ms: row.figures.addedP99Ms, failovers: row.figures.failovers)
    }
    let value = JSON(
      stub_base_ms: stub.base / Duration.milliseconds(1),
      stub_per_sequence_ms: stub.perSequence / Duration.milliseconds(1),
      streams_per_worker: streamsPerWorker, cores: ProcessorCount.usable, rows: lines)
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
