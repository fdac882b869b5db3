#include "extras.h"

#include <llama.h>

#include <cstdlib>

#include "guarded.hpp"

using fr::guarded;

void fr_free(void *memory) noexcept { std::free(memory); }

llama_model *fr_model_load(const char *path, const void *params, char **error) noexcept {
  return guarded<llama_model *>(nullptr, error, [&] {
    return llama_model_load_from_file(path, *static_cast<const llama_model_params *>(params));
  });
}

llama_adapter_lora *fr_adapter_load(llama_model *model, const char *path, char **error) noexcept {
  return guarded<llama_adapter_lora *>(nullptr, error, [&] { return llama_adapter_lora_init(model, path); });
}

llama_context *fr_context_init(llama_model *model, const void *params, char **error) noexcept {
  return guarded<llama_context *>(nullptr, error, [&] {
    return llama_init_from_model(model, *static_cast<const llama_context_params *>(params));
  });
}

int32_t fr_decode(llama_context *context, const void *batch, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] {
    return llama_decode(context, *static_cast<const llama_batch *>(batch));
  });
}

int32_t fr_tokenize(const llama_vocab *vocab, const char *text, int32_t text_length, int32_t *tokens, int32_t capacity,
                    bool add_special, bool parse_special, char **error) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, error, [&] {
    return llama_tokenize(vocab, text, text_length, tokens, capacity, add_special, parse_special);
  });
}

int32_t fr_token_to_piece(const llama_vocab *vocab, int32_t token, char *buffer, int32_t capacity,
                          bool special) noexcept {
  return guarded<int32_t>(FR_EXCEPTION, nullptr, [&] {
    return llama_token_to_piece(vocab, token, buffer, capacity, 0, special);
  });
}

uint32_t fr_quantize(const char *input, const char *output, const void *params, char **error) noexcept {
  return guarded<uint32_t>(1, error, [&] {
    return llama_model_quantize(input, output, static_cast<const llama_model_quantize_params *>(params));
  });
}
