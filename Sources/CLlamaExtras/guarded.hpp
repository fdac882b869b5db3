#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>

namespace fr {

/// `size` bytes of `text` with a NUL behind them, for fr_free; NULL if memory is short.
inline char *copy(const char *text, size_t size) noexcept {
  char *memory = static_cast<char *>(std::malloc(size + 1));
  if (memory != nullptr) {
    std::memcpy(memory, text, size);
    memory[size] = '\0';
  }
  return memory;
}

inline void report(char **error, const char *text) noexcept {
  if (error != nullptr) *error = copy(text, std::strlen(text));
}

/// Runs `body`; an exception becomes `failure` and a text in `error`.
template <typename Result, typename Body>
Result guarded(Result failure, char **error, Body body) noexcept {
  try {
    return body();
  } catch (const std::exception &exception) {
    report(error, exception.what());
  } catch (...) {
    report(error, "an unknown C++ exception");
  }
  return failure;
}

}  // namespace fr
