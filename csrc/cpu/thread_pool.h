// thread_pool.h - the threads of one engine. Work is cut into tiles that the threads take one by one
// from a shared counter, so that a thread the system has put aside holds up one tile and not a share of
// the stage.
#ifndef KVRM_CPU_THREAD_POOL_H_
#define KVRM_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace kvrm::cpu {

// Tells the processor that this thread only waits.
inline void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class ThreadPool {
 public:
  // Starts threads - 1 workers: the thread that calls Run is member 0.
  explicit ThreadPool(uint32_t threads);
  ~ThreadPool();

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }

  // Calls work(tile, member) for each tile in [0, tiles), in any order and on any member, and returns
  // when all are done. Only one thread may call it. work must not throw. tiles < 2^24.
  template <typename Work>
  void Run(uint32_t tiles, const Work& work) {
    static_assert(std::is_nothrow_invocable_v<const Work&, uint32_t, uint32_t>);
    if (tiles <= 1 || workers_.empty()) {
      for (uint32_t tile = 0; tile < tiles; ++tile) work(tile, 0u);
      return;
    }
    RunShared(tiles, &work, [](const void* context, uint32_t tile, uint32_t member) {
      (*static_cast<const Work*>(context))(tile, member);
    });
  }

 private:
  using Call = void (*)(const void* context, uint32_t tile, uint32_t member);

  void RunShared(uint32_t tiles, const void* context, Call call);
  void TakeTiles(uint32_t member);
  void Work(uint32_t member);
  void Stop();
  bool HasTiles() const;

  // The job. Written by the caller before ticket_ is published, read only by a member that has drawn a
  // tile of it: the job cannot end, and so these cannot change, before that tile is done.
  const void* context_ = nullptr;
  Call call_ = nullptr;

  // tiles << 32 | next tile: taking a tile is one fetch_add, which also tells whether there was one.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> done_{0};      // tiles of the job that are done
  std::atomic<uint32_t> caller_waits_{0};          // the caller sleeps on done_
  alignas(64) std::atomic<uint32_t> doorbell_{0};  // counts wake-ups; workers sleep on it
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// Threads for a configured number, where 0 means one per processor that this process may use.
uint32_t ThreadCount(uint32_t configured);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_THREAD_POOL_H_
