// The product with factors rounded to BF16, for CPUs that multiply pairs of those and add the products in F32
// (AVX-512 BF16). Packed blocks hold pairs along k.

#if defined(__x86_64__) && defined(__clang__)
#include <immintrin.h>
#include <string.h>

#include "internal.h"

#pragma clang attribute push(                                                                                \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma"))), apply_to = function)

enum { tile_m = 12, tile_n = 32 };

/// Rounded to nearest, ties to even.
static inline uint16_t rounded(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16) | 0x40;
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// Sixteen values of each of four rows, as eight pairs of each, to[pair][row][2].
static inline void pack4(const float *from, int64_t stride, uint16_t *to, int64_t width) {
  uint32_t pairs[4][8];
  for (int i = 0; i < 4; i++) {
    _mm256_storeu_si256((__m256i *)pairs[i], (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i * stride)));
  }
  // A pair is one 32-bit element.
  fr_transpose4(pairs[0], 8, to, width);
  fr_transpose4(pairs[0] + 4, 8, to + 8 * width, width);
}

/// [n / tile_n][k / 2][tile_n][2], zeros beyond the edges.
static void pack_b(uint16_t *out, const float *b, int64_t row, int64_t column, int64_t k, int64_t n) {
  const int64_t pairs = (k + 1) / 2;
  for (int64_t j = 0; j < n; j += tile_n) {
    const int64_t width = n - j < tile_n ? n - j : tile_n;
    const float *from = b + j * column;
    if (column == 1 && width == tile_n) {
      for (int64_t p = 0; p < pairs; p++) {
        const float *even = from + 2 * p * row;
        const int both = 2 * p + 1 < k;
        for (int half = 0; half < 2; half++) {
          const __m512 low = _mm512_loadu_ps(even + 16 * half);
          const __m512 high = both ? _mm512_loadu_ps(even + row + 16 * half) : _mm512_setzero_ps();
          const __m512i a = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
          const __m512i c = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
          _mm512_storeu_si512(out + p * 2 * tile_n + 32 * half, _mm512_or_si512(a, _mm512_slli_epi32(c, 16)));
        }
      }
    } else {
      if (width < tile_n || k % 2 == 1) memset(out, 0, (size_t)(pairs * 2 * tile_n) * sizeof *out);
      const int64_t whole = row == 1 && width == tile_n ? k / 16 * 16 : 0;
      for (int64_t p = 0; p < whole; p += 16) {
        for (int64_t i = 0; i < tile_n; i += 4) pack4(from + p + i * column, column, out + p * tile_n + 2 * i, tile_n);
      }
      for (int64_t i = 0; i < width; i++) {
        for (int64_t p = whole; p < k; p++) {
          out[(p / 2) * 2 * tile_n + 2 * i + p % 2] = rounded(from[p * row + i * column]);
        }
      }
    }
    out += pairs * 2 * tile_n;
  }
}

/// [m / tile_m][k / 2][tile_m][2], zeros beyond the edges.
static void pack_a(uint16_t *out, const float *a, int64_t row, int64_t column, int64_t m, int64_t k) {
  const int64_t pairs = (k + 1) / 2;
  for (int64_t i = 0; i < m; i += tile_m) {
    const int64_t height = m - i < tile_m ? m - i : tile_m;
    const float *from = a + i * row;
    if (height < tile_m || k % 2 == 1) memset(out, 0, (size_t)(pairs * 2 * tile_m) * sizeof *out);
    const int64_t whole = column == 1 && height == tile_m ? k / 16 * 16 : 0;
    for (int64_t p = 0; p < whole; p += 16) {
      for (int64_t q = 0; q < tile_m; q += 4) pack4(from + q * row + p, row, out + p * tile_m + 2 * q, tile_m);
    }
    if (row == 1 && height == tile_m) {
      // A transposed matrix: a pair of rows at a time.
      for (int64_t p = 0; p + 2 <= k; p += 2) {
        const __m512 low = _mm512_maskz_loadu_ps(0xfff, from + p * column);
        const __m512 high = _mm512_maskz_loadu_ps(0xfff, from + (p + 1) * column);
        const __m512i a16 = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
        const __m512i b16 = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
        _mm512_mask_storeu_epi32(out + p * tile_m, 0xfff, _mm512_or_si512(a16, _mm512_slli_epi32(b16, 16)));
      }
      if (k % 2 == 1) {
        for (int64_t q = 0; q < tile_m; q++) out[(k - 1) * tile_m + 2 * q] = rounded(from[q + (k - 1) * column]);
      }
    } else {
      for (int64_t q = 0; q < height; q++) {
        for (int64_t p = whole; p < k; p++) {
          out[(p / 2) * 2 * tile_m + 2 * q + p % 2] = rounded(from[q * row + p * column]);
        }
      }
    }
    out += pairs * 2 * tile_m;
  }
}

