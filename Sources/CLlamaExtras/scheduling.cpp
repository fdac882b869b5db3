#include "extras.h"

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

/// The kernel's struct sched_attr as of its first version; libc has none.
struct attributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

}  // namespace

void fr_set_thread_slice(uint64_t nanoseconds) noexcept {
  attributes attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0u) != 0) return;
  if (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH) return;
  attributes.size = sizeof attributes;
  attributes.flags = 0;
  attributes.runtime = nanoseconds;
  // Kernels before 6.12 take the call and ignore the time.
  syscall(SYS_sched_setattr, 0, &attributes, 0u);
}
#else
void fr_set_thread_slice(uint64_t) noexcept {}
#endif
