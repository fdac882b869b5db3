/// A text that equals only texts of the same code points. Swift's strings also equal those that are canonically
/// equivalent to them; names in JSON, and all that is told apart by its bytes, do not.
public struct ExactText: Sendable, Hashable {
  public let text: String

  public init(_ text: String) { self.text = text }

  public static func == (a: Self, b: Self) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

  public func hash(into hasher: inout Hasher) {
    var copy = text
    copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
