internal import Journal

/// Files and batches as OpenAI's JSON.
enum BatchObjects {
  static func write(_ file: StoredFile, to json: inout JSONWriter) {
    json.object { json in
      json.field("id", file.id)
      json.field("object", "file")
      json.field("bytes", file.bytes)
      json.field("created_at", file.created)
      if let expires = file.expires { json.field("expires_at", expires) }
      json.field("filename", file.name)
      json.field("purpose", file.purpose)
      json.field("status", "processed")
    }
  }

  static func write(_ batch: StoredBatch, to json: inout JSONWriter) {
    let life = batch.life
    json.object { json in
      json.field("id", batch.id)
      json.field("object", "batch")
      json.field("endpoint", batch.endpoint)
      json.key("errors")
      if batch.problems.isEmpty {
        json.null()
      } else {
        json.object { json in
          json.field("object", "list")
          json.array("data", batch.problems) { json, problem in write(problem, to: &json) }
        }
      }
      json.field("input_file_id", batch.inputFile)
      json.field("completion_window", "24h")
      json.field("status", life.status.rawValue)
      json.field("output_file_id", batch.outputFile)
      json.field("error_file_id", batch.errorFile)
      json.field("created_at", life.created)
      json.field("expires_at", life.expires)
      for status in BatchLife.Status.allCases where status != .validating {
        time("\(status.rawValue)_at", life.times[status], to: &json)
      }
      json.object("request_counts") { json in
        json.field("total", life.total)
        json.field("completed", life.completed)
        json.field("failed", life.failed)
      }
      json.key("metadata")
      if let metadata = batch.metadata { json.raw(metadata.utf8) } else { json.null() }
    }
  }

  private static func time(_ name: String, _ seconds: Int?, to json: inout JSONWriter) {
    if let seconds { json.field(name, seconds) } else { json.field(null: name) }
  }

  private static func write(_ problem: StoredBatch.Problem, to json: inout JSONWriter) {
    json.object { json in
      json.field("code", problem.code)
      json.field("message", problem.message)
      json.field("param", problem.param)
      time("line", problem.line, to: &json)
    }
  }

  /// A page of a list.
  static func list<Element>(
    _ elements: [Element], hasMore: Bool, id: (Element) -> String, _ write: (Element, inout JSONWriter) -> Void
  ) -> [UInt8] {
    JSONWriter.object { json in
      json.field("object", "list")
      json.array("data", elements) { json, element in write(element, &json) }
      json.field("first_id", elements.first.map(id))
      json.field("last_id", elements.last.map(id))
      json.field("has_more", hasMore)
    }
  }

  // MARK: Lines of output and error files

  /// The line of an item that was answered.
  static func line(_ item: BatchItem, requestID: String, status: Int, body: [UInt8]) -> [UInt8] {
    JSONWriter.object { json in
      json.field("id", "batch_req_\(requestID)")
      json.field("custom_id", item.customID)
      json.object("response") { json in
        json.field("status_code", status)
        json.field("request_id", requestID)
        json.key("body")
        json.raw(body)
      }
      json.field(null: "error")
    }
  }

  /// The line of an item that never ran.
  static func line(unrun customID: String, batch: String, isCancelled: Bool) -> [UInt8] {
    JSONWriter.object { json in
      json.field("id", "batch_req_\(batch)")
      json.field("custom_id", customID)
      json.field(null: "response")
      json.object("error") { json in
        json.field("code", isCancelled ? "batch_cancelled" : "batch_expired")
        json.field(
          "message",
          isCancelled
            ? "this request was not answered before its batch was cancelled"
            : "this request could not be answered before the completion window ended")
      }
    }
  }
}
