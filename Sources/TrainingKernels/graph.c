// Our operations in ggml's graphs, and how they get there: ggml builds and differentiates the graph with its own
// operations, then those are replaced in the nodes. Shapes, order and memory stay as ggml planned them.

#include <stdlib.h>
#include <string.h>

#include "internal.h"

// MARK: Marks

enum mark_kind { mark_none = 0, mark_softcap = 1, mark_gelu_table = 2, mark_gelu_smooth = 3 };
/// Words of `op_params` that no operation of a marked operand uses: a product, sum or scaling.
enum { mark_word = 12, mark_magic = 0x66726D6B };

static void set_mark(struct ggml_tensor *x, enum mark_kind kind, float value) {
  x->op_params[mark_word] = mark_magic;
  x->op_params[mark_word + 1] = (int32_t)kind;
  memcpy(&x->op_params[mark_word + 2], &value, sizeof value);
}

static enum mark_kind mark_of(const struct ggml_tensor *x) {
  return x != NULL && x->op_params[mark_word] == mark_magic ? (enum mark_kind)x->op_params[mark_word + 1] : mark_none;
}

static float mark_value(const struct ggml_tensor *x) {
  float value;
  memcpy(&value, &x->op_params[mark_word + 2], sizeof value);
  return value;
}

void fr_mark_softcap(struct ggml_tensor *x, float cap) { set_mark(x, mark_softcap, cap); }

void fr_mark_gelu(struct ggml_tensor *x, int table) { set_mark(x, table ? mark_gelu_table : mark_gelu_smooth, 0); }

void fr_set_loss(struct ggml_tensor *tensor) { tensor->flags |= GGML_TENSOR_FLAG_LOSS; }

// MARK: Matrix products

/// This thread's part of 0 ..< count, in whole multiples of `unit` but for the end.
static void share(int64_t count, int64_t unit, int ith, int nth, int64_t *first, int64_t *last) {
  const int64_t units = (count + unit - 1) / unit;
  *first = units * ith / nth * unit;
  *last = units * (ith + 1) / nth * unit;
  if (*first > count) *first = count;
  if (*last > count) *last = count;
}

static float *panel(struct fr_scratch *scratch, size_t count) {
  if (scratch->panel_capacity < count) {
    free(scratch->panel);
    scratch->panel = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    GGML_ASSERT(scratch->panel != NULL);
    scratch->panel_capacity = count;
  }
  return scratch->panel;
}

static const float *matrix(const struct ggml_tensor *t, int64_t i2, int64_t i3) {
  return (const float *)((const char *)t->data + i2 * (int64_t)t->nb[2] + i3 * (int64_t)t->nb[3]);
}

static int64_t stride(const struct ggml_tensor *t, int dimension) { return (int64_t)(t->nb[dimension] / sizeof(float)); }

struct range {
  int64_t first, last;
};

/// Words of `op_params` behind those of a custom operation and before the mark: whether a product is added to what its
/// memory holds already, and, before a graph is rewritten, how many nodes use a product.
enum { adds_word = 8, uses_word = 9 };

static int adds(const struct ggml_tensor *dst) { return dst->op_params[adds_word] != 0; }

/// A product with a parameter: adapters' shapes have a way of their own.
static void multiply_parameter(
    struct fr_engine *engine, int ith, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, int64_t b_column, float *c, int64_t ldc, int add) {
  if (m <= 0 || n <= 0 || k <= 0) return;
  if (engine->multiply_few(&engine->scratch[ith], m, n, k, a, a_row, a_column, b, b_row, b_column, c, ldc, add)) return;
  fr_gemm(engine, ith, m, n, k, a, a_row, a_column, b, b_row, b_column, c, ldc, add);
}

