#ifndef FUSIONROUTE_TRAINING_INTERNAL_H
#define FUSIONROUTE_TRAINING_INTERNAL_H

#include "TrainingKernels.h"

typedef uint32_t fr_words __attribute__((vector_size(16)));

/// to[j * to_stride + i] = from[i * from_stride + j] for i, j in 0 ..< 4, of any 32-bit elements.
static inline __attribute__((always_inline)) void fr_transpose4(
    const void *from, int64_t from_stride, void *to, int64_t to_stride) {
  fr_words r[4];
  for (int i = 0; i < 4; i++) __builtin_memcpy(&r[i], (const char *)from + 4 * i * from_stride, 16);
#if defined(__clang__)
  const fr_words a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const fr_words c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  const fr_words t[4] = {
      __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
      __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
#else
  fr_words t[4];
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) t[j][i] = r[i][j];
  }
#endif
  for (int j = 0; j < 4; j++) __builtin_memcpy((char *)to + 4 * j * to_stride, &t[j], 16);
}

enum {
  /// Rows of a quantised matrix that are turned into floats at a time.
  fr_panel_rows = 192,
  /// Blocks of the built-in product: a packed block of B fills half of a second-level cache.
  fr_block_k = 256,
  fr_block_n = 512,
  fr_block_m = 144,
  /// Products with so few rows are computed without packing the other matrix, up to this depth.
  fr_few_rows = 32,
  fr_few_k = 4096,
};

/// A thread's buffers.
struct fr_scratch {
  float *packed_a;
  float *packed_b;
  float *panel;
  size_t panel_capacity;
};

/// C = A·B (+ C, if `add`), with the strides of `fr_gemm`.
typedef void (*fr_multiply)(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);

/// The same in F32 for the shapes of adapters, few columns or few rows, where packing costs more than the product. Does
/// nothing and returns 0 for others. Which shapes is a matter of the parameters' sizes, not of the batch's.
typedef int (*fr_multiply_few)(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);

struct fr_engine {
  int threads;
  fr_multiply multiply;
  fr_multiply_few multiply_few;
  struct fr_scratch *scratch;
};

/// Loops over elements and rows, for one instruction set.
struct fr_elements {
  void (*log_probabilities)(
      float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets,
      float *out_log_probabilities, float *out_sums, int32_t *out_argmax);
  void (*row_gradient)(
      float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets, const float *sums,
      const float *coefficients);
  void (*adamw)(
      float *values, const float *gradient, float *moment1, float *moment2, int64_t count, float scale, float rate,
      float decay, float beta1, float beta2, float epsilon, float correction1, float correction2);
  void (*silu_back)(float *out, const float *gradient, const float *x, int64_t count);
  void (*softcap)(float *out, const float *x, float cap, int64_t count);
  void (*softcap_back)(float *out, const float *gradient, const float *x, float cap, int64_t count);
  void (*gelu)(float *out, const float *x, int64_t count);
  void (*geglu)(float *out, const float *x, const float *up, int64_t count);
  void (*gelu_back)(float *out, const float *gradient, const float *x, int64_t count);
};

/// Those for this CPU.
const struct fr_elements *fr_elements(void);

extern const struct fr_elements fr_elements_plain;
#if defined(__x86_64__) && defined(__clang__)
extern const struct fr_elements fr_elements_v3, fr_elements_v4;
#endif

void fr_multiply_plain(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
void fr_multiply_v3(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
void fr_multiply_v4(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
void fr_multiply_bf16(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
void fr_multiply_blas(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);

int fr_multiply_few_plain(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
int fr_multiply_few_v3(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
int fr_multiply_few_v4(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);
#endif
