#ifndef PAGE_FILES_H
#define PAGE_FILES_H

#include <stddef.h>

/// A file of the page at `/`, as it lies in Sources/Gateway/Page/Site.
typedef struct {
  const char *_Nonnull name;
  const unsigned char *_Nonnull bytes;
  size_t size;
} page_file;

size_t page_file_count(void);

/// @param index less than page_file_count().
page_file page_file_at(size_t index);

#endif
