// packer.h - packs a model's matrices in the background. A server answers before that is done: products take a matrix
// as it lies in its file until its own form is there (product.h), with the same bits.
#ifndef KVRM_CPU_PACKER_H_
#define KVRM_CPU_PACKER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "../common/memory.h"
#include "../common/model.h"
#include "../common/status.h"
#include "thread_pool.h"

namespace kvrm::cpu {

class Packer {
 public:
  Packer() = default;
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;
  // Stops where it is.
  ~Packer();

  // w, a matrix in blocks or in BF16, gets a form of its own in time: its turn comes after those added before.
  void Add(Weight* w);

  // w is in that form already: in `region`, with blocks of w->dtype.
  void Keep(Mapping region, Weight* w);

  // Packs what was added, on a thread of its own and returning at once, or, with `threads`, on those before returning.
  // When memory runs out in the background, the rest stays as it is.
  kvrm_status Start(ThreadPool* threads);

 private:
  struct Matrix {
    Weight file;
    Mapping region;
    std::atomic<const uint8_t*> packed{nullptr};
  };

  void PackLater();
  kvrm_status PackAll(ThreadPool* threads);

  std::deque<Matrix> matrices_;  // which stay where they are
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable stopped_;
  std::thread thread_;
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_PACKER_H_
