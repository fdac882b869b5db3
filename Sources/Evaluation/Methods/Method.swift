internal import Core

/// One row of the table: how answers come about.
public struct Method: Sendable, Equatable {
  public enum Kind: Sendable, Equatable {
    /// Decoding by the runtime.
    case decode(Decoding)
    /// Of the answers of these methods the one that a reward model rates highest (Sequence Selection).
    case select([String])
    /// Of the answers of these methods a right one, if there is one: an upper bound.
    case oracle([String])
    /// The expert that the router selects for the first token writes the whole answer.
    case firstExpert(Decoding)
    /// The mean of these methods' outcomes, such as of several seeds.
    case mean([String])
    /// What something else answered, from a file (see ``GivenAnswers``); its path is absolute.
    case given(String)
    /// Collab with rollouts of so many tokens.
    case collab(Decoding, rollout: Int)
  }

  /// What decodes. Paths are absolute.
  public struct Decoding: Sendable, Equatable, Hashable {
    /// A cluster file; nil: ``model`` answers alone, or a running service.
    public var cluster: String?
    /// Instead of the cluster's router; without a cluster the model that answers.
    public var model: String?
    public var lora: String?
    public var head: String?
    /// c, instead of the head's.
    public var scale: Float?
    /// `fusion`, `router`, `no-complement` or `expert:NAME`.
    public var mode: String

    public init(
      cluster: String? = nil, model: String? = nil, lora: String? = nil, head: String? = nil, scale: Float? = nil,
      mode: String = "fusion"
    ) {
      self.cluster = cluster
      self.model = model
      self.lora = lora
      self.head = head
      self.scale = scale
      self.mode = mode
    }
  }

  public var name: String
  public var kind: Kind
  /// Prompts per task at most.
  public var limit: Int?
  /// What readers of the table should know about it.
  public var note: String?

  public init(name: String, kind: Kind, limit: Int? = nil, note: String? = nil) {
    self.name = name
    self.kind = kind
    self.limit = limit
    self.note = note
  }

  /// Methods whose answers it chooses from, or whose mean it is.
  public var candidates: [String] {
    switch kind {
    case .select(let names), .oracle(let names), .mean(let names): names
    case .decode, .firstExpert, .collab, .given: []
    }
  }

  /// The same decoding in another mode, if it decodes.
  public var decoding: Decoding? {
    switch kind {
    case .decode(let decoding), .firstExpert(let decoding), .collab(let decoding, _): decoding
    case .select, .oracle, .mean, .given: nil
    }
  }

  public var needsReward: Bool {
    switch kind {
    case .select, .collab: true
    case .decode, .oracle, .mean, .firstExpert, .given: false
    }
  }

  /// Checks that names are unique, and that methods take answers only of methods that have their own. Throws `.badInput`.
  public static func check(_ methods: [Method]) throws {
    guard !methods.isEmpty else { throw FusionRouteError.badInput("there is no method to evaluate") }
    var kinds: [String: Kind] = [:]
    for method in methods where kinds.updateValue(method.kind, forKey: method.name) != nil {
      throw FusionRouteError.badInput("two methods are called \"\(method.name)\"")
    }
    for method in methods {
      for name in method.candidates {
        switch kinds[name] {
        case nil:
          throw FusionRouteError.badInput(
            "the method \"\(method.name)\" takes answers of \"\(name)\", which is no method")
        case .select, .oracle, .mean:
          throw FusionRouteError.badInput(
            "the method \"\(method.name)\" takes answers of \"\(name)\", which itself takes those of others")
        default: break
        }
      }
    }
  }

  /// Checks that methods choose among answers that are there: those of methods that answer as many prompts. Throws
  /// `.badInput`.
  ///
  /// - Parameter limit: prompts per task of all methods at most; nil: all.
  public static func check(limitsOf methods: [Method], limit: Int?) throws {
    func prompts(_ method: Method) -> Int { min(method.limit ?? .max, limit ?? .max) }
    for method in methods {
      switch method.kind {
      case .select, .oracle: break
      case .decode, .firstExpert, .collab, .mean, .given: continue
      }
      for other in methods where method.candidates.contains(other.name) && prompts(other) < prompts(method) {
        throw FusionRouteError.badInput(
          "the method \"\(method.name)\" chooses among answers of \"\(other.name)\", whose limit of \(prompts(other)) "
            + "prompts is lower: give \"\(method.name)\" that limit too")
      }
    }
  }

  /// The rows that a cluster has by itself: every expert, the router, routing without complementary logits, routing per
  /// prompt, an oracle's choice, and the method; with a reward model also Sequence Selection.
  ///
  /// - Parameter cluster: nil for a running service.
  public static func standard(cluster: String?, experts: [String], hasReward: Bool) -> [Method] {
    func decoding(_ mode: String) -> Decoding { Decoding(cluster: cluster, mode: mode) }
    let alone = experts.map { Method(name: $0, kind: .decode(decoding("expert:\($0)"))) }
    let reserved: Set<String> = [
      "sequence-selection", "router", "per-prompt", "no-complement", "oracle", "fusionroute",
    ]
    // An expert called as one of the rows keeps its name; the row gets another.
    func row(_ name: String, _ kind: Kind) -> Method {
      Method(name: reserved.contains(name) && experts.contains(name) ? "\(name) (method)" : name, kind: kind)
    }
    var methods = alone
    if hasReward { methods.append(row("sequence-selection", .select(experts))) }
    methods += [
      row("router", .decode(decoding("router"))), row("per-prompt", .firstExpert(decoding("fusion"))),
      row("no-complement", .decode(decoding("no-complement"))), row("oracle", .oracle(experts)),
      row("fusionroute", .decode(decoding("fusion"))),
    ]
    return methods
  }
}
