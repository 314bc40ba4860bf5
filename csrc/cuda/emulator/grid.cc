#include "grid.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "block.h"

namespace kvrm::cuda::emulator {

namespace {

// One thread per processor, for the life of the process.
class Processors {
 public:
  Processors() {
    const uint32_t count = std::max(1u, std::thread::hardware_concurrency());
    for (uint32_t i = 0; i < count; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~Processors() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    start_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void Run(const Kernel& kernel, uint64_t seed) {
    const uint64_t blocks = uint64_t{kernel.grid.x} * kernel.grid.y * kernel.grid.z;
    // Every block once: steps of a length that shares no factor with their number.
    Random random(seed);
    uint64_t stride = blocks > 1 ? 1 + random.Below(static_cast<uint32_t>(std::min<uint64_t>(blocks - 1, ~0u))) : 1;
    while (std::gcd(stride, blocks) != 1) ++stride;

    std::unique_lock lock(mutex_);
    kernel_ = &kernel;
    seed_ = seed;
    blocks_ = blocks;
    stride_ = stride;
    offset_ = random.Next() % blocks;
    next_.store(0, std::memory_order_relaxed);
    const size_t helpers = std::min<uint64_t>(blocks, threads_.size());
    wanted_ = helpers;
    running_ = helpers;
    for (size_t i = 0; i < helpers; ++i) start_.notify_one();
    done_.wait(lock, [this] { return running_ == 0; });
  }

 private:
  void Work() {
    Block block;
    std::unique_lock lock(mutex_);
    for (;;) {
      start_.wait(lock, [this] { return stop_ || wanted_ > 0; });
      if (stop_) return;
      --wanted_;
      lock.unlock();
      const dim3 grid = kernel_->grid;
      for (uint64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < blocks_;) {
        const uint64_t at = (offset_ + i * stride_) % blocks_;
        const uint3 index = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                             static_cast<unsigned>(at / grid.x / grid.y)};
        block.Run(*kernel_, index, seed_ + at);
      }
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
  size_t wanted_ = 0, running_ = 0;
  const Kernel* kernel_ = nullptr;
  uint64_t seed_ = 0, blocks_ = 0, stride_ = 1, offset_ = 0;
  std::atomic<uint64_t> next_ = 0;
};

}  // namespace

void RunGrid(const Kernel& kernel, uint64_t seed) {
  static Processors processors;
  processors.Run(kernel, seed);
}

}  // namespace kvrm::cuda::emulator
