import Core
import Testing

@Suite struct SHA256Tests {
  /// FIPS 180-4's examples and the well-known digest of nothing.
  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ])
  func knownDigests(text: String, hex: String) {
    #expect(SHA256Digest(hashing: Array(text.utf8)).hex == hex)
    // Piece by piece it is the same.
    var hasher = SHA256Hasher()
    for byte in text.utf8 { hasher.update([byte]) }
    #expect(hasher.finalize().hex == hex)
  }

  @Test func digestsAreExactly32Bytes() throws {
    let bytes = [UInt8](0..<32)
    #expect(try #require(SHA256Digest(bytes)).bytes == bytes)
    #expect(SHA256Digest(bytes.dropLast()) == nil && SHA256Digest(bytes + [0]) == nil)
  }
}

@Suite struct TokenChainTests {
  @Test("after any appends and cuts the hashes are those of the tokens there are", arguments: 0..<10)
  func hashesFollowTheTokens(seed: Int) {
    print("token chain seed \(seed)")
    var random = SplitMix64(seed: UInt64(seed))
    var chain = TokenChain()
    var tokens: [Token] = []
    for _ in 0..<60 {
      if Int.random(in: 0..<3, using: &random) == 0 {
        let length = Int.random(in: 0...(tokens.count + 2), using: &random)
        chain.truncate(to: length)
        tokens = Array(tokens.prefix(length))
      } else {
        let token = Token.random(in: 0..<5, using: &random)
        chain.append(token)
        tokens.append(token)
      }
      #expect(chain.tokens == tokens)
      var hash = PrefixHash.empty
      #expect(chain.hash(at: 0) == hash)
      for (index, token) in tokens.enumerated() {
        hash = hash.appending(token)
        #expect(chain.hash(at: index + 1) == hash)
      }
      #expect(chain.hash(at: tokens.count + 1) == nil && chain.hash(at: -1) == nil)
    }
  }
}

@Suite struct LogitsRowTests {
  @Test func copiesAndStartsAsZeros() {
    var values: [Float] = [1, -.infinity, 3]
    let row = LogitsRow(values)
    values[0] = 9
    #expect((0..<3).map { row[Token($0)] } == [1, -.infinity, 3])
    // Freed memory must not show through.
    for _ in 0..<3 { _ = LogitsRow(count: 70_000) { $0.update(repeating: 7) } }
    let zeros = LogitsRow(count: 70_000) { _ in }
    #expect((0..<70_000).allSatisfy { zeros[Token($0)] == 0 })
  }
}

@Suite struct ErrorTests {
  @Test func exitCodesAreThoseOfTheContract() {
    let codes: [(FusionRouteError.Code, Int32)] = [
      (.usage, 64), (.badInput, 65), (.unavailable, 69), (.internal, 70), (.interrupted, 130),
      (.init(rawValue: "anything else"), 70),
    ]
    for (code, exit) in codes { #expect(code.exitCode == exit) }
  }
}

@Suite struct TraceContextTests {
  private static let trace = "0af7651916cd43dd8448eb211c80319c"
  private static let parent = "b7ad6b7169203331"

  /// The examples of the W3C's recommendation, sections 3.2 and 4.
  @Test(
    arguments: [
      ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
      ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
      // Other flags say nothing to us; a later version may have more behind.
      ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true),
      ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
      ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings", true),
    ])
  func read(header: String, isSampled: Bool) throws {
    let context = try #require(TraceContext(requestID: "r-1", traceparent: header))
    #expect(context.traceID == Self.trace && context.parentID == Self.parent && context.isSampled == isSampled)
    #expect(context.traceparent == "00-\(Self.trace)-\(Self.parent)-\(isSampled ? "01" : "00")")
  }

  @Test(
    arguments: [
      "", "00", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
      "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
      "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
      "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
      "+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ])
  func refused(header: String) {
    #expect(TraceContext(requestID: "r-1", traceparent: header) == nil)
  }

  @Test func requestIDs() {
    for name in ["", "a b", "a\n", "é", String(repeating: "x", count: 65)] {
      let context = TraceContext(requestID: name, traceID: Self.trace, parentID: Self.parent, isSampled: true)
      #expect(!context.isValid)
    }
    let name = String(repeating: "Az-_9", count: 12)
    #expect(TraceContext(requestID: name, traceID: Self.trace, parentID: Self.parent, isSampled: true).isValid)
  }

  @Test func spanIDsAreValidAndDiffer() {
    let ids = Set((0..<1_000).map { _ in TraceContext.randomSpanID() })
    #expect(ids.count == 1_000)
    for id in ids {
      #expect(TraceContext(requestID: "r", traceID: Self.trace, parentID: id, isSampled: true).isValid)
    }
  }
}
