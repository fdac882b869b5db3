internal import Core
internal import HTTPTypes
internal import Hummingbird
internal import Journal
internal import NIOCore

/// `/v1/files` and `/v1/batches`. Files and batches belong to the API key that made them; other keys do not see them.
struct BatchRoutes: Sendable {
  private static let window = 86_400
  private static let pageSize = 1...100
  private static let filesPageSize = 1...10_000
  /// Seconds that `expires_after` may name.
  private static let lifetimes: ClosedRange<Int64> = 3_600...2_592_000
  private static let metadataPairs = 16

  let environment: GatewayEnvironment

  private func accepted() throws -> AcceptedRequests {
    guard let accepted = environment.accepted else {
      throw GatewayError(
        .notFound, "this service keeps no files or batches: set gateway.journal in the cluster file",
        code: "journal_disabled")
    }
    return accepted
  }

  private var now: Int { UnixTime.now.seconds }

  // MARK: Files

  func upload(_ request: Request, context: GatewayContext) async throws -> Response {
    let accepted = try accepted()
    let type = request.headers[.contentType] ?? ""
    guard Multipart.boundary(type) != nil else {
      throw GatewayError.closing(
        .unsupportedMediaType, "a file is sent as multipart/form-data (curl: -F purpose=batch -F file=@input.jsonl)",
        code: "unsupported_content_type")
    }
    let (body, share) = try await RequestBodyText.bytes(request, environment: environment)
    defer { withExtendedLifetime(share) {} }
    let form = try await environment.offloading { try Multipart(body, contentType: type) }
    func text(_ name: String) -> String? {
      form.part(name).map { String(decoding: body[$0.content].prefix(1_024), as: UTF8.self) }
    }
    guard let file = form.part("file") else { throw GatewayError.invalid("file", "file is missing: send the file") }
    guard let purpose = text("purpose") else {
      throw GatewayError.invalid("purpose", "purpose is missing: it must be \"batch\"")
    }
    guard purpose == "batch" else {
      throw GatewayError.invalid("purpose", "purpose is \"\(purpose.clipped)\": it must be \"batch\"")
    }
    let lifetime = try Self.lifetime(
      anchor: text("expires_after[anchor]").map { .string($0) },
      seconds: text("expires_after[seconds]").map { Int64($0).map { .integer($0) } ?? .string($0) })
    let stored = try await told {
      try await accepted.journal.addFile(
        owner: context.owner, name: String((file.filename ?? "file").suffix(255)), purpose: purpose,
        contents: Array(body[file.content]), lifetime: lifetime, now: now)
    }
    return Self.json { BatchObjects.write(stored, to: &$0) }
  }

  private static func lifetime(anchor: JSONValue?, seconds: JSONValue?) throws -> Int? {
    guard anchor != nil || seconds != nil else { return nil }
    guard anchor == .string("created_at"), let seconds else {
      throw GatewayError.invalid("expires_after", "expires_after needs anchor \"created_at\" and seconds")
    }
    return Int(try FieldReader.integer(seconds, path: "expires_after.seconds", in: lifetimes))
  }

  func files(_ request: Request, context: GatewayContext) async throws -> Response {
    let accepted = try accepted()
    let query = request.uri.queryParameters
    let limit = try Self.limit(request, in: Self.filesPageSize, usual: 10_000)
    let ascending = try Self.isAscending(query["order"].map(String.init))
    let (files, hasMore) = try await told("after") {
      try await accepted.journal.files(
        owner: context.owner, purpose: query["purpose"].map(String.init), after: query["after"].map(String.init),
        limit: limit, ascending: ascending)
    }
    return ServiceRoutes.json(
      BatchObjects.list(files, hasMore: hasMore, id: \.id) { BatchObjects.write($0, to: &$1) })
  }

  func file(_ request: Request, context: GatewayContext) async throws -> Response {
    let file = try await find(context)
    return Self.json { BatchObjects.write(file, to: &$0) }
  }

  func content(_ request: Request, context: GatewayContext) async throws -> Response {
    let file = try await find(context)
    let journal = try accepted().journal
    return Response(
      status: .ok, headers: [.contentType: "application/octet-stream"],
      body: ResponseBody(contentLength: file.bytes) { writer in
        var (number, bytes) = (0, 0)
        while let part = try await journal.part(number, of: file.id) {
          try await writer.write(ByteBuffer(bytes: part))
          number += 1
          bytes += part.count
        }
        // Deleted meanwhile. The client was promised more, and would wait for it: an error closes the connection.
        guard bytes == file.bytes else {
          throw FusionRouteError.unavailable("the file \(file.id) was deleted while it was read")
        }
        try await writer.finish(nil)
      })
  }

  func delete(_ request: Request, context: GatewayContext) async throws -> Response {
    let file = try await find(context)
    let journal = try accepted().journal
    _ = try await told { try await journal.deleteFile(file.id, owner: context.owner) }
    return ServiceRoutes.json(
      JSONWriter.object { json in
        json.field("id", file.id)
        json.field("object", "file")
        json.field("deleted", true)
      })
  }

