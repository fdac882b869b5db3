#pragma once

// Grammars over a vocabulary: llama.cpp's conversion of JSON schemas and its grammar sampler, see extras.h for how
// errors travel.

#include "extras.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fr_grammar_tokens;
struct fr_grammar;

/// GBNF of JSON schemas, one rule for each of `schema_count` schemas, under its name. Rules that the schemas refer to
/// come first: `{"$ref": "#/a/b"}` means the rule `ref-a-b`. The schemas are trusted: llama.cpp's converter recurses
/// over them, ignores keywords that it does not know, and writes some rules that allow more than the schema.
/// Returns a NUL-terminated text, or NULL.
char *fr_grammar_convert(const char *const *rule_names, const char *const *rules, size_t rule_count,
                         const char *const *schema_names, const char *const *schemas, size_t schema_count,
                         char **error) FR_NOEXCEPT;

/// What grammars need to know of the tokens of `vocab`, which must outlive it; shared by all grammars of a vocabulary.
struct fr_grammar_tokens *fr_grammar_tokens_create(const struct llama_vocab *vocab, char **error) FR_NOEXCEPT;
void fr_grammar_tokens_free(struct fr_grammar_tokens *tokens) FR_NOEXCEPT;

/// A grammar at its start, the rule `root`. The text is trusted: llama.cpp does not end on some grammars with hidden
/// left recursion. `tokens` must outlive the grammar and its clones. `has_canary`: wherever the grammar takes a character
/// of plane 16 (U+100000 and above) it takes any that stands for itself in a JSON string; that makes masks faster.
struct fr_grammar *fr_grammar_parse(const struct fr_grammar_tokens *tokens, const char *gbnf, bool has_canary,
                                    char **error) FR_NOEXCEPT;

/// A grammar in the same state.
struct fr_grammar *fr_grammar_clone(const struct fr_grammar *grammar, char **error) FR_NOEXCEPT;
void fr_grammar_free(struct fr_grammar *grammar) FR_NOEXCEPT;

/// Whether `token` may come next: 1, 0, or FR_EXCEPTION.
int32_t fr_grammar_allows(const struct fr_grammar *grammar, int32_t token, char **error) FR_NOEXCEPT;

/// Writes every token that may not come next, ascending, to `tokens`, which has room for the whole vocabulary. How many
/// there are, or FR_EXCEPTION.
int32_t fr_grammar_forbidden(const struct fr_grammar *grammar, int32_t *tokens, char **error) FR_NOEXCEPT;

/// `token` has come: 1, 0 if it may not (the state is as before), or FR_EXCEPTION (the grammar is of no more use).
int32_t fr_grammar_accept(struct fr_grammar *grammar, int32_t token, char **error) FR_NOEXCEPT;

/// Whether nothing but the end of the text may come next: 1, 0, or FR_EXCEPTION.
int32_t fr_grammar_is_complete(const struct fr_grammar *grammar, char **error) FR_NOEXCEPT;

#ifdef __cplusplus
}
#endif
