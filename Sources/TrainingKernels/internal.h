#ifndef FUSIONROUTE_TRAINING_INTERNAL_H
#define FUSIONROUTE_TRAINING_INTERNAL_H

#include "TrainingKernels.h"

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
