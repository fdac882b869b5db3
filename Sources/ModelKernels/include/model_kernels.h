#ifndef FUSIONROUTE_MODEL_KERNELS_H
#define FUSIONROUTE_MODEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// out[i] = sigma * z(stream, first + i), z close to N(0, 1).
///
/// Counter-based: element i never depends on how the work is divided. z is the centred sum of twelve 16-bit uniforms
/// (variance 1, excess kurtosis -0.1, |z| < 6), so it is integer arithmetic and the same bits on every machine.
void fr_noise_fill(float *out, size_t count, uint64_t stream, uint64_t first, float sigma);

/// values[i] += sigma * z(stream, first + i).
void fr_noise_add(float *values, size_t count, uint64_t stream, uint64_t first, float sigma);

/// Sum of squares in double, in a fixed order.
double fr_sum_squares(const float *values, size_t count);

/// 1 if every value is finite.
int fr_all_finite(const float *values, size_t count);

/// out[i] = sum_j weight[i * width + j] * hidden[j] (+ bias[i], unless bias is NULL), in a fixed order.
void fr_head_weights(
    const float *weight, const float *bias, const float *hidden, size_t experts, size_t width, float *out);

#ifdef __cplusplus
}
#endif

#endif
