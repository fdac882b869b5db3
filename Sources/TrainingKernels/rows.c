#include "fast_math.h"
#include "internal.h"

enum { lanes = 16 };

static float largest(const float *row, int64_t width) {
  float best[lanes];
  int64_t i = 0;
  for (int l = 0; l < lanes; l++) best[l] = -INFINITY;
  for (; i + lanes <= width; i += lanes) {
    for (int l = 0; l < lanes; l++) best[l] = row[i + l] > best[l] ? row[i + l] : best[l];
  }
  float top = -INFINITY;
  for (int l = 0; l < lanes; l++) top = best[l] > top ? best[l] : top;
  for (; i < width; i++) top = row[i] > top ? row[i] : top;
  return top;
}

/// Σ e^(row − top): float sums of 1,024 elements, added in double.
static double sum_of_exponentials(const float *row, int64_t width, float top) {
  double total = 0;
  for (int64_t start = 0; start < width; start += 1024) {
    const int64_t end = start + 1024 < width ? start + 1024 : width;
    float sums[lanes] = {0};
    int64_t i = start;
    for (; i + lanes <= end; i += lanes) {
      for (int l = 0; l < lanes; l++) sums[l] += fr_exp(row[i + l] - top);
    }
    float rest = 0;
    for (; i < end; i++) rest += fr_exp(row[i] - top);
    for (int l = 0; l < lanes; l++) total += (double)sums[l];
    total += (double)rest;
  }
  return total;
}

void fr_rows_log_probabilities(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets,
    float *out_log_probabilities, float *out_sums, int32_t *out_argmax) {
  for (int64_t r = first; r < first + count; r++) {
    float *row = rows + r * width;
    if (cap > 0) {
      const float inverse = 1.0f / cap;
      for (int64_t i = 0; i < width; i++) row[i] = cap * fr_tanh(row[i] * inverse);
    }
    const float top = largest(row, width);
    const double sum = (double)top + log(sum_of_exponentials(row, width, top));
    int64_t best = 0;
    while (best < width - 1 && row[best] != top) best++;
    out_sums[r] = (float)sum;
    out_log_probabilities[r] = (float)((double)row[targets[r]] - sum);
    out_argmax[r] = (int32_t)best;
  }
}

void fr_rows_gradient(
    float *rows, int64_t width, int64_t first, int64_t count, float cap, const int32_t *targets, const float *sums,
    const float *coefficients) {
  for (int64_t r = first; r < first + count; r++) {
    float *row = rows + r * width;
    const float coefficient = coefficients[r], sum = sums[r];
    if (coefficient == 0) {
      memset(row, 0, (size_t)width * sizeof *row);
      continue;
    }
    const float target = row[targets[r]];
    const float inverse = cap > 0 ? 1.0f / cap : 0.0f;
    for (int64_t i = 0; i < width; i++) {
      const float t = row[i] * inverse;
      row[i] = coefficient * fr_exp(row[i] - sum) * (1.0f - t * t);
    }
    const float t = target * inverse;
    row[targets[r]] -= coefficient * (1.0f - t * t);
  }
}

void fr_adamw(
    float *values, const float *gradient, float *moment1, float *moment2, int64_t count, float scale, float rate,
    float decay, float beta1, float beta2, float epsilon, float correction1, float correction2) {
  const float keep = 1.0f - rate * decay;
  const float inverse1 = 1.0f / correction1, inverse2 = 1.0f / correction2;
  for (int64_t i = 0; i < count; i++) {
    const float g = gradient[i] * scale;
    const float m = beta1 * moment1[i] + (1.0f - beta1) * g;
    const float v = beta2 * moment2[i] + (1.0f - beta2) * g * g;
    moment1[i] = m;
    moment2[i] = v;
    values[i] = values[i] * keep - rate * (m * inverse1) / (sqrtf(v * inverse2) + epsilon);
  }
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
