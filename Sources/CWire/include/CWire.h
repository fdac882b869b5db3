#pragma once
#include "fusionroute.pb-c.h"