/// dst[p, m] = src1[p, n] · src0[m, n]ᵀ for some rows and columns of one matrix.
static void product_f32(
    struct fr_engine *engine, int ith, struct ggml_tensor *dst, int64_t i2, int64_t i3, struct range rows,
    struct range columns) {
  const struct ggml_tensor *w = dst->src[0], *x = dst->src[1];
  const int64_t w2 = i2 / (dst->ne[2] / w->ne[2]), w3 = i3 / (dst->ne[3] / w->ne[3]);
  float *out = (float *)((char *)dst->data + i2 * (int64_t)dst->nb[2] + i3 * (int64_t)dst->nb[3]);
  (dst->ne[2] * dst->ne[3] > 1 ? fr_gemm : multiply_parameter)(
      engine, ith, rows.last - rows.first, columns.last - columns.first, w->ne[0],
      matrix(x, i2, i3) + rows.first * stride(x, 1), stride(x, 1), stride(x, 0),
      matrix(w, w2, w3) + columns.first * stride(w, 1), stride(w, 0), stride(w, 1),
      out + rows.first * stride(dst, 1) + columns.first, stride(dst, 1), adds(dst));
}

static void compute_product(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  struct fr_engine *engine = userdata;
  const struct ggml_tensor *w = dst->src[0], *x = dst->src[1];
  const int64_t p = dst->ne[1], m = dst->ne[0], batches = dst->ne[2] * dst->ne[3];
  if (batches > 1) {
    struct range part;
    share(batches, 1, ith, nth, &part.first, &part.last);
    for (int64_t b = part.first; b < part.last; b++) {
      product_f32(engine, ith, dst, b % dst->ne[2], b / dst->ne[2], (struct range){0, p}, (struct range){0, m});
    }
    return;
  }
  struct range rows = {0, p}, columns = {0, m};
  if (w->type == GGML_TYPE_F32) {
    if (m >= p) {
      share(m, 32, ith, nth, &columns.first, &columns.last);
    } else {
      share(p, 12, ith, nth, &rows.first, &rows.last);
    }
    product_f32(engine, ith, dst, 0, 0, rows, columns);
    return;
  }
  // A frozen matrix in its file's type: some rows at a time as floats.
  const ggml_to_float_t to_float = ggml_get_type_traits(w->type)->to_float;
  share(m, 32, ith, nth, &columns.first, &columns.last);
  float *floats = panel(&engine->scratch[ith], (size_t)(fr_panel_rows * w->ne[0]));
  for (int64_t j = columns.first; j < columns.last; j += fr_panel_rows) {
    const int64_t count = columns.last - j < fr_panel_rows ? columns.last - j : fr_panel_rows;
    for (int64_t r = 0; r < count; r++) {
      to_float((const char *)w->data + (j + r) * (int64_t)w->nb[1], floats + r * w->ne[0], w->ne[0]);
    }
    fr_gemm(
        engine, ith, p, count, w->ne[0], matrix(x, 0, 0), stride(x, 1), stride(x, 0), floats, 1, w->ne[0],
        (float *)dst->data + j, stride(dst, 1), adds(dst));
  }
}

/// dst[m, n] = src1[k, m]ᵀ · src0[k, n] for some rows and columns of one matrix.
static void outer_f32(
    struct fr_engine *engine, int ith, struct ggml_tensor *dst, int64_t i2, int64_t i3, struct range rows,
    struct range columns) {
  const struct ggml_tensor *w = dst->src[0], *g = dst->src[1];
  const int64_t w2 = i2 / (dst->ne[2] / w->ne[2]), w3 = i3 / (dst->ne[3] / w->ne[3]);
  float *out = (float *)((char *)dst->data + i2 * (int64_t)dst->nb[2] + i3 * (int64_t)dst->nb[3]);
  (dst->ne[2] * dst->ne[3] > 1 ? fr_gemm : multiply_parameter)(
      engine, ith, rows.last - rows.first, columns.last - columns.first, w->ne[1],
      matrix(g, i2, i3) + rows.first * stride(g, 0), stride(g, 0), stride(g, 1),
      matrix(w, w2, w3) + columns.first * stride(w, 0), stride(w, 1), stride(w, 0),
      out + rows.first * stride(dst, 1) + columns.first, stride(dst, 1), adds(dst));
}