static void tile(
    int64_t pairs, const uint16_t *a, const uint16_t *b, float *c, int64_t ldc, int64_t height, int64_t width, int add) {
  __m512 sum[tile_m][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < tile_m; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  for (int64_t p = 0; p < pairs; p++) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 32);
#pragma clang loop unroll(full)
    for (int i = 0; i < tile_m; i++) {
      int32_t two;
      memcpy(&two, a + 2 * i, 4);
      const __m512bh ai = (__m512bh)_mm512_set1_epi32(two);
      sum[i][0] = _mm512_dpbf16_ps(sum[i][0], ai, b0);
      sum[i][1] = _mm512_dpbf16_ps(sum[i][1], ai, b1);
    }
    a += 2 * tile_m;
    b += 2 * tile_n;
  }
  if (height == tile_m && width == tile_n) {
#pragma clang loop unroll(full)
    for (int i = 0; i < tile_m; i++) {
      float *row = c + i * ldc;
      if (add) {
        sum[i][0] = _mm512_add_ps(sum[i][0], _mm512_loadu_ps(row));
        sum[i][1] = _mm512_add_ps(sum[i][1], _mm512_loadu_ps(row + 16));
      }
      _mm512_storeu_ps(row, sum[i][0]);
      _mm512_storeu_ps(row + 16, sum[i][1]);
    }
    return;
  }
  float edge[tile_m][tile_n];
  memcpy(edge, sum, sizeof edge);
  for (int64_t i = 0; i < height; i++) {
    for (int64_t j = 0; j < width; j++) c[i * ldc + j] = add ? edge[i][j] + c[i * ldc + j] : edge[i][j];
  }
}

void fr_multiply_bf16(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  // The same buffers as for floats hold blocks twice as deep.
  const int64_t block_k = 2 * fr_block_k;
  uint16_t *packed_a = (uint16_t *)scratch->packed_a, *packed_b = (uint16_t *)scratch->packed_b;
  for (int64_t j = 0; j < n; j += fr_block_n) {
    const int64_t width = n - j < fr_block_n ? n - j : fr_block_n;
    for (int64_t p = 0; p < k; p += block_k) {
      const int64_t depth = k - p < block_k ? k - p : block_k;
      const int64_t pairs = (depth + 1) / 2;
      pack_b(packed_b, b + p * b_row + j * b_column, b_row, b_column, depth, width);
      for (int64_t i = 0; i < m; i += fr_block_m) {
        const int64_t height = m - i < fr_block_m ? m - i : fr_block_m;
        pack_a(packed_a, a + i * a_row + p * a_column, a_row, a_column, height, depth);
        for (int64_t jj = 0; jj < width; jj += tile_n) {
          for (int64_t ii = 0; ii < height; ii += tile_m) {
            tile(
                pairs, packed_a + ii * 2 * pairs, packed_b + jj * 2 * pairs, c + (i + ii) * ldc + j + jj, ldc,
                height - ii < tile_m ? height - ii : tile_m, width - jj < tile_n ? width - jj : tile_n, add || p > 0);
          }
        }
      }
    }
  }
}
#pragma clang attribute pop
#else
typedef int fr_multiply_bf16_not_on_this_architecture;
#endif
