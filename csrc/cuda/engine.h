// engine.h - one engine on a GPU: steps go from a pinned ring to the device and their results come back
// through it. The driving thread enqueues; nothing on the host waits for a step but kvrm_wait.
#ifndef KVRM_CUDA_ENGINE_H_
#define KVRM_CUDA_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../common/backend.h"
#include "../common/commit_gate.h"
#include "executor.h"
#include "transport.h"

namespace kvrm::cuda {

class GpuEngine : public Engine {
 public:
  static kvrm_status Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config,
                            kvrm_engine_info* info, std::shared_ptr<Engine>* out);
  ~GpuEngine() override;

  kvrm_status Commit(const uint8_t* descriptor, uint32_t bytes) override;
  kvrm_status Wait(uint32_t timeout_us, uint8_t* result, uint32_t bytes) override;
  kvrm_status ExportBlocks(uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) override;
  kvrm_status ImportBlocks(uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) override;
  kvrm_status ReadLogits(uint32_t slot, float* out, uint32_t count) override;
  kvrm_status ReadCounters(double* out, uint32_t count) override;

 private:
  using Clock = std::chrono::steady_clock;

  // One place of the ring: a step from its commit until its result is taken.
  struct Entry {
    uint8_t* descriptor = nullptr;  // pinned
    uint8_t* result = nullptr;      // pinned
    cudaEvent_t start = nullptr;
    cudaEvent_t end = nullptr;
    Clock::time_point committed;
  };

  GpuEngine(std::shared_ptr<const Model> model, const kvrm_engine_config& config);

  kvrm_status Prepare();
  kvrm_status Enqueue(Entry& entry);
  kvrm_status EnqueueHostMoves(const DescriptorView& view);
  kvrm_status CheckBlockAccess(const char* action, uint32_t first, uint32_t count, uint32_t bytes) const;
  // Whether the oldest step has ended; waits up to timeout_us for it.
  kvrm_status Await(const Entry& entry, uint32_t timeout_us);
  void Finish(Entry& entry);
  kvrm_status Lose(kvrm_status status);
  void RunNoop(Entry& entry);
  bool Noop() const { return (config_.flags & KVRM_ENGINE_NOOP) != 0; }

  const std::shared_ptr<const Model> model_;
  const kvrm_engine_config config_;
  CommitGate gate_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<HostTier> host_tier_;
  PinnedMemory pinned_;

  // Steps are numbered from 0; step i lives in ring_[i % kRing].
  static constexpr uint32_t kRing = 4;
  static_assert(kRing > KVRM_MAX_IN_FLIGHT, "a step that was taken still lends its descriptor to ReadLogits");
  Entry ring_[kRing];
  uint32_t committed_ = 0;
  uint32_t taken_ = 0;
  std::string lost_;  // why the device is lost; empty while it is not
  double counters_[KVRM_COUNTER_COUNT] = {};
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ENGINE_H_
