#define FR_ELEMENTS fr_elements_plain
#include "elements_body.h"
