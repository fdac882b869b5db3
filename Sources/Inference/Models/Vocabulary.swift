internal import CLlama
internal import CLlamaExtras
public import Core
internal import Foundation
internal import Synchronization

/// The tokens of a model. All calls are const in llama.cpp and may come from any thread.
public final class Vocabulary: Sendable {
  /// Longest text handed to the tokenizer at once, in bytes: llama.cpp counts in Int32.
  public static let maximumTextBytes = 64 << 20

  private let model: Model.Handle
  /// Number of tokens.
  public let size: Int
  /// Token put before a text; nil if the vocabulary has none.
  public let beginningOfSequence: Token?
  /// Token that ends a text; nil if the vocabulary has none. Others may end a generation too.
  public let endOfSequence: Token?
  /// Whether `tokenize(addSpecial: true)` puts `beginningOfSequence` first.
  public let addsBeginningOfSequence: Bool
  private let cachedFingerprint = Mutex<SHA256Digest?>(nil)
  private let cachedLongText = Mutex<LongText?>(nil)

  init(handle: Model.Handle, path: String) {
    model = handle
    self.path = path
    let vocab = handle.vocab
    size = Int(llama_vocab_n_tokens(vocab))
    let count = size
    func valid(_ token: Token) -> Token? { token >= 0 && Int(token) < count ? token : nil }
    beginningOfSequence = valid(llama_vocab_bos(vocab))
    endOfSequence = valid(llama_vocab_eos(vocab))
    addsBeginningOfSequence = llama_vocab_get_add_bos(vocab)
  }

  /// For error sentences.
  private let path: String
  private var vocab: OpaquePointer? { model.vocab }

  /// SHA-256 over (text, attributes, type) of every token in order: equal exactly when tokens mean the same.
  public var fingerprint: SHA256Digest {
    cachedFingerprint.withLock { cached in
      if let cached { return cached }
      let digest = computeFingerprint(of: size)
      cached = digest
      return digest
    }
  }

  /// Fingerprint of the first `count` tokens, for vocabularies that only append to another.
  public func fingerprint(ofFirst count: Int) -> SHA256Digest {
    count >= size ? fingerprint : computeFingerprint(of: max(0, count))
  }

  private func computeFingerprint(of count: Int) -> SHA256Digest {
    let vocab = self.vocab
    var hasher = SHA256Hasher()
    hasher.update(field: "fusionroute/vocabulary/1")
    hasher.update(littleEndian: UInt32(llama_vocab_type(vocab).rawValue))
    hasher.update(littleEndian: UInt64(count))
    // One update per many tokens: the hash's per-call cost matters at 262,144 tokens.
    var bytes: [UInt8] = []
    bytes.reserveCapacity(1 << 16)
    for token in 0..<Token(count) {
      let text = self.text(token)
      withUnsafeBytes(of: UInt32(text.count).littleEndian) { bytes.append(contentsOf: $0) }
      bytes.append(contentsOf: text)
      withUnsafeBytes(of: attributes(token).littleEndian) { bytes.append(contentsOf: $0) }
      if bytes.count > 60_000 {
        hasher.update(bytes)
        bytes.removeAll(keepingCapacity: true)
      }
    }
    hasher.update(bytes)
    return hasher.finalize()
  }

  private var longText: LongText {
    cachedLongText.withLock { cached in
      if let cached { return cached }
      let made = LongText(self)
      cached = made
      return made
    }
  }

