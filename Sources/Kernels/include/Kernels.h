// Row kernels: loops over one row of logits, [vocabulary] float32.
//
// Every kernel gives the same bits in every variant and on every machine: no fused multiply-add, no libm, sums in one
// fixed order, ties to the lowest index. The variants are the same source (kernels_body.h) compiled for different
// instruction sets; a table per variant instead of `target_clones` lets the tests call each one, and works where the
// C library has no ifunc (musl, macOS).
#pragma once

#include <stddef.h>
#include <stdint.h>

// Keys of one noise row. See kernels_body.h for the generator.
typedef struct fr_noise_key {
  uint64_t add;
  uint64_t mix;
} fr_noise_key;

// Sums over one row, see `exp_sum`.
typedef struct fr_exp_sums {
  double total;
  double at_least;
  uint64_t count_at_least;
} fr_exp_sums;

typedef struct fr_kernels {
  const char *name;

  // out[i] = c * row[i], and -inf where row[i] is -inf. Returns 1 if a result is NaN or +inf, else 0.
  int (*scale)(float *out, const float *row, float c, size_t n);

  // out[i] = a[i] + b[i].
  void (*add)(float *out, const float *a, const float *b, size_t n);

  // out[i] = row[i] + (float)(temperature * g(key, first + i)), g standard Gumbel. `out` may be `row`.
  void (*add_noise)(float *out, const float *row, double temperature, fr_noise_key key, uint64_t first, size_t n);

  // Lowest index of the largest a[i] + b[i], and that sum. Returns -1 if a sum is NaN or n is 0.
  int64_t (*add_argmax)(const float *a, const float *b, size_t n, float *value);

  // Lowest index of the largest noisy[i] among those with clean[i] > cut, or clean[i] == cut and i <= cut_index.
  // Returns -1 if there is none.
  int64_t (*argmax_within)(const float *noisy, const float *clean, size_t n, float cut, int64_t cut_index);

  // The largest value, -inf for n = 0. NaN is ignored.
  float (*maximum)(const float *row, size_t n);

  // Indices and values of the min(k, n) largest, by descending value, then ascending index (-0 equals +0).
  // `scratch` holds k words. Returns the number written, or -1 if the row has NaN or +inf.
  int64_t (*top_k)(const float *row, size_t n, size_t k, uint64_t *scratch, int32_t *ids, float *values);

  // log(sum exp(row[i])), double accumulation in one fixed order. -inf for an empty or all -inf row.
  // The row has no NaN or +inf.
  double (*log_sum_exp)(const float *row, size_t n);

  // With q[i] = row[i] + offset in float32 and t[i] = exp((q[i] - reference) * inverse_temperature) in double: the sum
  // of all t, and the sum and number of those with q[i] >= threshold.
  fr_exp_sums (*exp_sum)(
      const float *row, size_t n, float offset, double reference, double inverse_temperature, double threshold);

  // Our exp and log, elementwise: exp for any x (0 below -708, +inf above 709), log for positive normal x.
  void (*exp_each)(double *out, const double *in, size_t n);
  void (*log_each)(double *out, const double *in, size_t n);
} fr_kernels;

// The variant for this machine.
const fr_kernels *fr_kernels_best(void);

// Variants for tests, plainest first: NULL beyond the last. `supported` says whether this machine can run it.
const fr_kernels *fr_kernels_variant(size_t index, int *supported);
