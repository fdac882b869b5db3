#include "model_kernels.h"

#include <math.h>

// SplitMix64's output function over a counter (Steele, Lea, Flood 2014).
static inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

static inline int32_t lanes(uint64_t word) {
  return (int32_t)(word & 0xFFFF) + (int32_t)((word >> 16) & 0xFFFF) + (int32_t)((word >> 32) & 0xFFFF) +
         (int32_t)(word >> 48);
}

static inline float normal(uint64_t stream, uint64_t index) {
  const uint64_t step = UINT64_C(0x9E3779B97F4A7C15);
  const uint64_t base = stream + 3 * index * step;
  const int32_t sum = lanes(mix(base + step)) + lanes(mix(base + 2 * step)) + lanes(mix(base + 3 * step));
  // 12 uniforms on 0...65535: mean 393210, standard deviation 65536 (to 1e-10).
  return (float)(sum - 393210) * 0x1p-16f;
}

void fr_noise_fill(float *out, size_t count, uint64_t stream, uint64_t first, float sigma) {
  for (size_t i = 0; i < count; i++) out[i] = sigma * normal(stream, first + i);
}

void fr_noise_add(float *values, size_t count, uint64_t stream, uint64_t first, float sigma) {
  for (size_t i = 0; i < count; i++) values[i] += sigma * normal(stream, first + i);
}

double fr_sum_squares(const float *values, size_t count) {
  double lane[8] = {0};
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t k = 0; k < 8; k++) lane[k] += (double)values[i + k] * (double)values[i + k];
  }
  for (size_t k = 0; i < count; i++, k++) lane[k] += (double)values[i] * (double)values[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

int fr_all_finite(const float *values, size_t count) {
  int finite = 1;
  for (size_t i = 0; i < count; i++) finite &= isfinite(values[i]) != 0;
  return finite;
}

void fr_head_weights(
    const float *weight, const float *bias, const float *hidden, size_t experts, size_t width, float *out) {
  for (size_t e = 0; e < experts; e++) {
    const float *row = weight + e * width;
    // Sixteen partial sums: the order is fixed, so the bits do not depend on the vector width of the machine.
    float lane[16] = {0};
    size_t j = 0;
    for (; j + 16 <= width; j += 16) {
      for (size_t k = 0; k < 16; k++) lane[k] += row[j + k] * hidden[j + k];
    }
    for (size_t k = 0; j < width; j++, k++) lane[k] += row[j] * hidden[j];
    for (size_t half = 8; half > 0; half /= 2) {
      for (size_t k = 0; k < half; k++) lane[k] += lane[k + half];
    }
    out[e] = bias ? lane[0] + bias[e] : lane[0];
  }
}