  /// Tokens of `text`.
  ///
  /// - Parameters:
  ///   - addSpecial: adds what the model wants at the beginning and the end of a text.
  ///   - parseSpecial: reads texts such as `<|im_start|>` as the special tokens they name.
  public func tokenize(_ text: String, addSpecial: Bool, parseSpecial: Bool) throws -> [Token] {
    let utf8 = Array(text.utf8)
    guard utf8.count <= Self.maximumTextBytes else {
      throw FusionRouteError.badInput(
        "a text of \(utf8.count) bytes is too long to tokenize; the limit is \(Self.maximumTextBytes) bytes")
    }
    guard parseSpecial, utf8.count > LongText.pieceBytes else {
      return try tokenize(utf8[...], addSpecial: addSpecial, parseSpecial: parseSpecial)
    }
    let pieces = longText.pieces(of: utf8)
    guard pieces.count > 1, let first = pieces.first else {
      return try tokenize(utf8[...], addSpecial: addSpecial, parseSpecial: true)
    }
    var tokens = try tokenize(first, addSpecial: false, parseSpecial: true)
    // What a model wants around a text, seen at its first piece.
    let around = addSpecial ? try tokenize(first, addSpecial: true, parseSpecial: true) : tokens
    let before = (0...around.count - tokens.count).first { around.dropFirst($0).starts(with: tokens) } ?? 0
    let after = around.suffix(around.count - tokens.count - before)
    tokens = around.prefix(before) + tokens
    for piece in pieces.dropFirst() { tokens += try tokenize(piece, addSpecial: false, parseSpecial: true) }
    return tokens + after
  }

  /// One call of llama.cpp.
  func tokenize(_ utf8: ArraySlice<UInt8>, addSpecial: Bool, parseSpecial: Bool) throws -> [Token] {
    var tokens = [Token](repeating: 0, count: utf8.count / 2 + 16)
    for _ in 0..<2 {
      let (count, shim) = utf8.withUnsafeBytes { bytes in
        LlamaRuntime.withShimError { error in
          // An empty array may have no base address.
          fr_tokenize(
            vocab, bytes.bindMemory(to: CChar.self).baseAddress ?? UnsafePointer(bitPattern: 1), Int32(utf8.count),
            &tokens, Int32(tokens.count), addSpecial, parseSpecial, error)
        }
      }
      if count >= 0 { return Array(tokens.prefix(Int(count))) }
      guard count != FR_EXCEPTION, count != Int32.min else {
        throw FusionRouteError.badInput(
          "the text cannot be tokenized" + (shim.map { ": \($0)" } ?? "")
            + "; the vocabulary of \(path) may be damaged")
      }
      tokens = [Token](repeating: 0, count: Int(-count))
    }
    throw FusionRouteError.internal("the tokenizer gave two different counts for one text")
  }

  /// The bytes that `token` adds to a text; they may be part of a UTF-8 character. Empty for an id out of range.
  ///
  /// - Parameter special: whether control tokens show their text instead of nothing.
  public func piece(_ token: Token, special: Bool) -> [UInt8] {
    guard contains(token) else { return [] }
    var buffer = [CChar](repeating: 0, count: 64)
    var length = fr_token_to_piece(vocab, token, &buffer, Int32(buffer.count), special)
    if length < 0, length > FR_EXCEPTION {
      buffer = [CChar](repeating: 0, count: Int(-length))
      length = fr_token_to_piece(vocab, token, &buffer, Int32(buffer.count), special)
    }
    guard length > 0 else { return [] }
    return buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }
  }

  /// The token's text in the vocabulary, as the tokenizer's file spells it (not what it adds to a text).
  public func text(_ token: Token) -> [UInt8] {
    guard contains(token), let text = llama_vocab_get_text(vocab, token) else { return [] }
    return Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
  }

  /// llama.cpp's attribute bits (`llama_token_attr`); 0 for an id out of range.
  public func attributes(_ token: Token) -> UInt32 {
    contains(token) ? UInt32(llama_vocab_get_attr(vocab, token).rawValue) : 0
  }

  /// Whether the model marks `token` as the end of a generation.
  public func isEndOfGeneration(_ token: Token) -> Bool {
    contains(token) && llama_vocab_is_eog(vocab, token)
  }

  public func isControl(_ token: Token) -> Bool {
    contains(token) && llama_vocab_is_control(vocab, token)
  }

  private func contains(_ token: Token) -> Bool { token >= 0 && Int(token) < size }

  /// Text of a special token for a chat template; empty if there is none.
  func specialText(_ token: Token?) -> String {
    guard let token else { return "" }
    return String(decoding: piece(token, special: true), as: UTF8.self)
  }
}