static void compute_outer(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  struct fr_engine *engine = userdata;
  const struct ggml_tensor *w = dst->src[0], *g = dst->src[1];
  const int64_t m = dst->ne[1], n = dst->ne[0], batches = dst->ne[2] * dst->ne[3];
  if (batches > 1) {
    struct range part;
    share(batches, 1, ith, nth, &part.first, &part.last);
    for (int64_t b = part.first; b < part.last; b++) {
      outer_f32(engine, ith, dst, b % dst->ne[2], b / dst->ne[2], (struct range){0, m}, (struct range){0, n});
    }
    return;
  }
  struct range rows = {0, m}, columns = {0, n};
  if (w->type == GGML_TYPE_F32) {
    if (n >= m) {
      share(n, 32, ith, nth, &columns.first, &columns.last);
    } else {
      share(m, 12, ith, nth, &rows.first, &rows.last);
    }
    outer_f32(engine, ith, dst, 0, 0, rows, columns);
    return;
  }
  // The gradient through a frozen matrix. Columns are divided at blocks of the type; sums run over panels of rows.
  const ggml_to_float_t to_float = ggml_get_type_traits(w->type)->to_float;
  const int64_t block = ggml_blck_size(w->type);
  share(n, block > 32 ? block : 32, ith, nth, &columns.first, &columns.last);
  const int64_t width = columns.last - columns.first;
  if (width == 0) return;
  const size_t offset = ggml_row_size(w->type, columns.first);
  float *floats = panel(&engine->scratch[ith], (size_t)(fr_block_k * width));
  for (int64_t k = 0; k < w->ne[1]; k += fr_block_k) {
    const int64_t count = w->ne[1] - k < fr_block_k ? w->ne[1] - k : fr_block_k;
    for (int64_t r = 0; r < count; r++) {
      to_float((const char *)w->data + (k + r) * (int64_t)w->nb[1] + offset, floats + r * width, width);
    }
    fr_gemm(
        engine, ith, m, width, count, matrix(g, 0, 0) + k * stride(g, 1), stride(g, 0), stride(g, 1), floats, width, 1,
        (float *)dst->data + columns.first, stride(dst, 1), k > 0 || adds(dst));
  }
}

// MARK: Marked functions

#define ELEMENTS(dst, ith, nth)                                    \
  (void)userdata;                                                  \
  struct range part;                                               \
  share(ggml_nelements(dst), 64, ith, nth, &part.first, &part.last); \
  const int64_t first = part.first, count = part.last - part.first; \
  float *out = (float *)(dst)->data + first

/// The part of an operand that belongs to `out`.
#define OPERAND(index) ((const float *)dst->src[index]->data + first)

static void compute_silu_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->silu_back(out, OPERAND(0), OPERAND(1), count);
}

static void compute_softcap(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->softcap(out, OPERAND(0), mark_value(dst->src[0]), count);
}

static void compute_softcap_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->softcap_back(out, OPERAND(0), OPERAND(1), mark_value(dst->src[1]), count);
}

static void compute_geglu(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->geglu(out, OPERAND(0), OPERAND(1), count);
}

static void compute_gelu(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->gelu(out, OPERAND(0), count);
}

static void compute_gelu_back(struct ggml_tensor *dst, int ith, int nth, void *userdata) {
  ELEMENTS(dst, ith, nth);
  fr_elements()->gelu_back(out, OPERAND(0), OPERAND(1), count);
}

// MARK: Rewriting

