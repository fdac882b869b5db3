/// A file that a client sent, or that a batch wrote.
public struct StoredFile: Sendable, Hashable {
  public var id: String
  /// The API key's name; empty without keys.
  public var owner: String
  public var name: String
  /// `batch` for input, `batch_output` for results.
  public var purpose: String
  public var bytes: Int
  /// Unix seconds.
  public var created: Int
  public var expires: Int?
}

/// A batch and where it stands.
public struct StoredBatch: Sendable, Hashable {
  public var id: String
  public var owner: String
  public var endpoint: String
  public var inputFile: String
  public var outputFile: String?
  public var errorFile: String?
  /// JSON text of the object that came with it; nil: none.
  public var metadata: String?
  /// Seconds that its output is kept; nil: as long as the journal's retention says.
  public var outputLifetime: Int?
  /// What is wrong with its input.
  public var problems: [Problem] = []
  public var life: BatchLife

  public struct Problem: Sendable, Hashable, Codable {
    public var code: String
    public var message: String
    /// From 1.
    public var line: Int?
    public var param: String?

    public init(code: String, message: String, line: Int? = nil, param: String? = nil) {
      self.code = code
      self.message = message
      self.line = line
      self.param = param
    }
  }
}

/// One request of a batch.
public struct BatchItem: Sendable, Hashable {
  /// From 0, in the order of the input.
  public var number: Int
  /// The client's own name for it.
  public var customID: String
  /// JSON text of the request's body.
  public var body: [UInt8]

  public init(number: Int, customID: String, body: [UInt8]) {
    self.number = number
    self.customID = customID
    self.body = body
  }
}

/// A request with an idempotency key that has not been answered.
public struct StoredRequest: Sendable, Hashable {
  public var owner: String
  public var key: String
  public var route: String
  public var body: [UInt8]
  /// Where its client takes its turn.
  public var client: String

  public init(owner: String, key: String, route: String, body: [UInt8], client: String) {
    self.owner = owner
    self.key = key
    self.route = route
    self.body = body
    self.client = client
  }
}

/// What is known of an idempotency key.
public enum RequestClaim: Sendable, Hashable {
  /// It is new, and now written down: run it.
  case run
  /// It was accepted before and is not answered yet.
  case pending
  /// It was answered.
  case answered(status: Int, body: [UInt8])
  /// It came with another request.
  case mismatch
}
