// The kernels themselves. Included once per instruction set by kernels_*.c, with FR_NAME(x) naming the functions.
//
// Vectors are written with the compiler's generic vector types: 8 doubles or 8 floats, whatever the machine has, so
// that lanes, and with them the order of sums, are the same everywhere.
#include "Kernels.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
// Vectors are passed by value to always-inlined functions only, so no calling convention is at stake.
#pragma clang diagnostic ignored "-Wpsabi"
#endif

#ifndef FR_NAME
#error "kernels_body.h is included by kernels_*.c only"
#endif

typedef float f8 __attribute__((vector_size(32)));
typedef double d8 __attribute__((vector_size(64)));
typedef uint64_t u8x64 __attribute__((vector_size(64)));

#define FR_INLINE static inline __attribute__((always_inline))
#define FR_LANES 8

FR_INLINE f8 load_f8(const float *p) {
  f8 v;
  memcpy(&v, p, sizeof v);
  return v;
}

// Lanes beyond `n` hold `fill`.
FR_INLINE f8 load_some(const float *p, size_t n, float fill) {
  float t[FR_LANES];
  for (size_t j = 0; j < FR_LANES; j++) t[j] = j < n ? p[j] : fill;
  return load_f8(t);
}

FR_INLINE d8 select_d8(u8x64 mask, d8 yes, d8 no) {
  return (d8)((mask & (u8x64)yes) | (~mask & (u8x64)no));
}

FR_INLINE d8 splat(double x) { return (d8){x, x, x, x, x, x, x, x}; }

// ---- log and exp -------------------------------------------------------------------------------------------------

// log x for positive normal x, relative error below 1e-13: x = 2^e m with m in [sqrt 1/2, sqrt 2), s = (m-1)/(m+1),
// log m = 2 s (1 + s^2/3 + s^4/5 + ...), |s| < 0.1716.
FR_INLINE d8 log_d8(d8 x) {
  const uint64_t root_half = 0x3fe6a09e667f3bcdull, one = 0x3ff0000000000000ull;
  u8x64 i = (u8x64)x + (one - root_half);
  // The biased exponent, 0..2047, as a double without a 64-bit conversion, which AVX2 lacks: 2^52 + e.
  d8 e = (d8)((i >> 52) | 0x4330000000000000ull) - splat(0x1p52 + 1023);
  d8 m = (d8)((i & 0x000fffffffffffffull) + root_half);
  d8 f = m - splat(1);
  d8 s = f / (f + splat(2));
  d8 z = s * s;
  d8 p = splat(1.0 / 17);
  p = p * z + splat(1.0 / 15);
  p = p * z + splat(1.0 / 13);
  p = p * z + splat(1.0 / 11);
  p = p * z + splat(1.0 / 9);
  p = p * z + splat(1.0 / 7);
  p = p * z + splat(1.0 / 5);
  p = p * z + splat(1.0 / 3);
  p = p * z + splat(1);
  d8 high = splat(0x1.62e42fefa3800p-1);  // log 2, low bits zero so that e * high is exact
  d8 low = splat(0x1.ef35793c76730p-45);
  return e * high + (e * low + (s + s) * p);
}

// exp x, relative error below 1e-13: x = k log 2 + r, |r| <= log(2)/2, Taylor to r^11.
FR_INLINE d8 exp_d8(d8 x) {
  const double magic = 0x1.8p52;
  d8 k = x * splat(0x1.71547652b82fep+0) + splat(magic);
  u8x64 shift = (u8x64)k << 52;
  k = k - splat(magic);
  d8 r = (x - k * splat(0x1.62e42fefa3800p-1)) - k * splat(0x1.ef35793c76730p-45);
  d8 p = splat(1.0 / 39916800);
  p = p * r + splat(1.0 / 3628800);
  p = p * r + splat(1.0 / 362880);
  p = p * r + splat(1.0 / 40320);
  p = p * r + splat(1.0 / 5040);
  p = p * r + splat(1.0 / 720);
  p = p * r + splat(1.0 / 120);
  p = p * r + splat(1.0 / 24);
  p = p * r + splat(1.0 / 6);
  p = p * r + splat(1.0 / 2);
  p = p * r + splat(1);
  p = p * r + splat(1);
  d8 scaled = (d8)((u8x64)p + shift);
  scaled = select_d8((u8x64)(x < splat(-708)), splat(0), scaled);
  return select_d8((u8x64)(x > splat(709)), splat(INFINITY), scaled);
}

static void FR_NAME(exp_each)(double *out, const double *in, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = exp_d8(splat(in[i]))[0];
}

