#if defined(__x86_64__) && defined(__clang__)
#include <math.h>
#include <string.h>

#include "internal.h"

#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#define FR_ELEMENTS fr_elements_v4
#include "elements_body.h"
#pragma clang attribute pop
#else
typedef int fr_elements_v4_not_on_this_architecture;
#endif
