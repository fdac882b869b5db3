#include "grammar.h"

#include <llama.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "guarded.hpp"
#include "json-schema-to-grammar.h"
#include "json.h"

using fr::guarded;

namespace {

/// A strict UTF-8 decoder (Unicode 15, table 3-7): llama.cpp's grammars take overlong forms, surrogates and bytes that
/// begin no character, which a reader of the text would replace.
struct utf8_state {
  uint8_t remaining = 0;
  /// What the next byte may be, while some remain.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;

  bool at_boundary() const { return remaining == 0; }

  bool feed(uint8_t byte) {
    if (remaining > 0) {
      if (byte < low || byte > high) return false;
      remaining--;
      low = 0x80, high = 0xBF;
      return true;
    }
    if (byte < 0x80) return true;
    low = 0x80, high = 0xBF;
    if (byte >= 0xC2 && byte <= 0xDF) {
      remaining = 1;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
      remaining = 2;
      if (byte == 0xE0) low = 0xA0;
      if (byte == 0xED) high = 0x9F;
    } else if (byte >= 0xF0 && byte <= 0xF4) {
      remaining = 3;
      if (byte == 0xF0) low = 0x90;
      if (byte == 0xF4) high = 0x8F;
    } else {
      return false;
    }
    return true;
  }

  bool feed(const std::string &bytes) {
    for (const char byte : bytes) {
      if (!feed(static_cast<uint8_t>(byte))) return false;
    }
    return true;
  }
};

/// U+10FFFD: private, and in no vocabulary's own tokens. See fr_grammar::run.
constexpr char canary[] = "\xF4\x8F\xBF\xBD";
/// The longest run of characters that is looked for; longer tokens are tested one by one.
constexpr int longest_run = 24;

/// How many characters of a JSON string `text` is, each standing for itself; 0 if it is something else.
uint8_t count_plain(const std::string &text) {
  int count = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7F || byte == '"' || byte == '\\') return 0;
    count += (byte & 0xC0) != 0x80;
  }
  return count <= longest_run ? static_cast<uint8_t>(count) : 0;
}

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

std::string piece_of(const llama_vocab *vocab, llama_token token, bool special) {
  std::string piece(32, '\0');
  int32_t size = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, special);
  if (size < 0) {
    piece.resize(static_cast<size_t>(-size));
    size = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, special);
  }
  piece.resize(static_cast<size_t>(std::max(size, 0)));
  return piece;
}

bool begins_with(const std::string &text, const std::string &prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

}  // namespace

struct fr_grammar_tokens {
  explicit fr_grammar_tokens(const llama_vocab *vocab)
      : vocab(vocab),
        pieces(static_cast<size_t>(llama_vocab_n_tokens(vocab))),
        plain(pieces.size()),
        children(pieces.size()) {
    std::vector<llama_token> sorted;
    for (size_t i = 0; i < pieces.size(); i++) {
      const auto token = static_cast<llama_token>(i);
      if (llama_vocab_is_eog(vocab, token)) {
        ends.push_back(token);
        continue;
      }
      // A control token shows nothing in the text, but grammars would read its name.
      std::string piece = piece_of(vocab, token, /* special: */ false);
      if (piece.empty() || piece.find('\0') != std::string::npos || piece != piece_of(vocab, token, true)) continue;
      for (int byte = 0; byte < 4; byte++) {
        if (piece.size() == 1 && piece[0] == canary[byte]) canary_tokens[byte] = token;
      }
      pieces[i] = std::move(piece);
      sorted.push_back(token);
    }
    std::sort(sorted.begin(), sorted.end(), [this](llama_token a, llama_token b) {
      const int order = pieces[a].compare(pieces[b]);
      return order != 0 ? order < 0 : a < b;
    });
    // Tokens that begin the current one, each longer than the one before.
    std::vector<llama_token> prefixes;
    for (const llama_token token : sorted) {
      const std::string &piece = pieces[token];
      if (is_continuation(piece[0])) {
        continuing.push_back(token);
        continue;
      }
      utf8_state state;
      if (!state.feed(piece)) {
        pieces[token].clear();
        continue;
      }
      while (!prefixes.empty() && !begins_with(piece, pieces[prefixes.back()])) prefixes.pop_back();
      (prefixes.empty() ? roots : children[prefixes.back()]).push_back(token);
      // A part of a character is no prefix to judge by: the grammar may refuse it where it takes the whole character.
      if (!state.at_boundary()) continue;
      prefixes.push_back(token);
      plain[token] = count_plain(piece);
    }
  }