static void FR_NAME(log_each)(double *out, const double *in, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = log_d8(splat(in[i]))[0];
}

// ---- Noise -------------------------------------------------------------------------------------------------------

// Standard Gumbel noise of 8 ids, counter based: SplitMix64's output function (Steele, Lea, Flood 2014) of
// key.add + id * gamma, with key.mix exclusive-ored in between its rounds, so that two rows are not shifts of each
// other. The top 52 bits k give u = (k + 1/2) / 2^52, in (0, 1) exactly; g = -log(-log u).
FR_INLINE d8 gumbel_d8(fr_noise_key key, u8x64 id) {
  u8x64 z = id * 0x9e3779b97f4a7c15ull + key.add;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = z ^ key.mix;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z = z ^ (z >> 31);
  d8 u = (d8)((z >> 12) | 0x3ff0000000000000ull) - splat(1) + splat(0x1p-53);
  return -log_d8(-log_d8(u));
}

static void FR_NAME(add_noise)(
    float *out, const float *row, double temperature, fr_noise_key key, uint64_t first, size_t n) {
  u8x64 id = {0, 1, 2, 3, 4, 5, 6, 7};
  id += first;
  d8 t = splat(temperature);
  size_t i = 0;
  for (; i + FR_LANES <= n; i += FR_LANES, id += FR_LANES) {
    f8 noisy = load_f8(row + i) + __builtin_convertvector(t * gumbel_d8(key, id), f8);
    memcpy(out + i, &noisy, sizeof noisy);
  }
  if (i < n) {
    f8 noisy = load_some(row + i, n - i, 0) + __builtin_convertvector(t * gumbel_d8(key, id), f8);
    for (size_t j = 0; i + j < n; j++) out[i + j] = noisy[j];
  }
}

// ---- Elementwise and maxima --------------------------------------------------------------------------------------

static int FR_NAME(scale)(float *out, const float *row, float c, size_t n) {
  int bad = 0;
  for (size_t i = 0; i < n; i++) {
    float r = row[i];
    float x = r == -INFINITY ? r : c * r;
    out[i] = x;
    bad |= !(x < INFINITY);
  }
  return bad;
}

static void FR_NAME(add)(float *out, const float *a, const float *b, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

static float FR_NAME(maximum)(const float *row, size_t n) {
  float lane[16];
  for (int j = 0; j < 16; j++) lane[j] = -INFINITY;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) lane[j] = row[i + j] > lane[j] ? row[i + j] : lane[j];
  }
  float best = -INFINITY;
  for (; i < n; i++) best = row[i] > best ? row[i] : best;
  for (int j = 0; j < 16; j++) best = lane[j] > best ? lane[j] : best;
  return best;
}

static int64_t FR_NAME(add_argmax)(const float *a, const float *b, size_t n, float *value) {
  float lane[16];
  for (int j = 0; j < 16; j++) lane[j] = -INFINITY;
  int bad = 0;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; j++) {
      float x = a[i + j] + b[i + j];
      lane[j] = x > lane[j] ? x : lane[j];
      bad |= x != x;
    }
  }
  float best = -INFINITY;
  for (; i < n; i++) {
    float x = a[i] + b[i];
    best = x > best ? x : best;
    bad |= x != x;
  }
  for (int j = 0; j < 16; j++) best = lane[j] > best ? lane[j] : best;
  if (bad || n == 0) return -1;
  // The second pass finds the lowest index, block by block so that the search vectorises.
  size_t base = 0;
  for (; base + 64 <= n; base += 64) {
    int any = 0;
    for (int j = 0; j < 64; j++) any |= a[base + j] + b[base + j] == best;
    if (any) break;
  }
  while (base < n && a[base] + b[base] != best) base++;
  *value = best;
  return (int64_t)base;
}

static int64_t FR_NAME(argmax_within)(
    const float *noisy, const float *clean, size_t n, float cut, int64_t cut_index) {
  int64_t found = -1;
  float best = -INFINITY;
  for (size_t i = 0; i < n; i++) {
    int inside = clean[i] > cut || (clean[i] == cut && (int64_t)i <= cut_index);
    if (inside && (found < 0 || noisy[i] > best)) {
      found = (int64_t)i;
      best = noisy[i];
    }
  }
  return found;
}

// ---- Top k -------------------------------------------------------------------------------------------------------

// Orders like (value descending, index ascending) when compared as descending integers.
FR_INLINE uint64_t rank_key(float value, size_t index) {
  value += 0.0f;  // -0 becomes +0: they are equal
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (uint64_t)bits << 32 | (uint32_t)~(uint32_t)index;
}