/// Turns `node` into a custom operation. ggml's layout of its parameters is taken from an operation it makes itself.
static void become(struct ggml_tensor *node, ggml_custom_op_t function, fr_engine *engine) {
  char memory[4096];
  struct ggml_context *context =
      ggml_init((struct ggml_init_params){.mem_size = sizeof memory, .mem_buffer = memory, .no_alloc = true});
  GGML_ASSERT(context != NULL);
  struct ggml_tensor *model =
      ggml_custom_4d(context, GGML_TYPE_F32, 1, 1, 1, 1, NULL, 0, function, GGML_N_TASKS_MAX, engine);
  node->op = GGML_OP_CUSTOM;
  // What we noted behind these words stays.
  memcpy(node->op_params, model->op_params, adds_word * sizeof node->op_params[0]);
  ggml_free(context);
}

static void rewrite_unary(struct ggml_tensor *node, fr_engine *engine) {
  if (ggml_get_unary_op(node) != GGML_UNARY_OP_SILU) return;
  switch (mark_of(node->src[0])) {
    case mark_softcap: become(node, compute_softcap, engine); break;
    case mark_gelu_table:
    case mark_gelu_smooth: become(node, compute_gelu, engine); break;
    case mark_none: break;
  }
}

static int is_product(const struct ggml_tensor *node) {
  return node != NULL && (node->op == GGML_OP_MUL_MAT || node->op == GGML_OP_OUT_PROD);
}

/// Lets products that are only added to something be computed on top of it: x + W·y where the sum lies in x's memory.
static void join_sums(struct ggml_cgraph *graph) {
  const int count = ggml_graph_n_nodes(graph);
  for (int i = 0; i < count; i++) {
    struct ggml_tensor *node = ggml_graph_node(graph, i);
    for (int j = 0; j < GGML_MAX_SRC; j++) {
      if (is_product(node->src[j])) node->src[j]->op_params[uses_word]++;
      // A view of a product is a use of it.
      if (node->src[j] != NULL && is_product(node->src[j]->view_src)) node->src[j]->view_src->op_params[uses_word]++;
    }
  }
  for (int i = 0; i < count; i++) {
    struct ggml_tensor *sum = ggml_graph_node(graph, i);
    if (sum->op != GGML_OP_ADD) continue;
    struct ggml_tensor *product = sum->src[1];
    const int fits = is_product(product) && product->op_params[uses_word] == 1 && product->op_params[adds_word] == 0 &&
                     product->view_src == NULL && sum->data == sum->src[0]->data && sum->data != product->data &&
                     ggml_are_same_shape(sum, sum->src[0]) && ggml_are_same_shape(sum, product) &&
                     ggml_are_same_stride(sum, product) && sum->type == GGML_TYPE_F32;
    if (!fits) continue;
    product->data = sum->data;
    product->op_params[adds_word] = 1;
    sum->op = GGML_OP_NONE;
  }
}

void fr_graph_rewrite(struct ggml_cgraph *graph, fr_engine *engine) {
  join_sums(graph);
  const int count = ggml_graph_n_nodes(graph);
  for (int i = 0; i < count; i++) {
    struct ggml_tensor *node = ggml_graph_node(graph, i);
    switch (node->op) {
      case GGML_OP_MUL_MAT: become(node, compute_product, engine); break;
      case GGML_OP_OUT_PROD: become(node, compute_outer, engine); break;
      case GGML_OP_UNARY: rewrite_unary(node, engine); break;
      case GGML_OP_SILU_BACK:
        switch (mark_of(node->src[1])) {
          case mark_softcap: become(node, compute_softcap_back, engine); break;
          case mark_gelu_table:
          case mark_gelu_smooth: become(node, compute_gelu_back, engine); break;
          case mark_none: become(node, compute_silu_back, engine); break;
        }
        break;
      case GGML_OP_GLU:
        if (mark_of(node->src[0]) == mark_gelu_table) {
          node->op_params[0] = GGML_GLU_OP_GEGLU;
        } else if (mark_of(node->src[0]) == mark_gelu_smooth) {
          become(node, compute_geglu, engine);
        }
        break;
      default: break;
    }
  }
}
