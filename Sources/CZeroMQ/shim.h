#pragma once
#include <zmq.h>

// In zmq.h only for draft builds; Debian's library accepts it all the same (tested at start-up, not assumed).
enum { FR_ZMQ_ZAP_ENFORCE_DOMAIN = 93 };

#ifdef __linux__
#include <sys/eventfd.h>
#include <sys/prctl.h>

// Swift's Glibc module has no eventfd.
static inline int fr_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// Nor variadic calls. At most 15 characters.
static inline void fr_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
#endif
