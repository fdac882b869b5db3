// The plainest variant: whatever the compiler may assume of every machine of this architecture.
#define FR_NAME(x) fr_plain_##x
#define FR_VARIANT "plain"
#include "kernels_body.h"