  private func find(_ context: GatewayContext) async throws -> StoredFile {
    let id = context.parameters.get("id") ?? ""
    guard let file = try await accepted().journal.file(id, owner: context.owner) else {
      throw GatewayError(.notFound, "there is no file \"\(id.clipped)\"", param: "id", code: "file_not_found")
    }
    return file
  }

  // MARK: Batches

  func create(_ request: Request, context: GatewayContext) async throws -> Response {
    let accepted = try accepted()
    let body = try await RequestBodyText.read(request, environment: environment)
    let fields = body.fields
    guard let input = try fields.string("input_file_id") else {
      throw GatewayError.invalid(
        "input_file_id", "input_file_id is missing: upload a file with purpose \"batch\" first")
    }
    guard let endpoint = try fields.choice("endpoint", of: AnswerPlanner.Route.self) else {
      throw GatewayError.invalid("endpoint", "endpoint is missing: it must be a path such as \"/v1/chat/completions\"")
    }
    guard try fields.string("completion_window") == "24h" else {
      throw GatewayError.invalid("completion_window", "completion_window must be \"24h\"")
    }
    let output = try fields.object("output_expires_after")
    let lifetime = try Self.lifetime(anchor: output?["anchor"], seconds: output?["seconds"])
    let metadata = try Self.metadata(fields)
    let batch = try await told("input_file_id") {
      try await accepted.journal.addBatch(
        owner: context.owner, endpoint: endpoint.rawValue, inputFile: input, metadata: metadata, window: Self.window,
        outputLifetime: lifetime, now: now)
    }
    accepted.runner.counts.accepted()
    accepted.runner.wake()
    return Self.json { BatchObjects.write(batch, to: &$0) }
  }

  /// The object's JSON text, written anew.
  private static func metadata(_ fields: FieldReader) throws -> String? {
    guard let object = try fields.object("metadata") else { return nil }
    guard object.object.members.count <= metadataPairs else {
      throw GatewayError.invalid("metadata", "metadata has more than \(metadataPairs) members")
    }
    let bytes = try JSONWriter.object { json in
      for (key, value) in object.object.members {
        guard case .string(let text) = value, key.count <= 64, text.count <= 512 else {
          throw GatewayError.invalid(
            "metadata.\(key.clipped)", "metadata must have strings of at most 512 characters under keys of at most 64")
        }
        json.field(key, text)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  func batch(_ request: Request, context: GatewayContext) async throws -> Response {
    let batch = try await findBatch(context)
    return Self.json { BatchObjects.write(batch, to: &$0) }
  }

  func batches(_ request: Request, context: GatewayContext) async throws -> Response {
    let accepted = try accepted()
    let limit = try Self.limit(request, in: Self.pageSize, usual: 20)
    let (batches, hasMore) = try await told("after") {
      try await accepted.journal.batches(
        owner: context.owner, after: request.uri.queryParameters["after"].map(String.init), limit: limit)
    }
    return ServiceRoutes.json(
      BatchObjects.list(batches, hasMore: hasMore, id: \.id) { BatchObjects.write($0, to: &$1) })
  }

  func cancel(_ request: Request, context: GatewayContext) async throws -> Response {
    let batch = try await findBatch(context)
    let accepted = try accepted()
    let changed = try await accepted.journal.apply(.cancel, to: batch.id, now: now) ?? batch
    guard changed.life.status == .cancelling || changed.life.status == .cancelled else {
      throw GatewayError(
        .conflict, "the batch \(batch.id) is \(changed.life.status.rawValue): it cannot be cancelled any more",
        code: "batch_not_cancellable")
    }
    accepted.runner.wake()
    return Self.json { BatchObjects.write(changed, to: &$0) }
  }

  private func findBatch(_ context: GatewayContext) async throws -> StoredBatch {
    let id = context.parameters.get("id") ?? ""
    guard let batch = try await accepted().journal.batch(id, owner: context.owner) else {
      throw GatewayError(.notFound, "there is no batch \"\(id.clipped)\"", param: "id", code: "batch_not_found")
    }
    return batch
  }

  // MARK: Common

  private func told<R>(_ param: String? = nil, _ work: () async throws -> R) async throws -> R {
    do { return try await work() } catch { throw environment.told(error, param: param) }
  }

  private static func limit(_ request: Request, in range: ClosedRange<Int>, usual: Int) throws -> Int {
    guard let text = request.uri.queryParameters["limit"] else { return usual }
    guard let limit = Int(text), range.contains(limit) else {
      throw GatewayError.invalid("limit", "limit must be from \(range.lowerBound) to \(range.upperBound)")
    }
    return limit
  }

  private static func isAscending(_ order: String?) throws -> Bool {
    switch order {
    case nil, "desc": return false
    case "asc": return true
    case let other?:
      throw GatewayError.invalid("order", "order is \"\(other.clipped)\": it must be \"asc\" or \"desc\"")
    }
  }

  private static func json(_ write: (inout JSONWriter) -> Void) -> Response {
    var json = JSONWriter()
    write(&json)
    return ServiceRoutes.json(json.bytes)
  }
}

extension GatewayContext {
  /// Whom files, batches and idempotency keys belong to.
  var owner: String { keyName ?? "" }
}
