#define FR_MULTIPLY fr_multiply_plain
#define FR_MULTIPLY_FEW fr_multiply_few_plain
#define FR_LANES 4
#define FR_MR 4
#include "gemm_body.h"
