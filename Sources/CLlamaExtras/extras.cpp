#include "extras.h"

#include <dlfcn.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <llama.h>

#include <cstdlib>
#include <string>

#include "guarded.hpp"

using fr::guarded;

namespace {

/// A function of the CPU's backend, or nullptr.
template <typename Function>
Function cpu_function(const char *name) {
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr) return nullptr;
  return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

}  // namespace

void fr_load_backends(void) noexcept {
  guarded<int>(0, nullptr, [] {
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) != nullptr) return 0;
    // By its own search it would also load what lies in the working directory.
    Dl_info library;
    if (dladdr(reinterpret_cast<void *>(&ggml_backend_load_all_from_path), &library) == 0) return 0;
    const std::string path = library.dli_fname;
    const size_t slash = path.rfind('/');
    ggml_backend_load_all_from_path(slash == std::string::npos ? "." : path.substr(0, slash).c_str());
    return 0;
  });
}

void *fr_threadpool_new(int32_t threads) noexcept {
  return guarded<void *>(nullptr, nullptr, [&]() -> void * {
    auto make = cpu_function<ggml_threadpool *(*)(ggml_threadpool_params *)>("ggml_threadpool_new");
    if (make == nullptr) return nullptr;
    ggml_threadpool_params params = ggml_threadpool_params_default(threads);
    return make(&params);
  });
}

void fr_threadpool_free(void *pool) noexcept {
  guarded<int>(0, nullptr, [&] {
    auto release = cpu_function<void (*)(ggml_threadpool *)>("ggml_threadpool_free");
    if (release != nullptr && pool != nullptr) release(static_cast<ggml_threadpool *>(pool));
    return 0;
  });
}

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

bool fr_joins_distant_sequences(void) noexcept {
  // Not called by name: a llama.cpp without the patch does not have it.
  const auto joins = reinterpret_cast<bool (*)(void)>(dlsym(RTLD_DEFAULT, "llama_joins_distant_sequences"));
  return joins != nullptr && joins();
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
