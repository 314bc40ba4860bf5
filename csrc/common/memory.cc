#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace kvrm {

Mapping::~Mapping() {
  if (data_) munmap(data_, bytes_);
}

kvrm_status Mapping::OpenFile(const std::string& path, Mapping* out) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Fail(KVRM_IO, "open %s: %s", path.c_str(), std::strerror(errno));
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
    close(fd);
    return Fail(KVRM_IO, "map %s: it is empty or no regular file", path.c_str());
  }
  const size_t bytes = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);  // the mapping keeps the file
  if (data == MAP_FAILED) return Fail(KVRM_IO, "map %s (%zu bytes): %s", path.c_str(), bytes, std::strerror(error));
  madvise(data, bytes, MADV_WILLNEED);
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(data);
  mapping.bytes_ = bytes;
  *out = std::move(mapping);
  return KVRM_OK;
}

kvrm_status Mapping::Reserve(size_t bytes, const char* what, Mapping* out) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return Fail(KVRM_OUT_OF_MEMORY, "reserve %.1f MiB for %s: %s", double(bytes) / (1 << 20), what,
                std::strerror(errno));
  }
  madvise(data, bytes, MADV_HUGEPAGE);
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(data);
  mapping.bytes_ = bytes;
  *out = std::move(mapping);
  return KVRM_OK;
}

}  // namespace kvrm
