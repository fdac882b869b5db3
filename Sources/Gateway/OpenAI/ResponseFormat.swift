/// What the answer's text must be: OpenAI's `response_format`.
enum ResponseFormat: Sendable, Equatable {
  case text
  /// Any JSON object.
  case jsonObject
  /// JSON of a schema; its own text, since the order of its members matters.
  case jsonSchema([UInt8], path: String)

  /// - Parameter body: what `fields` was parsed from.
  init(_ fields: FieldReader, body: [UInt8]) throws {
    self = .text
    guard let format = try fields.object("response_format") else { return }
    func schema(_ fields: FieldReader?) throws -> ResponseFormat? {
      guard let fields, let schema = try fields.object("schema") else { return nil }
      return .jsonSchema(Array(body[schema.object.range]), path: fields.path("schema"))
    }
    let path = format.path("type")
    switch try format.string("type") {
    case "text": return
    // llama.cpp takes the schema here.
    case "json_object": self = try schema(format) ?? .jsonObject
    case "json_schema":
      guard let schema = try schema(try format.object("json_schema")) else {
        let path = format.path("json_schema.schema")
        throw GatewayError.invalid(path, "\(path) is missing: give the schema that the answer must follow")
      }
      self = schema
    case let type?:
      throw GatewayError.invalid(
        path, "\(path) is \"\(type.clipped)\": it must be \"text\", \"json_object\" or \"json_schema\"")
    case nil:
      throw GatewayError.invalid(path, "\(path) is missing: it must be \"text\", \"json_object\" or \"json_schema\"")
    }
  }
}
