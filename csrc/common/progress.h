// progress.h - how far the running kvrm_model_load is, for other threads of the process to read.
#ifndef KVRM_COMMON_PROGRESS_H_
#define KVRM_COMMON_PROGRESS_H_

#include <atomic>
#include <cstdint>

namespace kvrm {

// Bytes. A backend that copies weights sets `all` first, then adds to `done` as it copies; both are set
// back to 0 when the load ends.
struct LoadProgress {
  std::atomic<uint64_t> done{0};
  std::atomic<uint64_t> all{0};
};

inline LoadProgress load_progress;

}  // namespace kvrm
#endif  // KVRM_COMMON_PROGRESS_H_
