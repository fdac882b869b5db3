internal import Core

/// What must hold of a schema before it becomes a grammar.
struct SchemaAnalysis {
  typealias ID = SchemaGraph.ID

  /// JSON's types, of which an integer is a number.
  struct Kinds: OptionSet, Hashable {
    var rawValue: UInt8
    static let null = Self(rawValue: 1)
    static let boolean = Self(rawValue: 2)
    static let number = Self(rawValue: 4)
    static let string = Self(rawValue: 8)
    static let array = Self(rawValue: 16)
    static let object = Self(rawValue: 32)
    static let each: [Kinds] = [.null, .boolean, .number, .string, .array, .object]
  }

  let graph: SchemaGraph
  /// For every schema those among which a value of it must be, none of which is a choice itself.
  private(set) var leaves: [[ID]] = []
  /// What types a value of it may have.
  private(set) var kinds: [Kinds] = []
  /// The constants that it consists of, numbered so that those are equal which JSON Schema calls equal, such as 1 and
  /// 1.0; nil if it has other values.
  private var constants: [Set<Int>?] = []

  /// - Throws: `badInput` for a schema that no grammar can stand for, or only one without bounds.
  static func check(_ graph: SchemaGraph) throws {
    let analysis = try Self(graph)
    try analysis.checkEnds()
    try analysis.checkExclusive()
    try analysis.checkReadings()
  }

  private init(_ graph: SchemaGraph) throws {
    self.graph = graph
    let depths = try Self.depths(graph)
    leaves = graph.nodes.indices.map { [$0] }
    kinds = graph.nodes.map { Self.kinds(of: $0.shape) }
    for id in graph.nodes.indices.sorted(by: { depths[$0] < depths[$1] }) where depths[id] > 0 {
      var found: Set<ID> = []
      leaves[id] = graph.alternatives(id).flatMap { leaves[$0] }.filter { found.insert($0).inserted }
      kinds[id] = graph.alternatives(id).reduce(into: []) { $0.formUnion(kinds[$1]) }
      guard leaves[id].count <= GrammarLimits.flatAlternatives else {
        throw SchemaError.schema(
          at: graph.nodes[id].path, "has more than \(GrammarLimits.flatAlternatives) alternatives")
      }
    }
    let own = Self.ownConstants(graph)
    constants = leaves.map { $0.count == 1 ? own[$0[0]] : nil }
  }

  /// How many choices follow each other before a value begins. That bounds how deep llama.cpp's search for left
  /// recursion goes, and no schema may be its own alternative.
  private static func depths(_ graph: SchemaGraph) throws -> [Int] {
    var depths = [Int](repeating: 0, count: graph.nodes.count)
    for _ in 0...GrammarLimits.alternativeDepth {
      var changed = false
      for id in graph.nodes.indices {
        let depth = graph.alternatives(id).map { depths[$0] + 1 }.max() ?? 0
        if depth > depths[id] { (depths[id], changed) = (depth, true) }
      }
      if !changed { return depths }
    }
    let deepest = depths.indices.max { depths[$0] < depths[$1] } ?? 0
    throw SchemaError.schema(
      at: graph.nodes[deepest].path,
      "refers to itself, or through more than \(GrammarLimits.alternativeDepth) references, before any value begins")
  }

  private static func kinds(of shape: SchemaGraph.Shape) -> Kinds {
    switch shape {
    case .null: .null
    case .boolean: .boolean
    case .any: Kinds(Kinds.each)
    case .anyObject, .object, .map: .object
    case .string, .language(_, .quoted): .string
    case .language(_, .plain): .number
    case .literals(let values): Kinds(values.map(kind))
    case .array, .tuple: .array
    case .alternatives: []
    }
  }