FR_INLINE void sift_down(uint64_t *heap, size_t count, size_t at) {
  uint64_t moving = heap[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= count) break;
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= moving) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moving;
}

// A heap with the worst kept value on top; blocks without a better one are skipped by a vector comparison.
static int64_t FR_NAME(top_k)(
    const float *row, size_t n, size_t k, uint64_t *heap, int32_t *ids, float *values) {
  if (k > n) k = n;
  int bad = 0;
  for (size_t i = 0; i < k; i++) {
    bad |= !(row[i] < INFINITY);
    heap[i] = rank_key(row[i], i);
  }
  for (size_t i = k / 2; i > 0; i--) sift_down(heap, k, i - 1);
  // With k = 0 nothing is kept, but the row is still checked.
  float least = k > 0 ? row[(uint32_t)~(uint32_t)heap[0]] : INFINITY;
  size_t i = k;
  while (i < n) {
    size_t end = i + 64 <= n ? i + 64 : n;
    int better = 0;
    if (end - i == 64) {
      for (int j = 0; j < 64; j++) {
        better |= row[i + j] > least;
        bad |= !(row[i + j] < INFINITY);
      }
    } else {
      for (size_t j = i; j < end; j++) bad |= !(row[j] < INFINITY);
      better = 1;
    }
    if (bad) return -1;
    if (better) {
      for (; i < end; i++) {
        if (!(row[i] > least)) continue;  // an equal one comes later, so it ranks below
        heap[0] = rank_key(row[i], i);
        sift_down(heap, k, 0);
        least = row[(uint32_t)~(uint32_t)heap[0]];
      }
    }
    i = end;
  }
  if (bad) return -1;
  for (size_t left = k; left > 1; left--) {
    uint64_t worst = heap[0];
    heap[0] = heap[left - 1];
    heap[left - 1] = worst;
    sift_down(heap, left - 1, 0);
  }
  for (size_t j = 0; j < k; j++) {
    uint32_t index = ~(uint32_t)heap[j];
    ids[j] = (int32_t)index;
    values[j] = row[index];
  }
  return (int64_t)k;
}

// ---- Sums of exponentials ----------------------------------------------------------------------------------------

FR_INLINE double sum_lanes(d8 v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

static fr_exp_sums FR_NAME(exp_sum)(
    const float *row, size_t n, float offset, double reference, double inverse_temperature, double threshold) {
  d8 total = splat(0), part = splat(0);
  u8x64 count = {0};
  f8 shift = {offset, offset, offset, offset, offset, offset, offset, offset};
  for (size_t i = 0; i < n; i += FR_LANES) {
    // Lanes beyond the end are -inf and add nothing; they pass no finite threshold, and are masked for -inf below.
    f8 x = i + FR_LANES <= n ? load_f8(row + i) : load_some(row + i, n - i, -INFINITY);
    d8 q = __builtin_convertvector(x + shift, d8);
    d8 t = exp_d8((q - splat(reference)) * splat(inverse_temperature));
    u8x64 inside = (u8x64)(q >= splat(threshold));
    total += t;
    part += select_d8(inside, t, splat(0));
    count -= inside;
  }
  uint64_t passed = 0;
  for (int j = 0; j < FR_LANES; j++) passed += count[j];
  return (fr_exp_sums){sum_lanes(total), sum_lanes(part), passed < n ? passed : n};
}

static double FR_NAME(log_sum_exp)(const float *row, size_t n) {
  float reference = FR_NAME(maximum)(row, n);
  if (!(reference > -INFINITY)) return -INFINITY;
  fr_exp_sums sums = FR_NAME(exp_sum)(row, n, 0, reference, 1, INFINITY);
  return (double)reference + log_d8(splat(sums.total))[0];
}

// ---- The table ---------------------------------------------------------------------------------------------------

const fr_kernels FR_NAME(table) = {
    .name = FR_VARIANT,
    .scale = FR_NAME(scale),
    .add = FR_NAME(add),
    .add_noise = FR_NAME(add_noise),
    .add_argmax = FR_NAME(add_argmax),
    .argmax_within = FR_NAME(argmax_within),
    .maximum = FR_NAME(maximum),
    .top_k = FR_NAME(top_k),
    .log_sum_exp = FR_NAME(log_sum_exp),
    .exp_sum = FR_NAME(exp_sum),
    .exp_each = FR_NAME(exp_each),
    .log_each = FR_NAME(log_each),
};
