/// Holds answers back while a coordinator's byte credit is used up.
///
/// Only payload counts. Answers to one request keep their order; those to other requests pass, so that a scoring client
/// that reads slowly does not hold up anyone's next token. A message may overdraw the credit once, so that one larger
/// than the whole credit still gets through.
struct CreditGate<Message> {
  private struct Held {
    var request: UInt64
    var message: Message
    var bytes: Int
  }

  private var credit: Int
  private var held: [Held] = []
  private var waiting: Set<UInt64> = []

  init(credit: Int) { self.credit = credit }

  var isEmpty: Bool { held.isEmpty }

  /// The message, if it may leave now; otherwise it is kept.
  mutating func offer(_ message: Message, request: UInt64, bytes: Int) -> Message? {
    let passes = !waiting.contains(request) && (bytes == 0 || credit > 0)
    guard passes else {
      held.append(Held(request: request, message: message, bytes: bytes))
      waiting.insert(request)
      return nil
    }
    credit -= bytes
    return message
  }

  /// More credit came: what may leave now, in the order it was offered.
  mutating func grant(_ bytes: Int) -> [Message] {
    credit = min(credit &+ max(0, bytes), 1 << 40)
    var count = 0
    while count < held.count, credit > 0 || held[count].bytes == 0 {
      credit -= held[count].bytes
      count += 1
    }
    defer {
      held.removeFirst(count)
      waiting = Set(held.map(\.request))
    }
    return held[..<count].map(\.message)
  }

  /// The request was cancelled: what is held for it is dropped.
  mutating func drop(request: UInt64) {
    held.removeAll { $0.request == request }
    waiting.remove(request)
  }

  mutating func reset(credit: Int) {
    self.credit = credit
    held.removeAll()
    waiting.removeAll()
  }
}
