#pragma once

// A C face for the parts of llama.cpp that are C++ or that may throw: no exception leaves any of these functions.
//
// Functions with an `error` parameter set it to a text of what went wrong (free it with fr_free) when they fail, and
// leave it alone when they succeed. llama.h's structs travel as `const void *`, so that this header needs no other.
// Grammars have a header of their own, grammar.h.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define FR_NOEXCEPT noexcept
#else
#define FR_NOEXCEPT
#endif

struct llama_model;
struct llama_vocab;
struct llama_context;
struct llama_adapter_lora;

/// Returned by fr_decode and fr_tokenize when a C++ exception was caught; outside the range of llama.cpp's own codes.
enum { FR_EXCEPTION = -1000000 };

/// Frees texts that other functions of this header returned.
void fr_free(void *memory) FR_NOEXCEPT;

/// Renders a Jinja chat template the way Hugging Face's `apply_chat_template` does (trim_blocks and lstrip_blocks on).
/// `roles` and `contents` hold `count` UTF-8 texts each. Returns `*size` bytes (also NUL-terminated), or NULL.
char *fr_render_chat(const char *source, const char *beginning, const char *end, const char *const *roles,
                     const char *const *contents, size_t count, bool add_generation_prompt, size_t *size,
                     char **error) FR_NOEXCEPT;

/// llama_model_load_from_file; `params` points to a struct llama_model_params.
struct llama_model *fr_model_load(const char *path, const void *params, char **error) FR_NOEXCEPT;

/// llama_adapter_lora_init.
struct llama_adapter_lora *fr_adapter_load(struct llama_model *model, const char *path, char **error) FR_NOEXCEPT;

/// llama_init_from_model; `params` points to a struct llama_context_params.
struct llama_context *fr_context_init(struct llama_model *model, const void *params, char **error) FR_NOEXCEPT;

/// Whether llama.cpp evaluates sequences together that are not neighbours, as Deploy/lib/llama.patch has it.
bool fr_joins_distant_sequences(void) FR_NOEXCEPT;

/// llama_decode; `batch` points to a struct llama_batch.
int32_t fr_decode(struct llama_context *context, const void *batch, char **error) FR_NOEXCEPT;

/// llama_tokenize.
int32_t fr_tokenize(const struct llama_vocab *vocab, const char *text, int32_t text_length, int32_t *tokens,
                    int32_t capacity, bool add_special, bool parse_special, char **error) FR_NOEXCEPT;

/// llama_token_to_piece without stripping; negative: the capacity that is needed, or FR_EXCEPTION.
int32_t fr_token_to_piece(const struct llama_vocab *vocab, int32_t token, char *buffer, int32_t capacity,
                          bool special) FR_NOEXCEPT;

/// Makes the CPU's backend known. Where llama.cpp was built with its backends as plug-ins, loads those that lie beside
/// its libraries: of the CPU's variants the best that this machine can run. Does nothing where one is known already.
void fr_load_backends(void) FR_NOEXCEPT;

/// A pool of `threads` computing threads from the CPU's backend; NULL if it has none. Asked of the backend itself: where
/// backends are plug-ins, another copy's threads would compute with another variant's kernels.
void *fr_threadpool_new(int32_t threads) FR_NOEXCEPT;

/// Frees what fr_threadpool_new returned.
void fr_threadpool_free(void *pool) FR_NOEXCEPT;

/// llama_model_quantize; `params` points to a struct llama_model_quantize_params. 0 on success.
uint32_t fr_quantize(const char *input, const char *output, const void *params, char **error) FR_NOEXCEPT;

#ifdef __cplusplus
}
#endif