  bool contains(llama_token token) const { return token >= 0 && static_cast<size_t>(token) < pieces.size(); }

  const llama_vocab *vocab;
  /// What each token adds to a text; empty if it may never come.
  std::vector<std::string> pieces;
  /// How many characters of a JSON string each token is, see count_plain.
  std::vector<uint8_t> plain;
  /// The bytes of the canary; -1 if the vocabulary has no token for one.
  llama_token canary_tokens[4] = {-1, -1, -1, -1};
  /// Tokens that end a text.
  std::vector<llama_token> ends;
  /// Tokens that begin with a whole character and that no other token begins; and for each token those whose longest
  /// prefix it is. A grammar that refuses a token refuses all that begin with it.
  std::vector<llama_token> roots;
  std::vector<std::vector<llama_token>> children;
  /// Tokens that begin inside a character.
  std::vector<llama_token> continuing;
};

struct fr_grammar {
  const fr_grammar_tokens *tokens;
  std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> sampler{nullptr, &llama_sampler_free};
  /// Whether only what takes every character of a JSON string takes one of plane 16.
  bool has_canary = false;
  utf8_state utf8;
  bool ended = false;
  bool broken = false;

  void check() const {
    if (broken) throw std::runtime_error("the grammar failed before");
  }

  /// Of `candidates` those that the grammar takes, in their order.
  std::vector<llama_token> allowed(const std::vector<llama_token> &candidates) const {
    std::vector<llama_token_data> data;
    data.reserve(candidates.size());
    for (const llama_token token : candidates) {
      utf8_state after = utf8;
      if (after.feed(tokens->pieces[token])) data.push_back({token, 0, 0});
    }
    return applied(std::move(data));
  }

  std::vector<llama_token> applied(std::vector<llama_token_data> data) const {
    if (data.empty()) return {};
    llama_token_data_array array = {data.data(), data.size(), -1, false};
    llama_sampler_apply(sampler.get(), &array);
    std::vector<llama_token> result;
    result.reserve(array.size);
    for (size_t i = 0; i < array.size; i++) {
      if (array.data[i].logit != -INFINITY) result.push_back(array.data[i].id);
    }
    return result;
  }

  bool may_end() const {
    if (ended) return true;
    return utf8.at_boundary() && !tokens->ends.empty() && !applied({{tokens->ends.front(), 0, 0}}).empty();
  }

  bool allows(llama_token token) const {
    check();
    if (!tokens->contains(token)) return false;
    if (llama_vocab_is_eog(tokens->vocab, token)) return may_end();
    return !ended && !tokens->pieces[token].empty() && !allowed({token}).empty();
  }

  std::unique_ptr<fr_grammar> copy() const {
    check();
    auto copy = std::make_unique<fr_grammar>();
    copy->tokens = tokens;
    copy->has_canary = has_canary;
    copy->utf8 = utf8;
    copy->ended = ended;
    copy->sampler.reset(llama_sampler_clone(sampler.get()));
    return copy;
  }

  /// False if `token` may not come.
  bool accept(llama_token token) {
    // llama.cpp aborts on an end that the grammar does not allow.
    if (!allows(token)) return false;
    if (llama_vocab_is_eog(tokens->vocab, token)) {
      ended = true;
      return true;
    }
    broken = true;
    llama_sampler_accept(sampler.get(), token);
    utf8.feed(tokens->pieces[token]);
    broken = false;
    return true;
  }

  /// How many characters of a JSON string may come next, whatever they are. Most tokens are such characters, and inside
  /// of a string all of them would have to be tested. Instead a character is tried that only rules for any character
  /// take: after it nothing else is left to take the next one.
  int run() const {
    if (!has_canary || !utf8.at_boundary() || !allows(tokens->canary_tokens[0])) return 0;
    const auto trial = copy();
    for (int count = 0; count < longest_run; count++) {
      for (const llama_token token : tokens->canary_tokens) {
        if (!trial->accept(token)) return count;
      }
    }
    return longest_run;
  }

