internal import Dispatch

/// A pointer that several threads use for disjoint parts.
struct SendablePointer<Element>: @unchecked Sendable {
  // Unchecked: every user takes the elements of its own part only.
  let base: UnsafeMutablePointer<Element>?

  init(_ base: UnsafeMutablePointer<Element>?) { self.base = base }
}

enum Parts {
  /// Runs `body` for `parts` consecutive ranges of 0 ..< count at once. What is computed must not depend on the division.
  static func forEach(of count: Int, parts: Int, _ body: @Sendable (Range<Int>) -> Void) {
    if parts <= 1 || count < 2 {
      body(0..<count)
      return
    }
    DispatchQueue.concurrentPerform(iterations: parts) { part in
      let range = count * part / parts..<count * (part + 1) / parts
      if !range.isEmpty { body(range) }
    }
  }
}
