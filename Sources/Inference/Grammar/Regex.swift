/// A regular language over Unicode scalars.
indirect enum Regex: Sendable {
  /// The empty text.
  case empty
  case set(ScalarSet)
  case sequence([Regex])
  case choice([Regex])
  /// nil: any number of times.
  case repeated(Regex, least: Int, most: Int?)
  /// Equal numbers stand for equal languages, of which an automaton needs only one where the same follows.
  case shared(Int, Regex)

  static func text(_ text: some StringProtocol) -> Regex { .sequence(text.unicodeScalars.map { .set(ScalarSet($0)) }) }

  static func digit(_ range: ClosedRange<Int>) -> Regex {
    .set(ScalarSet([UInt32(48 + range.lowerBound)...UInt32(48 + range.upperBound)]))
  }
}

/// A deterministic automaton: of the texts that lead to one state, the next character decides the next state. Grammars
/// made from it have one reading of every text, so that neither their state nor the time of a step grows with the text;
/// the equivalent `(a|a)*` in a grammar doubles its readings with every character.
struct Automaton {
  struct State {
    var isAccepting = false
    /// Disjoint sets.
    var edges: [(set: ScalarSet, target: Int)] = []
  }

  /// The first is the start.
  private(set) var states: [State]

  enum Failure: Error {
    /// More states or steps than `GrammarLimits` allows.
    case tooLarge
    /// No text is in the language.
    case empty
  }

  /// Exactly these texts.
  init(texts: some Sequence<String>) throws {
    var tries: [(isEnd: Bool, next: [Unicode.Scalar: Int])] = [(false, [:])]
    for text in texts {
      var node = 0
      for scalar in text.unicodeScalars {
        if let next = tries[node].next[scalar] {
          node = next
        } else {
          guard tries.count < GrammarLimits.schemaBytes else { throw Failure.tooLarge }
          tries.append((false, [:]))
          tries[node].next[scalar] = tries.count - 1
          node = tries.count - 1
        }
      }
      tries[node].isEnd = true
    }
    states = tries.map { node in
      State(
        isAccepting: node.isEnd,
        edges: node.next.sorted { $0.key < $1.key }.map { (ScalarSet($0.key), $0.value) })
    }
  }

  /// - Parameter steps: how many steps building it may take; what they come to is taken off.
  init(_ regex: Regex, steps: inout Int) throws {
    var parts = Parts()
    let start = try parts.add()
    let end = try parts.add()
    try parts.connect(regex, from: start, to: end)
    states = try parts.determined(start: start, end: end, steps: &steps)
    guard states.contains(where: \.isAccepting) else { throw Failure.empty }
  }
}

/// A nondeterministic automaton with empty steps (Thompson's construction).
private struct Parts {
  private var silent: [[Int]] = []
  private var edges: [[(set: ScalarSet, target: Int)]] = []
  private var shared: [[Int]: Int] = [:]

  mutating func add() throws -> Int {
    guard silent.count < GrammarLimits.patternParts else { throw Automaton.Failure.tooLarge }
    silent.append([])
    edges.append([])
    return silent.count - 1
  }

  /// Adds only ways out of `from` and into `to`, so that parts may share these.
  mutating func connect(_ regex: Regex, from: Int, to: Int) throws {
    switch regex {
    case .empty: silent[from].append(to)
    case .set(let set):
      guard !set.isEmpty else { throw Automaton.Failure.empty }
      edges[from].append((set, to))
    case .sequence(let list):
      guard let final = list.last else { return silent[from].append(to) }
      var last = from
      for part in list.dropLast() {
        let next = try add()
        try connect(part, from: last, to: next)
        last = next
      }
      try connect(final, from: last, to: to)
    case .choice(let list):
      guard !list.isEmpty else { throw Automaton.Failure.empty }
      for part in list { try connect(part, from: from, to: to) }
    case .shared(let key, let part):
      if let start = shared[[key, to]] { return silent[from].append(start) }
      let start = try add()
      shared[[key, to]] = start
      silent[from].append(start)
      try connect(part, from: start, to: to)
    case .repeated(let part, let least, let most):
      var last = from
      for _ in 0..<least {
        let next = try add()
        try connect(part, from: last, to: next)
        last = next
      }
      if let most {
        for _ in least..<most {
          silent[last].append(to)
          let next = try add()
          try connect(part, from: last, to: next)
          last = next
        }
      } else {
        let (first, loop) = (try add(), try add())
        silent[last].append(first)
        silent[first].append(loop)
        try connect(part, from: loop, to: first)
        last = first
      }
      silent[last].append(to)
    }
  }

  /// `seeds` and all that empty steps lead to, ascending.
  private func closure(_ seeds: some Sequence<Int>, _ seen: inout [Bool], _ steps: inout Int) throws -> [Int] {
    var found: [Int] = []
    var pending = Array(seeds)
    while let state = pending.popLast() {
      if seen[state] { continue }
      seen[state] = true
      found.append(state)
      pending += silent[state]
    }
    for state in found { seen[state] = false }
    steps -= found.count
    guard steps >= 0 else { throw Automaton.Failure.tooLarge }
    return found.sorted()
  }

  /// The subset construction.
  func determined(start: Int, end: Int, steps: inout Int) throws -> [Automaton.State] {
    var numbers: [[Int]: Int] = [:]
    var subsets: [[Int]] = []
    var seen = [Bool](repeating: false, count: silent.count)
    func number(_ subset: [Int]) throws -> Int {
      if let known = numbers[subset] { return known }
      guard subsets.count < GrammarLimits.automatonStates else { throw Automaton.Failure.tooLarge }
      numbers[subset] = subsets.count
      subsets.append(subset)
      return subsets.count - 1
    }
    _ = try number(closure([start], &seen, &steps))
    var states: [Automaton.State] = []
    while states.count < subsets.count {
      let subset = subsets[states.count]
      var state = Automaton.State(isAccepting: subset.contains(end))
      for (targets, set) in try split(subset.flatMap { edges[$0] }, &steps) {
        state.edges.append((set, try number(closure(targets, &seen, &steps))))
      }
      states.append(state)
    }
    return states
  }

  /// Disjoint sets with all the targets that each leads to, in the order of their characters.
  private func split(
    _ edges: [(set: ScalarSet, target: Int)], _ steps: inout Int
  ) throws -> [(targets: Set<Int>, set: ScalarSet)] {
    var changes: [(at: UInt32, target: Int, opens: Bool)] = []
    for edge in edges {
      for range in edge.set.ranges {
        changes.append((range.lowerBound, edge.target, true))
        changes.append((range.upperBound + 1, edge.target, false))
      }
    }
    changes.sort { $0.at < $1.at }
    var open: [Int: Int] = [:]
    var found: [Set<Int>: [ClosedRange<UInt32>]] = [:]
    var position: UInt32 = 0
    for change in changes {
      if change.at > position, !open.isEmpty {
        steps -= open.count
        guard steps >= 0 else { throw Automaton.Failure.tooLarge }
        found[Set(open.keys), default: []].append(position...(change.at - 1))
      }
      position = change.at
      let count = open[change.target, default: 0] + (change.opens ? 1 : -1)
      open[change.target] = count == 0 ? nil : count
    }
    return found.map { ($0.key, ScalarSet($0.value)) }
      .sorted { ($0.set.ranges.first?.lowerBound ?? 0) < ($1.set.ranges.first?.lowerBound ?? 0) }
  }
}
