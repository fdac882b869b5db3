// llama-oracle: the plainest use of llama.cpp, kept apart from the runtime so that it can judge it.
//
//   llama-oracle MODEL [--lora FILE[:SCALE]]... [--kv f16|f32] [--chunk N] [--argmax] [--hidden FILE] < tokens
//
// Reads token ids separated by white space, evaluates them one at a time in a context of its own (one thread, one
// sequence, no flash attention) and writes for every position the float32 logits that follow it: [positions,
// vocabulary] in native byte order on stdout. With --argmax: one text line per position, `id logit gap`, where gap is
// the distance of the second best logit. --chunk N evaluates N tokens per call instead of one. --hidden FILE also writes
// what the output matrix multiplies, [positions, width] in float32, which is what a routing head reads.

#define _POSIX_C_SOURCE 200809L

#include <llama.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { max_adapters = 8 };

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void fail(const char *message, const char *detail) {
  fprintf(stderr, "llama-oracle: %s %s\n", message, detail);
  exit(1);
}

static llama_token *read_tokens(size_t *count) {
  size_t capacity = 1024, used = 0;
  llama_token *tokens = malloc(capacity * sizeof *tokens);
  long value;
  while (tokens != NULL && scanf("%ld", &value) == 1) {
    if (used == capacity) {
      capacity *= 2;
      tokens = realloc(tokens, capacity * sizeof *tokens);
      if (tokens == NULL) break;
    }
    tokens[used++] = (llama_token)value;
  }
  if (tokens == NULL) fail("out of memory", "");
  *count = used;
  return tokens;
}

static void write_row(const float *row, int size, int argmax_only) {
  if (!argmax_only) {
    if (fwrite(row, sizeof *row, (size_t)size, stdout) != (size_t)size) fail("cannot write:", strerror(errno));
    return;
  }
  int best = 0;
  float second = -INFINITY;
  for (int i = 1; i < size; i++) {
    if (row[i] > row[best]) {
      second = row[best];
      best = i;
    } else if (row[i] > second) {
      second = row[i];
    }
  }
  printf("%d %.9g %.9g\n", best, row[best], row[best] - second);
}

int main(int argc, char **argv) {
  const char *path = NULL, *adapter_paths[max_adapters];
  float scales[max_adapters];
  size_t adapter_count = 0;
  int argmax_only = 0;
  long chunk = 1;
  const char *hidden_path = NULL;
  enum ggml_type kv = GGML_TYPE_COUNT;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--argmax") == 0) {
      argmax_only = 1;
    } else if (strcmp(argv[i], "--lora") == 0 && i + 1 < argc && adapter_count < max_adapters) {
      char *colon = strrchr(argv[++i], ':');
      scales[adapter_count] = colon != NULL ? strtof(colon + 1, NULL) : 1;
      if (colon != NULL) *colon = '\0';
      adapter_paths[adapter_count++] = argv[i];
    } else if (strcmp(argv[i], "--kv") == 0 && i + 1 < argc) {
      kv = strcmp(argv[++i], "f32") == 0 ? GGML_TYPE_F32 : GGML_TYPE_F16;
    } else if (strcmp(argv[i], "--chunk") == 0 && i + 1 < argc) {
      chunk = strtol(argv[++i], NULL, 10);
    } else if (strcmp(argv[i], "--hidden") == 0 && i + 1 < argc) {
      hidden_path = argv[++i];
    } else if (path == NULL && argv[i][0] != '-') {
      path = argv[i];
    } else {
      fail("unknown or incomplete argument", argv[i]);
    }
  }
  if (path == NULL || chunk < 1 || chunk > 4096)
    fail("usage: llama-oracle MODEL [--lora FILE[:SCALE]] [--kv f16|f32] [--chunk N] [--argmax] [--hidden FILE]", "");

  size_t count = 0;
  llama_token *tokens = read_tokens(&count);

  setenv("GGML_NO_BACKTRACE", "1", 1);
  llama_log_set(quiet, NULL);
  llama_backend_init();
  struct llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = 0;
  model_params.use_extra_bufts = false;
  struct llama_model *model = llama_model_load_from_file(path, model_params);
  if (model == NULL) fail("cannot load", path);
  if (kv == GGML_TYPE_COUNT) kv = llama_model_ftype(model) == LLAMA_FTYPE_ALL_F32 ? GGML_TYPE_F32 : GGML_TYPE_F16;

  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = (uint32_t)count + 8;
  params.n_batch = params.n_ubatch = (uint32_t)chunk;
  params.n_seq_max = 1;
  params.n_threads = params.n_threads_batch = 1;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = params.type_v = kv;
  params.swa_full = true;
  params.embeddings = hidden_path != NULL;
  params.pooling_type = LLAMA_POOLING_TYPE_NONE;
  struct llama_context *context = llama_init_from_model(model, params);
  if (context == NULL) fail("cannot make a context for", path);

  struct llama_adapter_lora *adapters[max_adapters];
  for (size_t i = 0; i < adapter_count; i++) {
    adapters[i] = llama_adapter_lora_init(model, adapter_paths[i]);
    if (adapters[i] == NULL) fail("cannot load the adapter", adapter_paths[i]);
  }
  if (adapter_count > 0) llama_set_adapters_lora(context, adapters, adapter_count, scales);

  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const size_t width = (size_t)llama_model_n_embd(model);
  FILE *hidden = hidden_path != NULL ? fopen(hidden_path, "wb") : NULL;
  if (hidden_path != NULL && hidden == NULL) fail("cannot write", hidden_path);
  struct llama_batch batch = llama_batch_init((int32_t)chunk, 0, 1);
  for (size_t done = 0; done < count; done += (size_t)batch.n_tokens) {
    batch.n_tokens = 0;
    for (size_t position = done; position < count && batch.n_tokens < chunk; position++, batch.n_tokens++) {
      const int32_t i = batch.n_tokens;
      batch.token[i] = tokens[position];
      batch.pos[i] = (llama_pos)position;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) fail("llama_decode failed for", path);
    for (int32_t i = 0; i < batch.n_tokens; i++) write_row(llama_get_logits_ith(context, i), vocabulary, argmax_only);
    for (int32_t i = 0; i < batch.n_tokens && hidden != NULL; i++)
      if (fwrite(llama_get_embeddings_ith(context, i), sizeof(float), width, hidden) != width)
        fail("cannot write", hidden_path);
  }
  if (hidden != NULL && fclose(hidden) != 0) fail("cannot write", hidden_path);
  if (fflush(stdout) != 0) fail("cannot write:", strerror(errno));
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  free(tokens);
  return 0;
}
