#ifndef FUSIONROUTE_TRAINING_FAST_MATH_H
#define FUSIONROUTE_TRAINING_FAST_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/// e^x with a relative error below 2e-7, in a form that compilers vectorise; 0 below -87, finite above.
static inline float fr_exp(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  // Adding and subtracting 1.5·2^23 rounds to the nearest integer.
  const float shift = 12582912.0f;
  const float biased = clamped * 1.44269504088896341f + shift;
  const float n = biased - shift;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = ((int32_t)n + 127) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? 0.0f : p * scale;
}

/// tanh(x) to 3e-7.
static inline float fr_tanh(float x) {
  const float a = fabsf(x);
  const float e = fr_exp(-2.0f * a);
  const float large = (1.0f - e) / (1.0f + e);
  const float square = x * x;
  const float small = a * (1.0f + square * (-0.333333333f + square * (0.133333333f - square * 0.0539682540f)));
  return copysignf(a < 0.1f ? small : large, x);
}

#endif
