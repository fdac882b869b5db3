#include "Kernels.h"

extern const fr_kernels fr_plain_table;

#if defined(__x86_64__) && defined(__clang__)
extern const fr_kernels fr_v3_table, fr_v4_table;

const fr_kernels *fr_kernels_variant(size_t index, int *supported) {
  __builtin_cpu_init();
  switch (index) {
  case 0: *supported = 1; return &fr_plain_table;
  case 1: *supported = __builtin_cpu_supports("x86-64-v3") != 0; return &fr_v3_table;
  case 2: *supported = __builtin_cpu_supports("x86-64-v4") != 0; return &fr_v4_table;
  default: *supported = 0; return NULL;
  }
}
#else
const fr_kernels *fr_kernels_variant(size_t index, int *supported) {
  *supported = index == 0;
  return index == 0 ? &fr_plain_table : NULL;
}
#endif

const fr_kernels *fr_kernels_best(void) {
  const fr_kernels *best = &fr_plain_table;
  int supported = 0;
  const fr_kernels *variant;
  for (size_t i = 0; (variant = fr_kernels_variant(i, &supported)) != NULL; i++) {
    if (supported) best = variant;
  }
  return best;
}
