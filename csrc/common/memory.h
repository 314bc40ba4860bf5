// memory.h - memory that comes straight from the system: files mapped read-only, and large zeroed
// regions that cost nothing until they are touched.
#ifndef KVRM_COMMON_MEMORY_H_
#define KVRM_COMMON_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "status.h"

namespace kvrm {

// Owns one mmap.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { *this = std::move(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  // Maps a whole file read-only. A file that is cut shorter later raises SIGBUS where it is read.
  static kvrm_status OpenFile(const std::string& path, Mapping* out);

  // Zeroed memory on huge pages where the system has them; taken from the system page by page as it is
  // touched. what names it in the error.
  static kvrm_status Reserve(size_t bytes, const char* what, Mapping* out);

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace kvrm
#endif  // KVRM_COMMON_MEMORY_H_