  /// For every token whether it may come next.
  std::vector<char> mask() const {
    check();
    std::vector<char> mask(tokens->pieces.size());
    const auto allow = [&](const std::vector<llama_token> &list) {
      for (const llama_token token : list) mask[token] = 1;
    };
    if (may_end()) allow(tokens->ends);
    if (ended) return mask;
    if (!utf8.at_boundary()) {
      allow(allowed(tokens->continuing));
      return mask;
    }
    const int free = run();
    std::vector<llama_token> level = tokens->roots;
    while (!level.empty()) {
      const auto known = std::partition(level.begin(), level.end(), [&](llama_token token) {
        return tokens->plain[token] > 0 && tokens->plain[token] <= free;
      });
      std::vector<llama_token> taken = allowed({known, level.end()});
      taken.insert(taken.end(), level.begin(), known);
      allow(taken);
      level.clear();
      for (const llama_token token : taken) {
        level.insert(level.end(), tokens->children[token].begin(), tokens->children[token].end());
      }
    }
    return mask;
  }
};

char *fr_grammar_convert(const char *const *rule_names, const char *const *rules, size_t rule_count,
                         const char *const *schema_names, const char *const *schemas, size_t schema_count,
                         char **error) noexcept {
  return guarded<char *>(nullptr, error, [&] {
    const std::string text = build_grammar([&](const common_grammar_builder &builder) {
      for (size_t i = 0; i < rule_count; i++) builder.add_rule(rule_names[i], rules[i]);
      for (size_t i = 0; i < schema_count; i++) {
        const auto document = common_chat_schema_from_json(common_json::parse(schemas[i]));
        builder.add_schema(schema_names[i], *document.root);
      }
    });
    char *memory = fr::copy(text.data(), text.size());
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  });
}

fr_grammar_tokens *fr_grammar_tokens_create(const llama_vocab *vocab, char **error) noexcept {
  return guarded<fr_grammar_tokens *>(nullptr, error, [&] { return new fr_grammar_tokens(vocab); });
}

void fr_grammar_tokens_free(fr_grammar_tokens *tokens) noexcept { delete tokens; }

fr_grammar *fr_grammar_parse(const fr_grammar_tokens *tokens, const char *gbnf, bool has_canary,
                             char **error) noexcept {
  return guarded<fr_grammar *>(nullptr, error, [&] {
    auto grammar = std::make_unique<fr_grammar>();
    grammar->tokens = tokens;
    const auto *bytes = tokens->canary_tokens;
    grammar->has_canary = has_canary && std::none_of(bytes, bytes + 4, [](llama_token token) { return token < 0; });
    // An empty text would be a grammar that forbids nothing.
    if (*gbnf == '\0') throw std::runtime_error("the grammar is empty");
    grammar->sampler.reset(llama_sampler_init_grammar(tokens->vocab, gbnf, "root"));
    if (grammar->sampler == nullptr) throw std::runtime_error("llama.cpp refuses the grammar");
    return grammar.release();
  });
}

fr_grammar *fr_grammar_clone(const fr_grammar *grammar, char **error) noexcept {
  return guarded<fr_grammar *>(nullptr, error, [&] { return grammar->copy().release(); });
}

void fr_grammar_free(fr_grammar *grammar) noexcept { delete grammar; }

int32_t fr_grammar_allows(const fr_grammar *grammar, int32_t token, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] { return grammar->allows(token) ? 1 : 0; });
}

int32_t fr_grammar_forbidden(const fr_grammar *grammar, int32_t *tokens, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] {
    const std::vector<char> allowed = grammar->mask();
    int32_t count = 0;
    for (size_t token = 0; token < allowed.size(); token++) {
      if (!allowed[token]) tokens[count++] = static_cast<int32_t>(token);
    }
    return count;
  });
}

int32_t fr_grammar_accept(fr_grammar *grammar, int32_t token, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] { return grammar->accept(token) ? 1 : 0; });
}

int32_t fr_grammar_is_complete(const fr_grammar *grammar, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] {
    grammar->check();
    if (grammar->ended) return 1;
    if (!grammar->utf8.at_boundary()) return 0;
    // Without a token for the end, nothing else says that the text may end here.
    if (!grammar->tokens->ends.empty() && !grammar->may_end()) return 0;
    return grammar->allowed(grammar->tokens->roots).empty() ? 1 : 0;
  });
}
