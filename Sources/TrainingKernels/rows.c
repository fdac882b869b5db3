#include <pthread.h>
#include <string.h>

#include "internal.h"

static const struct fr_elements *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void) {
  chosen = &fr_elements_plain;
#if defined(__x86_64__) && defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) {
    chosen = &fr_elements_v4;
  } else if (__builtin_cpu_supports("x86-64-v3")) {
    chosen = &fr_elements_v3;
  }
#endif
}

const struct fr_elements *fr_elements(void) {
  pthread_once(&once, choose);
  return chosen;
}

void fr_rows_log_probabilities(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets,
    float *out_log_probabilities, float *out_sums, int32_t *out_argmax) {
  fr_elements()->log_probabilities(
      rows, width, first, count, cap, targets, out_log_probabilities, out_sums, out_argmax);
}

void fr_rows_gradient(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets, const float *sums,
    const float *coefficients) {
  fr_elements()->row_gradient(rows, width, first, count, cap, targets, sums, coefficients);
}

void fr_adamw(
    float *values, const float *gradient, float *moment1, float *moment2, int64_t count, float scale, float rate,
    float decay, float beta1, float beta2, float epsilon, float correction1, float correction2) {
  fr_elements()->adamw(
      values, gradient, moment1, moment2, count, scale, rate, decay, beta1, beta2, epsilon, correction1, correction2);
}

double fr_sum_of_squares(const float *values, int64_t count) {
  double sums[8] = {0};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int l = 0; l < 8; l++) sums[l] += (double)values[i + l] * (double)values[i + l];
  }
  double total = 0;
  for (int l = 0; l < 8; l++) total += sums[l];
  for (; i < count; i++) total += (double)values[i] * (double)values[i];
  return total;
}

int fr_is_finite(const float *values, int64_t count) {
  // Infinities and NaNs have all bits of the exponent set.
  uint32_t worst = 0;
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, values + i, sizeof bits);
    worst |= (bits & 0x7f800000u) == 0x7f800000u;
  }
  return worst == 0;
}
