#if defined(__x86_64__) && defined(__clang__)
#include <math.h>
#include <string.h>

#include "Kernels.h"

#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#define FR_NAME(x) fr_v4_##x
#define FR_VARIANT "x86-64-v4"
#include "kernels_body.h"
#pragma clang attribute pop
#else
typedef int fr_v4_not_on_this_architecture;
#endif