  private static func kind(of value: JSONValue) -> Kinds {
    switch value {
    case .null: .null
    case .bool: .boolean
    case .integer, .number: .number
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }

  // MARK: Ends

  /// Every schema must have a value that ends, even an alternative: a model that has chosen it could not go back.
  private func checkEnds() throws {
    var ends = [Bool](repeating: false, count: graph.nodes.count)
    var changed = true
    while changed {
      changed = false
      for id in graph.nodes.indices where !ends[id] && canEnd(id, ends) {
        ends[id] = true
        changed = true
      }
    }
    if let endless = ends.firstIndex(of: false) {
      throw SchemaError.schema(
        at: graph.nodes[endless].path, "contains itself without end: no finite value satisfies it")
    }
  }

  private func canEnd(_ id: ID, _ ends: [Bool]) -> Bool {
    switch graph.nodes[id].shape {
    case .alternatives(let list): list.contains { ends[$0] }
    case .object(let properties, _): properties.allSatisfy { !$0.isRequired || ends[$0.schema] }
    case .array(let item, let least, _): least == 0 || ends[item]
    case .tuple(let parts): parts.allSatisfy { ends[$0] }
    default: true
    }
  }

  // MARK: Readings

  /// How many readings of one text a grammar may have to follow at once: alternatives that begin alike add up, inside
  /// one another they multiply, and without end where the schema is recursive.
  private func checkReadings() throws {
    // Schemas that many choices have in common are compared once.
    var known: [[ID]: Bool] = [:]
    let groups = graph.nodes.indices.map { alikeGroups($0, &known) }
    var dependents = [[ID]](repeating: [], count: graph.nodes.count)
    for id in graph.nodes.indices {
      for part in graph.parts(id) + groups[id].flatMap(\.ids) { dependents[part].append(id) }
    }
    var readings = [Int](repeating: 1, count: graph.nodes.count)
    var pending = Array(graph.nodes.indices)
    while let id = pending.popLast() {
      let inside = graph.parts(id).map { readings[$0] }.max() ?? 1
      let chosen = groups[id].map { group in
        let counts = group.ids.map { readings[$0] }
        return group.areToldApart ? max(counts.count, counts.max() ?? 1) : counts.reduce(0, +)
      }
      let count = max(inside, keys(id), chosen.max() ?? 1)
      guard count > readings[id] else { continue }
      guard count <= GrammarLimits.readings else {
        throw SchemaError.schema(
          at: graph.nodes[id].path,
          "has alternatives that begin alike, too often inside one another; let each begin with a property of another"
            + " name, or with another constant")
      }
      readings[id] = count
      pending += dependents[id]
    }
  }

  /// Keys of an object that may come next share at least their quote.
  private func keys(_ id: ID) -> Int {
    guard case .object(let properties, _) = graph.nodes[id].shape else { return 1 }
    return 1 + properties.count { !$0.isRequired }
  }

  /// A choice's schemas, by the type of their values: types differ in their first character.
  private func alikeGroups(_ id: ID, _ known: inout [[ID]: Bool]) -> [(ids: [ID], areToldApart: Bool)] {
    guard !graph.alternatives(id).isEmpty else { return [] }
    var groups: [(ids: [ID], areToldApart: Bool)] = []
    for kind in Kinds.each {
      let ids = leaves[id].filter { !kinds[$0].isDisjoint(with: kind) }
      guard !ids.isEmpty else { continue }
      let areToldApart = known[ids] ?? areToldApart(ids)
      known[ids] = areToldApart
      groups.append((ids, areToldApart))
    }
    return groups
  }

  /// Whether the first property, which must come, tells these objects apart before any other value begins.
  private func areToldApart(_ ids: [ID]) -> Bool {
    var byName: [ExactText: [ID]] = [:]
    for id in ids {
      guard case .object(let properties, _) = graph.nodes[id].shape,
        let first = properties.first(where: \.isRequired)
      else { return false }
      byName[ExactText(first.name), default: []].append(first.schema)
    }
    return byName.values.allSatisfy { schemas in
      var seen: Set<Int> = []
      return schemas.count == 1
        || schemas.allSatisfy { schema in constants[schema]?.allSatisfy { seen.insert($0).inserted } ?? false }
    }
  }

  // MARK: Constants

  /// Those of schemas that are constants themselves, each text looked at once.
  private static func ownConstants(_ graph: SchemaGraph) -> [Set<Int>?] {
    var numbers: [ExactText: Int] = [:]
    func number(of value: JSONValue) -> Int {
      let text =
        switch value {
        case .integer(let integer): "\(Double(integer))"
        // Members may come in any order, and numbers be inside: all of these count as equal.
        case .array, .object: "container"
        default: value.text
        }
      if let known = numbers[ExactText(text)] { return known }
      numbers[ExactText(text)] = numbers.count
      return numbers.count - 1
    }
    return graph.nodes.map { node in
      guard case .literals(let values) = node.shape else { return nil }
      return Set(values.map(number))
    }
  }

  // MARK: Exactly one

  /// `oneOf` asks that exactly one alternative matches. A grammar follows one and does not see whether another would
  /// match too, so the schemas must show that none can.
  private func checkExclusive() throws {
    var comparisons = Comparisons()
    for id in graph.exclusive {
      let list = graph.alternatives(id)
      for (index, first) in list.enumerated() {
        for (offset, second) in list[..<index].enumerated() where !areDisjoint(first, second, &comparisons) {
          throw SchemaError.keyword(
            "oneOf", at: graph.nodes[id].path,
            "has alternatives, number \(offset) and number \(index), that may match the same value; use \"anyOf\", or give"
              + " each a required property with a constant of its own")
        }
      }
    }
  }

  private struct Comparisons {
    struct Pair: Hashable {
      var a: ID
      var b: ID
    }

    var count = 0
    /// Whether two schemas of constants have none in common: there may be a thousand of them, in many objects.
    var constants: [Pair: Bool] = [:]
  }

  /// Whether no value that is written for one of them can satisfy the other.
  private func areDisjoint(_ a: ID, _ b: ID, _ comparisons: inout Comparisons, depth: Int = 0) -> Bool {
    comparisons.count += 1
    guard comparisons.count <= GrammarLimits.comparisons, depth < GrammarLimits.alternativeDepth else { return false }
    if kinds[a].isDisjoint(with: kinds[b]) { return true }
    if let first = constants[a], let second = constants[b] {
      let pair = Comparisons.Pair(a: min(leaves[a][0], leaves[b][0]), b: max(leaves[a][0], leaves[b][0]))
      let areDisjoint = comparisons.constants[pair] ?? first.isDisjoint(with: second)
      comparisons.constants[pair] = areDisjoint
      return areDisjoint
    }
    guard leaves[a].count == 1, leaves[b].count == 1 else {
      for first in leaves[a] {
        for second in leaves[b] where !areDisjoint(first, second, &comparisons, depth: depth + 1) { return false }
      }
      return true
    }
    guard case .object(let first, let firstIsClosed) = graph.nodes[leaves[a][0]].shape,
      case .object(let second, let secondIsClosed) = graph.nodes[leaves[b][0]].shape
    else { return false }
    // A property that both ask for, but with other values.
    let required = second.filter(\.isRequired)
    for property in first where property.isRequired {
      if let other = required.first(where: { ExactText($0.name) == ExactText(property.name) }),
        areDisjoint(property.schema, other.schema, &comparisons, depth: depth + 1)
      {
        return true
      }
    }
    // What is written has its schema's properties and no others. It fails the other schema if it lacks one that is
    // required there, or must have one that is forbidden there.
    let firstLacks = lacks(first, required)
    let secondLacks = lacks(second, first.filter(\.isRequired))
    return (firstLacks || secondLacks && secondIsClosed) && (secondLacks || firstLacks && firstIsClosed)
  }

  private func lacks(_ written: [SchemaGraph.Property], _ required: [SchemaGraph.Property]) -> Bool {
    let names = Set(written.map { ExactText($0.name) })
    return !required.allSatisfy { names.contains(ExactText($0.name)) }
  }
}
