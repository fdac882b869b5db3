#if defined(__x86_64__) && defined(__clang__)
#include <string.h>

#include "internal.h"

#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#define FR_MULTIPLY fr_multiply_v3
#define FR_MULTIPLY_FEW fr_multiply_few_v3
#define FR_LANES 8
#define FR_MR 6
#include "gemm_body.h"
#pragma clang attribute pop
#else
typedef int fr_multiply_v3_not_on_this_architecture;
#endif
