// For clock_gettime.
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "internal.h"

// OpenBLAS and Accelerate are loaded when they are wanted, so that neither is needed to build or to start.

enum { row_major = 101, no_transpose = 111, transpose = 112 };
typedef void (*cblas_sgemm_function)(
    int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
    const float *b, int ldb, float beta, float *c, int ldc);

static cblas_sgemm_function cblas_sgemm_loaded;
static pthread_once_t blas_once = PTHREAD_ONCE_INIT;

/// Whether the library multiplies as it should: all four combinations of transposed factors, added to what was there.
static int blas_is_right(void) {
  enum { m = 13, n = 37, k = 29 };
  float a[m * k], b[k * n], c[m * n];
  for (int i = 0; i < m * k; i++) a[i] = (float)(i * 7 % 23 - 11) / 8;
  for (int i = 0; i < k * n; i++) b[i] = (float)(i * 5 % 19 - 9) / 8;
  for (int form = 0; form < 4; form++) {
    const int a_plain = form & 1, b_plain = form >> 1;
    for (int i = 0; i < m * n; i++) c[i] = 1;
    cblas_sgemm_loaded(
        row_major, a_plain ? no_transpose : transpose, b_plain ? no_transpose : transpose, m, n, k, 1, a,
        a_plain ? k : m, b, b_plain ? n : k, 1, c, n);
    for (int i = 0; i < m; i++) {
      for (int j = 0; j < n; j++) {
        double sum = 1;
        for (int p = 0; p < k; p++) {
          sum += (double)a[a_plain ? i * k + p : p * m + i] * (double)b[b_plain ? p * n + j : j * k + p];
        }
        // Written so that NaN fails.
        if (!(fabs((double)c[i * n + j] - sum) <= 1e-3)) return 0;
      }
    }
  }
  return 1;
}

static void load_blas(void) {
#if defined(__APPLE__)
  void *library = dlopen("/System/Library/Frameworks/Accelerate.framework/Accelerate", RTLD_NOW | RTLD_LOCAL);
#else
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
#endif
  if (library == NULL) return;
  // Work is divided by ggml's threads.
  void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
  if (set_threads != NULL) set_threads(1);
  cblas_sgemm_loaded = (cblas_sgemm_function)dlsym(library, "cblas_sgemm");
  if (cblas_sgemm_loaded != NULL && !blas_is_right()) cblas_sgemm_loaded = NULL;
}

int fr_has_blas(void) {
  pthread_once(&blas_once, load_blas);
  return cblas_sgemm_loaded != NULL;
}

int fr_has_tuned_f32(void) {
#if defined(__x86_64__) && defined(__clang__)
  return __builtin_cpu_supports("x86-64-v3") != 0;
#else
  return 0;
#endif
}

int fr_has_bf16(void) {
#if defined(__x86_64__) && defined(__clang__)
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("x86-64-v4");
#else
  return 0;
#endif
}

static fr_multiply builtin(enum fr_precision precision) {
#if defined(__x86_64__) && defined(__clang__)
  if (precision == fr_precision_bf16 && fr_has_bf16()) return fr_multiply_bf16;
  if (__builtin_cpu_supports("x86-64-v4")) return fr_multiply_v4;
  if (__builtin_cpu_supports("x86-64-v3")) return fr_multiply_v3;
#else
  (void)precision;
#endif
  return fr_multiply_plain;
}

static fr_multiply_few builtin_few(void) {
#if defined(__x86_64__) && defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) return fr_multiply_few_v4;
  if (__builtin_cpu_supports("x86-64-v3")) return fr_multiply_few_v3;
#endif
  return fr_multiply_few_plain;
}

