// block.h - runs the blocks of a processor one after another, on fibers that are kept.
#ifndef KVRM_CUDA_EMULATOR_BLOCK_H_
#define KVRM_CUDA_EMULATOR_BLOCK_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "grid.h"
#include "threads.h"

namespace kvrm::cuda::emulator {

// xorshift64*: a few instructions.
class Random {
 public:
  explicit Random(uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15u | 1u) {
    for (int i = 0; i < 4; ++i) Next();
  }
  uint32_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>(state_ * 0x2545f4914f6cdd1du >> 32);
  }
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(uint64_t{Next()} * n >> 32); }

 private:
  uint64_t state_;
};

class Block {
 public:
  Block();
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // Runs the block `index` of the kernel to its end.
  void Run(const Kernel& kernel, uint3 index, uint64_t seed);

  // ---- for the thread that runs -------------------------------------------------------------------------

  // Switches to the scheduler; returns when it picks the thread again.
  void Suspend(Lane& lane);
  void SyncThreads(Lane& lane, const Where& where);
  void MakeReady(Lane& lane);
  void Enqueue(Warp& warp);

  // Threads that wait on an mbarrier look again.
  void WakeBarrierWaiters();
  std::vector<Lane*>& barrier_waiters() { return barrier_waiters_; }
  std::vector<PendingCopy>& bulk_copies() { return bulk_copies_; }

  [[noreturn]] void Die(const char* what, const Where& where);

 private:
  static void Main(Lane& lane);
  static void RunFiber();

  void AddFibers(uint32_t threads);
  void Start(const Kernel& kernel, uint3 index);

  void RunLane(Lane& lane);
  void OpenBarrier();

  const Kernel* kernel_ = nullptr;
  BlockInfo info_ = {};
  std::unique_ptr<Lane[]> lanes_;
  std::unique_ptr<Warp[]> warps_;
  uint32_t fibers_ = 0;  // lanes_ that have a stack
  uint32_t alive_ = 0;
  uint32_t at_barrier_ = 0;
  Lane* first_at_barrier_ = nullptr;
  std::vector<Warp*> queue_;  // warps with lanes that can run
  std::vector<Lane*> barrier_waiters_;
  std::vector<PendingCopy> bulk_copies_;
  unsigned char* shared_ = nullptr;
  uint32_t shared_bytes_ = 0;

  void* scheduler_ = nullptr;              // where the scheduler goes on
  const void* scheduler_stack_ = nullptr;  // AddressSanitizer's
  size_t scheduler_stack_bytes_ = 0;
};

}  // namespace kvrm::cuda::emulator
#endif  // KVRM_CUDA_EMULATOR_BLOCK_H_
