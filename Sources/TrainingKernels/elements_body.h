// Loops over elements and rows for one instruction set: FR_ELEMENTS (the name of their table) is defined by the file that
// includes this. They vectorise as they stand; how wide is what differs.

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

static void log_probabilities(
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

static void row_gradient(
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

static void adamw(
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

// MARK: Marked functions

static const float gelu_a = 0.044715f, gelu_b = 0.79788456080286535588f;

static inline float gelu(float x) { return 0.5f * x * (1.0f + fr_tanh(gelu_b * x * (1.0f + gelu_a * x * x))); }

static inline float gelu_slope(float x) {
  const float t = fr_tanh(gelu_b * x * (1.0f + gelu_a * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * gelu_b * (1.0f + 3.0f * gelu_a * x * x);
}

/// ggml's own takes one exponential at a time.
static void silu_back(float *out, const float *gradient, const float *x, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const float s = 1.0f / (1.0f + fr_exp(-x[i]));
    out[i] = gradient[i] * s * (1.0f + x[i] * (1.0f - s));
  }
}

static void softcap(float *out, const float *x, float cap, int64_t count) {
  const float inverse = 1.0f / cap;
  for (int64_t i = 0; i < count; i++) out[i] = cap * fr_tanh(x[i] * inverse);
}

static void softcap_back(float *out, const float *gradient, const float *x, float cap, int64_t count) {
  const float inverse = 1.0f / cap;
  for (int64_t i = 0; i < count; i++) {
    const float t = fr_tanh(x[i] * inverse);
    out[i] = gradient[i] * (1.0f - t * t);
  }
}

static void gelu_of(float *out, const float *x, int64_t count) {
  for (int64_t i = 0; i < count; i++) out[i] = gelu(x[i]);
}

static void geglu(float *out, const float *x, const float *up, int64_t count) {
  for (int64_t i = 0; i < count; i++) out[i] = gelu(x[i]) * up[i];
}

static void gelu_back(float *out, const float *gradient, const float *x, int64_t count) {
  for (int64_t i = 0; i < count; i++) out[i] = gradient[i] * gelu_slope(x[i]);
}

const struct fr_elements FR_ELEMENTS = {
    .log_probabilities = log_probabilities, .row_gradient = row_gradient, .adamw = adamw, .silu_back = silu_back,
    .softcap = softcap, .softcap_back = softcap_back, .gelu = gelu_of, .geglu = geglu, .gelu_back = gelu_back};
