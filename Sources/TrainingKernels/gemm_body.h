// The built-in product for one instruction set: FR_MULTIPLY and FR_MULTIPLY_FEW (its names), FR_LANES (floats in a vector) and FR_MR (rows of
// a tile) are defined by the file that includes this. Blocks of A and B are copied ("packed") into the order in which the
// innermost loop reads them, FR_MR rows by 2·FR_LANES columns at a time.

#include <string.h>

#include "internal.h"

typedef float fr_vector __attribute__((vector_size(4 * FR_LANES)));

enum { tile_m = FR_MR, tile_n = 2 * FR_LANES };

/// [n / tile_n][k][tile_n], zeros beyond the edge.
static void pack_b(float *out, const float *b, int64_t row, int64_t column, int64_t k, int64_t n) {
  for (int64_t j = 0; j < n; j += tile_n) {
    const int64_t width = n - j < tile_n ? n - j : tile_n;
    const float *from = b + j * column;
    if (column == 1 && width == tile_n) {
      for (int64_t p = 0; p < k; p++) memcpy(out + p * tile_n, from + p * row, tile_n * sizeof *out);
    } else {
      if (width < tile_n) memset(out, 0, (size_t)(k * tile_n) * sizeof *out);
      int64_t whole = 0;
      if (row == 1 && width == tile_n) {
        for (; whole + 4 <= k; whole += 4) {
          for (int64_t i = 0; i < tile_n; i += 4) {
            fr_transpose4(from + whole + i * column, column, out + whole * tile_n + i, tile_n);
          }
        }
      }
      for (int64_t p0 = whole; p0 < k; p0 += 16) {
        const int64_t p1 = p0 + 16 < k ? p0 + 16 : k;
        for (int64_t i = 0; i < width; i++) {
          for (int64_t p = p0; p < p1; p++) out[p * tile_n + i] = from[p * row + i * column];
        }
      }
    }
    out += k * tile_n;
  }
}

/// [m / tile_m][k][tile_m], zeros beyond the edge.
static void pack_a(float *out, const float *a, int64_t row, int64_t column, int64_t m, int64_t k) {
  for (int64_t i = 0; i < m; i += tile_m) {
    const int64_t height = m - i < tile_m ? m - i : tile_m;
    const float *from = a + i * row;
    if (height < tile_m) memset(out, 0, (size_t)(k * tile_m) * sizeof *out);
    int64_t whole = 0;
    if (column == 1 && height == tile_m && tile_m % 4 == 0) {
      for (; whole + 4 <= k; whole += 4) {
        for (int64_t q = 0; q < tile_m; q += 4) {
          fr_transpose4(from + q * row + whole, row, out + whole * tile_m + q, tile_m);
        }
      }
    }
    for (int64_t p0 = whole; p0 < k; p0 += 16) {
      const int64_t p1 = p0 + 16 < k ? p0 + 16 : k;
      for (int64_t q = 0; q < height; q++) {
        for (int64_t p = p0; p < p1; p++) out[p * tile_m + q] = from[q * row + p * column];
      }
    }
    out += k * tile_m;
  }
}

/// Subtracting zero changes no value, so that nothing is left of it but the load of one float into every lane. Adding zero turns
/// −0 into 0: compilers keep it, and the product takes twice as long.
static inline __attribute__((always_inline)) fr_vector broadcast(float value) {
  return value - (fr_vector){0};
}

static inline fr_vector load(const float *p) {
  fr_vector v;
  memcpy(&v, p, sizeof v);
  return v;
}

static void tile(
    int64_t k, const float *a, const float *b, float *c, int64_t ldc, int64_t height, int64_t width, int add) {
  fr_vector sum[tile_m][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < tile_m; i++) sum[i][0] = sum[i][1] = (fr_vector){0};
  for (int64_t p = 0; p < k; p++) {
    const fr_vector b0 = load(b), b1 = load(b + FR_LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < tile_m; i++) {
      const fr_vector ai = broadcast(a[i]);
      sum[i][0] += ai * b0;
      sum[i][1] += ai * b1;
    }
    a += tile_m;
    b += tile_n;
  }
  if (height == tile_m && width == tile_n) {
#pragma clang loop unroll(full)
    for (int i = 0; i < tile_m; i++) {
      float *row = c + i * ldc;
      if (add) {
        sum[i][0] += load(row);
        sum[i][1] += load(row + FR_LANES);
      }
      memcpy(row, &sum[i][0], sizeof sum[i][0]);
      memcpy(row + FR_LANES, &sum[i][1], sizeof sum[i][1]);
    }
    return;
  }
  float edge[tile_m][tile_n];
  memcpy(edge, sum, sizeof edge);
  for (int64_t i = 0; i < height; i++) {
    for (int64_t j = 0; j < width; j++) c[i * ldc + j] = add ? edge[i][j] + c[i * ldc + j] : edge[i][j];
  }
}

