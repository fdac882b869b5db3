#ifndef FUSIONROUTE_TRAINING_KERNELS_H
#define FUSIONROUTE_TRAINING_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#ifdef __cplusplus
extern "C" {
#endif

// Matrix products, the graph rewrite that puts them into ggml's forward and backward pass, and row-wise kernels of
// losses and the optimiser. Everything else of training is in Swift.

/// How matrix products multiply. Sums are always F32.
enum fr_precision {
  fr_precision_f32 = 0,
  /// Factors rounded to BF16, where the CPU multiplies those natively.
  fr_precision_bf16 = 1,
};

/// Which library multiplies.
enum fr_gemm_library {
  fr_gemm_builtin = 0,
  /// OpenBLAS or Accelerate, F32 alone.
  fr_gemm_blas = 1,
};

/// Whether this CPU has BF16 dot products.
int fr_has_bf16(void);

/// Whether products with factors rounded to BF16 are clearly faster here (by a quarter) than those of F32. Multiplies a
/// few matrices the first time; the answer is the process's.
int fr_bf16_is_faster(void);

/// Whether the built-in F32 product is made for this CPU's vectors; elsewhere it is portable, not fast.
int fr_has_tuned_f32(void);

/// Whether OpenBLAS (Linux) or Accelerate (macOS) can be loaded and multiplies some small matrices rightly; loads it.
int fr_has_blas(void);

/// The buffers of matrix products for some number of threads. One graph at a time may use it.
typedef struct fr_engine fr_engine;

/// NULL if there is no memory.
fr_engine *fr_engine_new(int threads, enum fr_precision precision, enum fr_gemm_library library);
void fr_engine_free(fr_engine *engine);

/// C = A·B (+ C, if `add`), row-major with any strides: C[i*ldc + j], A[i*a_row + k*a_column], B[k*b_row + j*b_column].
///
/// An element of C depends on its row of A and its column of B alone, not on m, n or its place (built-in library only).
void fr_gemm(
    fr_engine *engine, int thread, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add);

// Carriers: operations that ggml differentiates stand in for those that it does not. The mark is on the operand.

/// `silu(x)` of a graph stands for cap·tanh(x / cap).
void fr_mark_softcap(struct ggml_tensor *x, float cap);

/// `swiglu_split(x, up)` of a graph stands for gelu(x)·up. With `table`, the forward pass reads GELU from ggml's table of
/// half-precision values, as llama.cpp does; without, it is smooth. The backward pass is that of the smooth function.
void fr_mark_gelu(struct ggml_tensor *x, int table);

/// Puts our matrix products and marked functions in place of ggml's in the nodes of `graph`, forward and backward.
/// Call after the graph's memory is allocated.
void fr_graph_rewrite(struct ggml_cgraph *graph, fr_engine *engine);

/// Flags `tensor` as a start of the backward pass; ggml's own function takes scalars only.
void fr_set_loss(struct ggml_tensor *tensor);

// Row-wise kernels.

/// For every row: out_log_probabilities[r] = log softmax(row)[targets[r]], out_sums[r] = log-sum-exp, and
/// out_argmax[r] = its largest element (the first of equals). With cap > 0 rows are first replaced by cap·tanh(row / cap).
/// Targets lie in 0 ..< width.
void fr_rows_log_probabilities(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets,
    float *out_log_probabilities, float *out_sums, int32_t *out_argmax);

/// Replaces rows by coefficient·(softmax(row) − onehot(target)), the gradient of −coefficient·log softmax(row)[target],
/// through the soft cap if cap > 0. `sums` are those of `fr_rows_log_probabilities`.
void fr_rows_gradient(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets, const float *sums,
    const float *coefficients);

/// One AdamW step with decoupled decay on `count` values. `gradient` is multiplied by `scale` first; `correction1` and
/// `correction2` are 1 − βᵗ.
void fr_adamw(
    float *values, const float *gradient, float *moment1, float *moment2, int64_t count, float scale, float rate,
    float decay, float beta1, float beta2, float epsilon, float correction1, float correction2);

/// Sum of squares in double, in a fixed order.
double fr_sum_of_squares(const float *values, int64_t count);

/// 1 if every value is finite.
int fr_is_finite(const float *values, int64_t count);

#ifdef __cplusplus
}
#endif

#endif
