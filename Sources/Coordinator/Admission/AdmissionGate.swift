internal import DequeModule
internal import HeapModule

/// Decides which waiting requests may start, so that those running never hold more cache slots than there are: two
/// sequences that evict each other at every step would both starve.
///
/// Clients are served by start-time fair queueing (Goyal, Vin and Cheng 1996): each has a virtual time that grows by the
/// tokens of what it was given, and the waiting client whose time is least goes next. So clients that wait share the
/// slots evenly by tokens, one that comes new is not held up by another's queue, and none starves. Within a client
/// requests start in the order of their arrival. Every operation takes O(log clients), amortised.
public struct AdmissionGate: Sendable {
  public struct Limits: Sendable, Equatable {
    /// Requests that may wait.
    public var waiting: Int
    /// Requests of one client that may wait.
    public var waitingPerClient: Int

    public init(waiting: Int, waitingPerClient: Int) {
      self.waiting = max(0, waiting)
      self.waitingPerClient = max(0, waitingPerClient)
    }
  }

  public enum Decision: Sendable, Equatable {
    case start
    case wait
    /// The queue is full.
    case refuse
    /// The client's share of the queue is full.
    case refuseClient
  }

  private struct Client {
    /// In order of arrival; those that gave up stay until they come up, or until they are the greater part.
    var queue: Deque<UInt64> = []
    var waiting = 0
    /// Virtual time, in tokens, at which its next request starts.
    var time: UInt64
    /// Whether it has an entry in `turns`.
    var isListed = false
  }

  private struct Turn: Comparable {
    var time: UInt64
    /// Breaks ties: who was listed first.
    var order: UInt64
    var client: String

    static func < (a: Self, b: Self) -> Bool { (a.time, a.order) < (b.time, b.order) }
  }

  private struct Waiting {
    var client: String
    var cost: UInt64
  }

  /// Clients without a waiting request whose debts are remembered.
  private static let rememberedClients = 1024
  /// Queue entries of requests that gave up, besides as many as wait.
  private static let queueSlack = 16

  /// Requests that may run at once.
  public private(set) var limit: Int
  public let limits: Limits
  private var running: [UInt64: String] = [:]
  private var waiting: [UInt64: Waiting] = [:]
  private var clients: [String: Client] = [:]
  /// At most one for each client; may be out of date.
  private var turns = Heap<Turn>()
  /// The start of the request that started last.
  private var time: UInt64 = 0
  private var order: UInt64 = 0
  private var sweepAt = Self.rememberedClients

  public init(limit: Int, limits: Limits) {
    self.limit = max(1, limit)
    self.limits = limits
  }

  public var runningCount: Int { running.count }
  public var waitingCount: Int { waiting.count }

  /// Waiting requests of one client.
  public func waitingCount(of client: String) -> Int { clients[client]?.waiting ?? 0 }

  /// - Parameters:
  ///   - request: an id that is not in use.
  ///   - cost: its tokens as far as they are known; what it turns out to take is added by ``leave(_:used:)``.
  public mutating func arrive(_ request: UInt64, client name: String, cost: Int) -> Decision {
    let cost = UInt64(max(0, cost))
    if running.count < limit, waiting.isEmpty {
      var client = clients[name] ?? Client(time: time)
      start(request, of: &client, named: name, cost: cost)
      store(client, named: name)
      return .start
    }
    guard waiting.count < limits.waiting else { return .refuse }
    var client = clients[name] ?? Client(time: time)
    guard client.waiting < limits.waitingPerClient else { return .refuseClient }
    if client.waiting == 0 { client.time = max(client.time, time) }
    client.queue.append(request)
    client.waiting += 1
    waiting[request] = Waiting(client: name, cost: cost)
    list(&client, named: name)
    store(client, named: name)
    return .wait
  }

  /// The request has ended or given up waiting.
  ///
  /// - Parameter used: tokens it took beyond its cost.
  /// - Returns: those that start now.
  public mutating func leave(_ request: UInt64, used: Int = 0) -> [UInt64] {
    if let name = running.removeValue(forKey: request) {
      clients[name]?.time += UInt64(max(0, used))
    } else if let entry = waiting.removeValue(forKey: request), var client = clients[entry.client] {
      client.waiting -= 1
      if client.queue.count > 2 * client.waiting + Self.queueSlack {
        client.queue.removeAll { waiting[$0] == nil }
      }
      clients[entry.client] = client
    }
    let started = admit()
    if running.isEmpty, waiting.isEmpty { forget() }
    return started
  }

  /// Replicas came or went; returns those that start now.
  public mutating func setLimit(_ limit: Int) -> [UInt64] {
    self.limit = max(1, limit)
    return admit()
  }

  // MARK: Turns

  private mutating func admit() -> [UInt64] {
    var started: [UInt64] = []
    while running.count < limit, !waiting.isEmpty, let turn = turns.popMin() {
      guard var client = clients[turn.client] else { continue }
      client.isListed = false
      defer { clients[turn.client] = client }
      guard client.waiting > 0 else { continue }
      // Its time has grown since: by what its running requests took, or while it was away.
      guard turn.time == client.time else {
        list(&client, named: turn.client)
        continue
      }
      while let request = client.queue.popFirst() {
        guard let entry = waiting.removeValue(forKey: request) else { continue }
        client.waiting -= 1
        start(request, of: &client, named: turn.client, cost: entry.cost)
        started.append(request)
        break
      }
      if client.waiting > 0 { list(&client, named: turn.client) }
    }
    return started
  }

  private mutating func start(_ request: UInt64, of client: inout Client, named name: String, cost: UInt64) {
    running[request] = name
    client.time = max(client.time, time)
    time = client.time
    client.time += cost
  }

  private mutating func list(_ client: inout Client, named name: String) {
    guard !client.isListed else { return }
    order += 1
    client.isListed = true
    turns.insert(Turn(time: client.time, order: order, client: name))
  }

  // MARK: Bounds

  private mutating func store(_ client: Client, named name: String) {
    clients[name] = client
    if clients.count > sweepAt { sweep() }
  }

  /// Forgets clients that are not waiting: those that owe nothing, and all of them where they are too many.
  private mutating func sweep() {
    let idle = clients.filter { $0.value.waiting == 0 }
    let indebted = idle.count { $0.value.time > time }
    let all = indebted > Self.rememberedClients / 2
    for (name, client) in idle where all || client.time <= time { clients[name] = nil }
    turns = Heap(turns.unordered.filter { clients[$0.client] != nil })
    sweepAt = max(Self.rememberedClients, 2 * clients.count)
  }

  /// For tests: what the books hold.
  var entries: Int {
    clients.values.reduce(running.count + waiting.count + clients.count + turns.count) { $0 + $1.queue.count }
  }

  /// Nobody runs or waits: nobody owes anybody anything.
  private mutating func forget() {
    clients.removeAll()
    turns = Heap()
    (time, order) = (0, 0)
    sweepAt = Self.rememberedClients
  }
}
