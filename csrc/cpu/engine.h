// engine.h - one engine: the queue of committed steps, the thread that runs them, the results.
#ifndef KVRM_CPU_ENGINE_H_
#define KVRM_CPU_ENGINE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../common/backend.h"
#include "../common/commit_gate.h"
#include "../common/layout.h"
#include "../common/model.h"
#include "../common/status.h"
#include "executor.h"

namespace kvrm::cpu {

// Methods are for one driving thread; they are those of kvrm.h.
class Engine final : public kvrm::Engine {
 public:
  static kvrm_status Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config,
                            kvrm_engine_info* info, std::shared_ptr<kvrm::Engine>* out);
  ~Engine() override;

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
    std::vector<uint64_t> descriptor;  // descriptor_bytes, aligned
    std::vector<uint64_t> result;      // result_bytes, aligned
    Clock::time_point committed;
  };

  Engine(std::shared_ptr<const Model> model, const kvrm_engine_config& config);

  kvrm_status CheckBlockAccess(const char* action, uint32_t first, uint32_t count, uint32_t bytes) const;
  void Loop();
  void RunEntry(Entry& entry);
  bool InFlight() const { return committed_.load() != taken_; }

  const std::shared_ptr<const Model> model_;
  const kvrm_engine_config config_;
  CommitGate gate_;
  std::unique_ptr<Executor> executor_;

  // Steps are numbered from 0; step i lives in ring_[i % kRing]. A power of two, so that the numbers may
  // wrap.
  static constexpr uint32_t kRing = 4;
  static_assert(kRing >= KVRM_MAX_IN_FLIGHT);
  Entry ring_[kRing];
  std::atomic<uint32_t> committed_{0};
  uint32_t taken_ = 0;             // of the driving thread
  mutable std::mutex mutex_;       // of what follows, and of changes of committed_
  std::condition_variable begun_;  // committed_ has grown, or stop_ was set
  std::condition_variable done_;   // completed_ has grown
  bool stop_ = false;
  uint32_t completed_ = 0;
  double counters_[KVRM_COUNTER_COUNT] = {};
  std::thread thread_;
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_ENGINE_H_
