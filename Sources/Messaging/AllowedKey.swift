internal import Core

/// One entry of the allow-list: a public key, what its owner is called and what it may do.
///
/// Its file, `allowed/NAME.pub`, holds the key on the first line; lines after it may narrow what it may do:
///
///     # comments stand on lines of their own
///     rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7
///     role: worker
///     experts: math, code
public struct AllowedKey: Sendable, Hashable {
  /// Open set of roles. A message that is not its role's is refused.
  public struct Role: RawRepresentable, Hashable, Sendable {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }

    /// Registers and answers steps; the default.
    public static let worker = Role(rawValue: "worker")
    /// Another coordinator: it may connect, but never passes for a worker.
    public static let coordinator = Role(rawValue: "coordinator")

    static let all: [Role] = [.worker, .coordinator]
  }

  public static let maximumExperts = 256
  public static let maximumExpertBytes = 256

  public let name: String
  /// 40 characters of Z85.
  public let key: String
  public let role: Role
  /// Experts that a worker may serve; nil: any.
  public let experts: Set<String>?

  public init(name: String, key: String, role: Role = .worker, experts: Set<String>? = nil) {
    self.name = name
    self.key = key
    self.role = role
    self.experts = experts
  }

  /// Whether a worker with this key may register as, and answer for, an expert.
  public func mayServe(_ expert: String) -> Bool { role == .worker && experts?.contains(expert) ?? true }

  /// Throws `.badInput` with what is wrong, and on which line; the caller names the file.
  init(name: String, parsing text: String) throws {
    var key: String?
    var role: Role?
    var experts: Set<String>?
    for (index, part) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let line = Self.trim(Substring(part))
      // A key may begin with "#", a comment has a space behind it.
      if line.isEmpty || line == "#" || line.hasPrefix("# ") { continue }
      func wrong(_ what: String) -> FusionRouteError { .badInput("line \(index + 1) \(what)") }
      guard key != nil else {
        guard KeyFile.isKey(String(line)) else { throw wrong("is not a key of \(Keys.keyLength) Z85 characters") }
        key = String(line)
        continue
      }
      if let value = Self.value(of: "role", in: line), role == nil {
        let named = Role(rawValue: String(value))
        guard Role.all.contains(named) else { throw wrong("names no role: use worker or coordinator") }
        role = named
      } else if let value = Self.value(of: "experts", in: line), experts == nil {
        guard let names = Self.names(in: value) else { throw wrong("is no list of experts, as in experts: math, code") }
        experts = names
      } else {
        throw wrong("is not one of \"role: ROLE\" and \"experts: NAME, NAME\", each at most once")
      }
    }
    guard let key else { throw FusionRouteError.badInput("holds no key of \(Keys.keyLength) Z85 characters") }
    self.init(name: name, key: key, role: role ?? .worker, experts: experts)
  }

  /// The file's text.
  var text: String {
    var text = key + "\n"
    if role != .worker { text += "role: \(role.rawValue)\n" }
    if let experts { text += "experts: \(experts.sorted().joined(separator: ", "))\n" }
    return text
  }

  /// Whether an expert of that name can stand in the file.
  static func isExpert(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= maximumExpertBytes && trim(name[...]) == name
      && name.unicodeScalars.allSatisfy { $0 >= " " && $0 != "," }
  }

  private static func value(of field: String, in line: Substring) -> Substring? {
    guard let colon = line.firstIndex(of: ":"), trim(line[..<colon]) == field else { return nil }
    return trim(line[line.index(after: colon)...])
  }

  private static func names(in text: Substring) -> Set<String>? {
    let names = text.split(separator: ",", omittingEmptySubsequences: false).map { String(trim($0)) }
    guard names.count <= maximumExperts, names.allSatisfy(isExpert) else { return nil }
    return Set(names)
  }

  private static func trim(_ text: Substring) -> Substring {
    func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" || character == "\r" }
    var text = text.drop(while: isBlank)
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }
}
