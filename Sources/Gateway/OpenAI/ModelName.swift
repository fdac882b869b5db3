internal import Fusion

/// The models that requests can name: the method and its baselines.
struct ModelName: Sendable, Equatable {
  static let base = "fusionroute"

  var text: String
  var mode: DecodingMode

  /// The model of `field`, which says what it knows when it is another's.
  init(reading field: String, of fields: FieldReader, experts: [String]) throws {
    let name = try fields.string(field) ?? Self.base
    guard let model = Self.all(experts: experts).first(where: { $0.text == name }) else {
      let known = Self.all(experts: experts).map(\.text).joined(separator: ", ")
      throw GatewayError(
        .notFound, "the model \"\(name.clipped)\" does not exist; there are \(known)", param: fields.path(field),
        code: "model_not_found")
    }
    self = model
  }

  private init(_ text: String, _ mode: DecodingMode) {
    self.text = text
    self.mode = mode
  }

  static func all(experts: [String]) -> [ModelName] {
    [ModelName(base, .fusion), ModelName("\(base):router", .router), ModelName("\(base):no-complement", .noComplement)]
      + experts.map { ModelName("\(base):expert:\($0)", .expert($0)) }
  }
}
