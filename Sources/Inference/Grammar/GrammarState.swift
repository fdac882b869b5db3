internal import CLlamaExtras
internal import Core
internal import Foundation

/// The tokens of a model as grammars see them; made once for all grammars of the model.
final class GrammarTokens: @unchecked Sendable {
  /// Never written once it is made.
  let pointer: OpaquePointer
  let size: Int
  /// Holds the vocabulary that `pointer` points into.
  private let model: Model.Handle

  init(model: Model) throws {
    let vocab = model.handle.vocab
    let (pointer, shim) = LlamaRuntime.withShimError { fr_grammar_tokens_create(vocab, $0) }
    guard let pointer else {
      throw FusionRouteError.internal("the vocabulary of \(model.path) cannot be used by a grammar: \(shim ?? "")")
    }
    self.pointer = pointer
    self.model = model.handle
    size = model.vocabulary.size
  }

  deinit { fr_grammar_tokens_free(pointer) }
}

/// Owns a grammar of the C library in one of its states.
///
/// All but `accept` only read, from any number of threads. `accept` needs that nobody else holds the state.
final class GrammarState: @unchecked Sendable {
  private let pointer: OpaquePointer
  private let tokens: GrammarTokens

  private init(_ pointer: OpaquePointer, _ tokens: GrammarTokens) {
    self.pointer = pointer
    self.tokens = tokens
  }

  /// The start of the grammar `gbnf`, which is trusted.
  ///
  /// - Parameter hasCanary: whether it takes characters of plane 16 only where it takes any of a JSON string.
  convenience init(gbnf: String, hasCanary: Bool, tokens: GrammarTokens) throws {
    let ((pointer, shim), lines) = LlamaLog.shared.capturing {
      LlamaRuntime.withShimError { fr_grammar_parse(tokens.pointer, gbnf, hasCanary, $0) }
    }
    guard let pointer else {
      throw FusionRouteError.badInput("the grammar cannot be used\(LlamaLog.reason(lines, shim: shim))")
    }
    self.init(pointer, tokens)
  }

  deinit { fr_grammar_free(pointer) }

  func copy() throws -> GrammarState {
    let (copy, shim) = LlamaRuntime.withShimError { fr_grammar_clone(pointer, $0) }
    guard let copy else { throw Self.failure(shim) }
    return GrammarState(copy, tokens)
  }

  func allows(_ token: Token) throws -> Bool {
    let (result, shim) = LlamaRuntime.withShimError { fr_grammar_allows(pointer, token, $0) }
    guard result >= 0 else { throw Self.failure(shim) }
    return result == 1
  }

  /// Every token that may not come next, ascending.
  func forbidden(isComplete: Bool) throws -> [Token] {
    var failed: String?
    let forbidden = [Token](unsafeUninitializedCapacity: tokens.size) { buffer, initialized in
      let (count, shim) = LlamaRuntime.withShimError { fr_grammar_forbidden(pointer, buffer.baseAddress, $0) }
      initialized = max(0, Int(count))
      if count < 0 { failed = shim ?? "no reason given" }
    }
    if let failed { throw Self.failure(failed) }
    guard forbidden.count < tokens.size || isComplete else {
      throw FusionRouteError.badInput(
        "the model's vocabulary has no token for what must come next in the answer's format")
    }
    return forbidden
  }

  /// False if `token` may not come; the state is then as before.
  func accept(_ token: Token) throws -> Bool {
    let (result, shim) = LlamaRuntime.withShimError { fr_grammar_accept(pointer, token, $0) }
    guard result >= 0 else { throw Self.failure(shim) }
    return result == 1
  }

  func isComplete() throws -> Bool {
    let (result, shim) = LlamaRuntime.withShimError { fr_grammar_is_complete(pointer, $0) }
    guard result >= 0 else { throw Self.failure(shim) }
    return result == 1
  }

  private static func failure(_ shim: String?) -> FusionRouteError {
    .internal("the grammar failed: \(shim ?? "no reason given")")
  }
}