/// Few columns: B is packed, A is read where it lies. `vectors` is 1 or 2, known when compiled.
static inline __attribute__((always_inline)) void few_columns(
    const int vectors, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column, const float *b,
    float *c, int64_t ldc, int add) {
  enum { height = 8 };
  for (int64_t i = 0; i < m; i += height) {
    fr_vector sum[height][2];
    const float *row[height];
    // Beyond the edge the last row is computed again and not stored.
#pragma clang loop unroll(full)
    for (int q = 0; q < height; q++) {
      sum[q][0] = sum[q][1] = (fr_vector){0};
      row[q] = a + (i + q < m ? i + q : m - 1) * a_row;
    }
    for (int64_t p = 0; p < k; p++) {
      const fr_vector b0 = load(b + p * tile_n), b1 = load(b + p * tile_n + FR_LANES);
#pragma clang loop unroll(full)
      for (int q = 0; q < height; q++) {
        const fr_vector value = broadcast(row[q][p * a_column]);
        sum[q][0] += value * b0;
        if (vectors > 1) sum[q][1] += value * b1;
      }
    }
    for (int64_t q = 0; q < height && i + q < m; q++) {
      float *to = c + (i + q) * ldc;
      const float *from = (const float *)sum[q];
      for (int64_t j = 0; j < n; j++) to[j] = add ? from[j] + to[j] : from[j];
    }
  }
}

/// Few rows: A is packed, B, whose rows are contiguous, is read where it lies.
static void few_rows(
    float *packed, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column, const float *b,
    int64_t b_row, float *c, int64_t ldc, int add) {
  for (int64_t i = 0; i < m; i += tile_m) {
    const int64_t height = m - i < tile_m ? m - i : tile_m;
    pack_a(packed, a + i * a_row, a_row, a_column, height, k);
    for (int64_t j = 0; j < n; j += tile_n) {
      fr_vector sum[tile_m][2];
#pragma clang loop unroll(full)
      for (int q = 0; q < tile_m; q++) sum[q][0] = sum[q][1] = (fr_vector){0};
      for (int64_t p = 0; p < k; p++) {
        const fr_vector b0 = load(b + p * b_row + j), b1 = load(b + p * b_row + j + FR_LANES);
#pragma clang loop unroll(full)
        for (int q = 0; q < tile_m; q++) {
          const fr_vector value = broadcast(packed[p * tile_m + q]);
          sum[q][0] += value * b0;
          sum[q][1] += value * b1;
        }
      }
      for (int64_t q = 0; q < height; q++) {
        float *to = c + (i + q) * ldc + j;
        if (add) {
          sum[q][0] += load(to);
          sum[q][1] += load(to + FR_LANES);
        }
        memcpy(to, &sum[q][0], sizeof sum[q][0]);
        memcpy(to + FR_LANES, &sum[q][1], sizeof sum[q][1]);
      }
    }
  }
}

int FR_MULTIPLY_FEW(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  if (k > fr_few_k) return 0;
  if (n <= tile_n) {
    pack_b(scratch->packed_b, b, b_row, b_column, k, n);
    if (n <= FR_LANES) {
      few_columns(1, m, n, k, a, a_row, a_column, scratch->packed_b, c, ldc, add);
    } else {
      few_columns(2, m, n, k, a, a_row, a_column, scratch->packed_b, c, ldc, add);
    }
    return 1;
  }
  if (m > fr_few_rows || a_row != 1 || b_column != 1 || n % tile_n != 0) return 0;
  few_rows(scratch->packed_b, m, n, k, a, a_row, a_column, b, b_row, c, ldc, add);
  return 1;
}

void FR_MULTIPLY(
    struct fr_scratch *scratch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  for (int64_t j = 0; j < n; j += fr_block_n) {
    const int64_t width = n - j < fr_block_n ? n - j : fr_block_n;
    for (int64_t p = 0; p < k; p += fr_block_k) {
      const int64_t depth = k - p < fr_block_k ? k - p : fr_block_k;
      pack_b(scratch->packed_b, b + p * b_row + j * b_column, b_row, b_column, depth, width);
      for (int64_t i = 0; i < m; i += fr_block_m) {
        const int64_t height = m - i < fr_block_m ? m - i : fr_block_m;
        pack_a(scratch->packed_a, a + i * a_row + p * a_column, a_row, a_column, height, depth);
        for (int64_t jj = 0; jj < width; jj += tile_n) {
          for (int64_t ii = 0; ii < height; ii += tile_m) {
            tile(
                depth, scratch->packed_a + ii * depth, scratch->packed_b + jj * depth, c + (i + ii) * ldc + j + jj, ldc,
                height - ii < tile_m ? height - ii : tile_m, width - jj < tile_n ? width - jj : tile_n, add || p > 0);
          }
        }
      }
    }
  }
}