#if defined(__x86_64__) && defined(__clang__)
static int bf16_is_faster;
static pthread_once_t bf16_once = PTHREAD_ONCE_INIT;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/// Some CPUs that multiply BF16 natively do so at half the pace of F32 (an Emerald Rapids Xeon in a virtual machine:
/// 86 against 176 GFLOP/s), others at twice (EPYC 9004). Takes a few milliseconds.
static void compare_bf16(void) {
  enum { m = 96, n = 192, k = 576, rounds = 8 };
  fr_engine *bf16 = fr_engine_new(1, fr_precision_bf16, fr_gemm_builtin);
  fr_engine *f32 = fr_engine_new(1, fr_precision_f32, fr_gemm_builtin);
  float *values = calloc(m * k + k * n + m * n, sizeof(float));
  if (bf16 != NULL && f32 != NULL && values != NULL) {
    for (int i = 0; i < m * k + k * n; i++) values[i] = (float)(i * 7 % 23 - 11) / 8;
    double best[2] = {INFINITY, INFINITY};
    // In turns, and the least of each: what else runs on the machine makes a round longer, never shorter.
    for (int round = 0; round < 2 * rounds; round++) {
      const double start = seconds();
      fr_gemm(
          round & 1 ? bf16 : f32, 0, m, n, k, values, k, 1, values + m * k, n, 1, values + m * k + k * n, n, 0);
      best[round & 1] = fmin(best[round & 1], seconds() - start);
    }
    // About even is F32: it rounds less, and noise does not change the choice from one run to the next.
    bf16_is_faster = best[1] * 1.25 < best[0];
  }
  free(values);
  fr_engine_free(f32);
  fr_engine_free(bf16);
}
#endif

int fr_bf16_is_faster(void) {
#if defined(__x86_64__) && defined(__clang__)
  if (!fr_has_bf16()) return 0;
  pthread_once(&bf16_once, compare_bf16);
  return bf16_is_faster;
#else
  return 0;
#endif
}

void fr_multiply_blas(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  const int a_plain = a_column == 1, b_plain = b_column == 1;
  const int64_t lda = a_plain ? a_row : a_column, ldb = b_plain ? b_row : b_column;
  const int fits = (a_plain || a_row == 1) && (b_plain || b_row == 1) && lda >= (a_plain ? k : m) &&
                   ldb >= (b_plain ? n : k) && ldc >= n && lda < INT32_MAX && ldb < INT32_MAX && ldc < INT32_MAX;
  if (!fits || cblas_sgemm_loaded == NULL) {
    builtin(fr_precision_f32)(scratch, m, n, k, a, a_row, a_column, b, b_row, b_column, c, ldc, add);
    return;
  }
  cblas_sgemm_loaded(
      row_major, a_plain ? no_transpose : transpose, b_plain ? no_transpose : transpose, (int)m, (int)n, (int)k, 1, a,
      (int)lda, b, (int)ldb, add ? 1 : 0, c, (int)ldc);
}

fr_engine *fr_engine_new(int threads, enum fr_precision precision, enum fr_gemm_library library) {
  if (threads < 1) return NULL;
  fr_engine *engine = calloc(1, sizeof *engine);
  if (engine == NULL) return NULL;
  engine->threads = threads;
  engine->multiply = library == fr_gemm_blas && fr_has_blas() ? fr_multiply_blas : builtin(precision);
  engine->multiply_few = builtin_few();
  engine->scratch = calloc((size_t)threads, sizeof *engine->scratch);
  int complete = engine->scratch != NULL;
  for (int i = 0; complete && i < threads; i++) {
    // Room for a partial tile at either edge.
    engine->scratch[i].packed_a = aligned_alloc(64, (fr_block_m + 16) * fr_block_k * sizeof(float));
    engine->scratch[i].packed_b = aligned_alloc(64, (fr_block_n + 32) * fr_block_k * sizeof(float));
    complete = engine->scratch[i].packed_a != NULL && engine->scratch[i].packed_b != NULL;
  }
  if (!complete) {
    fr_engine_free(engine);
    return NULL;
  }
  return engine;
}

void fr_engine_free(fr_engine *engine) {
  if (engine == NULL) return;
  for (int i = 0; engine->scratch != NULL && i < engine->threads; i++) {
    free(engine->scratch[i].packed_a);
    free(engine->scratch[i].packed_b);
    free(engine->scratch[i].panel);
  }
  free(engine->scratch);
  free(engine);
}

void fr_gemm(
    fr_engine *engine, int thread, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  if (m <= 0 || n <= 0 || k <= 0) return;
  engine->multiply(
      &engine->scratch[thread], m, n, k, a, a_row, a_column, b, b_row, b_column, c, ldc, add);
}
