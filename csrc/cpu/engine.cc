#include "engine.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "../common/engine_config.h"
#include "plan.h"

namespace kvrm::cpu {
namespace {

uint32_t Microseconds(std::chrono::steady_clock::duration time) {
  const int64_t us = std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, UINT32_MAX));
}

uint8_t* Bytes(std::vector<uint64_t>& words) { return reinterpret_cast<uint8_t*>(words.data()); }

// Blocks that the step moves from or to the host tier.
double HostBlocks(const DescriptorView& view) {
  double blocks = 0;
  for (uint32_t i = 0; i < view.header->num_moves; ++i) {
    if (view.moves[i].tiers != 0) blocks += view.moves[i].count;
  }
  return blocks;
}

// What of a checked configuration this machine cannot hold, or this backend cannot do.
kvrm_status CheckMemory(const Model& model, const kvrm_engine_config& config, uint32_t threads) {
  if (config.kv_dtype == KVRM_F8_E4M3) {
    return Fail(KVRM_UNSUPPORTED, "create engine: kv_dtype is F8_E4M3, wanted F32, F16, BF16 or Q8_0 on the CPU");
  }
  const double mib = 1 << 20;
  const uint64_t block_bytes = BlockBytes(model.config, config);
  const uint64_t arena = MakePlan(model, config, MaxChunk(config), threads).arena_bytes;
  const uint64_t blocks = (uint64_t{config.num_blocks} + config.host_blocks) * block_bytes;
  const uint64_t rows = SummaryStore::Bytes(model.config, config);
  const uint64_t memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  if (blocks + arena + rows > memory) {
    return Fail(KVRM_OUT_OF_MEMORY,
                "create engine: %.1f MiB needed (%u KV blocks and %u of the host tier of %.3f MiB, %.1f MiB of "
                "activations, %.1f MiB of summary rows), wanted at most the machine's %.1f MiB",
                double(blocks + arena + rows) / mib, config.num_blocks, config.host_blocks, double(block_bytes) / mib,
                double(arena) / mib, double(rows) / mib, double(memory) / mib);
  }
  return KVRM_OK;
}

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, const kvrm_engine_config& config)
    : model_(std::move(model)), config_(config), gate_(config, model_->config.vocab, model_->widest_window) {
  for (Entry& entry : ring_) {
    entry.descriptor.resize(gate_.at().descriptor_bytes / sizeof(uint64_t));
    entry.result.resize(gate_.at().result_bytes / sizeof(uint64_t));
  }
}

kvrm_status Engine::Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config, kvrm_engine_info* info,
                           std::shared_ptr<kvrm::Engine>* out) {
  const uint32_t threads = ThreadCount(config.threads);
  KVRM_TRY(CheckMemory(*model, config, threads));
  std::shared_ptr<Engine> engine(new Engine(model, config));
  KVRM_TRY(Executor::Create(std::move(model), config, threads, &engine->executor_));
  engine->counters_[KVRM_COUNT_SHAPES_PREPARED] = engine->gate_.limits().shapes;
  engine->thread_ = std::thread([e = engine.get()] { e->Loop(); });

  engine->gate_.FillInfo(info);
  info->block_bytes = static_cast<uint32_t>(engine->executor_->block_bytes());
  info->arena_kib = static_cast<uint32_t>((engine->executor_->arena_bytes() + 1023) / 1024);
  info->threads = threads;
  const uint64_t far_bytes = SummaryStore::Bytes(engine->model_->config, config);
  info->far_row_bytes = static_cast<uint32_t>(far_bytes / std::max(1u, config.slots * config.far_rows));
  *out = std::move(engine);
  return KVRM_OK;
}

Engine::~Engine() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);  // the loop looks at stop_ with it
    stop_ = true;
  }
  begun_.notify_one();
  thread_.join();
}

kvrm_status Engine::Commit(const uint8_t* descriptor, uint32_t bytes) {
  const uint32_t step = committed_.load(std::memory_order_relaxed);
  if (step - taken_ == KVRM_MAX_IN_FLIGHT) {
    return Fail(KVRM_BUSY, "commit step %u: %u steps are in flight, wanted at most %u before it", gate_.next_step(),
                step - taken_, KVRM_MAX_IN_FLIGHT - 1);
  }
  Entry& entry = ring_[step % kRing];  // a free place of the ring is no state
  KVRM_TRY(gate_.Accept(descriptor, bytes, Bytes(entry.descriptor)));
  entry.committed = Clock::now();
  {
    std::lock_guard lock(mutex_);
    committed_.store(step + 1);
  }
  begun_.notify_one();
  return KVRM_OK;
}

void Engine::Loop() {
  for (uint32_t step = 0;; ++step) {
    {
      // Not committed_.wait(): libstdc++ yields the processor before it sleeps, and on a busy machine gets it
      // back milliseconds later, whatever was committed since.
      std::unique_lock lock(mutex_);
      begun_.wait(lock, [&] { return stop_ || committed_.load() != step; });
      if (stop_) return;  // what was committed but not begun has no reader any more
    }
    RunEntry(ring_[step % kRing]);
  }
}

void Engine::RunEntry(Entry& entry) {
  const Clock::time_point start = Clock::now();
  const DescriptorView view = ViewDescriptor(gate_.at(), Bytes(entry.descriptor));
  const ResultView result = ViewResult(gate_.at(), Bytes(entry.result));
  if (config_.flags & KVRM_ENGINE_NOOP) {
    executor_->RunNoop(view, result);
  } else {
    executor_->RunStep(view, result);
  }
  const Clock::time_point end = Clock::now();
  kvrm_result_header& header = *result.header;
  header.magic = KVRM_RESULT_MAGIC;
  header.step = view.header->step;
  header.status = KVRM_OK;
  header.exec_us = Microseconds(end - start);
  header.wait_us = Microseconds(start - entry.committed);
  {
    std::lock_guard lock(mutex_);
    counters_[KVRM_COUNT_STEPS] += 1;
    counters_[KVRM_COUNT_ROWS] += header.rows;
    counters_[KVRM_COUNT_MOVED_BLOCKS] += header.moved_blocks;
    counters_[KVRM_COUNT_HOST_BLOCKS] += HostBlocks(view);
    counters_[KVRM_COUNT_BUSY_US] += std::chrono::duration<double, std::micro>(end - start).count();
    counters_[KVRM_COUNT_GROUPS] += view.header->num_groups;
    counters_[KVRM_COUNT_SUMMARIES] += view.header->num_summaries;
    ++completed_;
  }
  done_.notify_one();
}

kvrm_status Engine::Wait(uint32_t timeout_us, uint8_t* result, uint32_t bytes) {
  if (bytes < gate_.at().result_bytes) {
    return Fail(KVRM_INVALID_ARGUMENT, "wait: the result buffer has %u bytes, wanted at least %u", bytes,
                static_cast<uint32_t>(gate_.at().result_bytes));
  }
  if (!InFlight()) return Fail(KVRM_EMPTY, "wait: no step is in flight, wanted a committed one");
  {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return completed_ != taken_; };
    if (!ready() && !done_.wait_for(lock, std::chrono::microseconds(timeout_us), ready)) {
      return Fail(KVRM_TIMEOUT, "wait: the step is still running after %u us", timeout_us);
    }
  }
  CopyResult(gate_.at(), config_.slots, Bytes(ring_[taken_ % kRing].result), result);
  ++taken_;
  return KVRM_OK;
}

kvrm_status Engine::CheckBlockAccess(const char* action, uint32_t first, uint32_t count, uint32_t bytes) const {
  if (InFlight()) {
    return Fail(KVRM_BUSY, "%s blocks: %u steps are in flight, wanted 0", action, committed_.load() - taken_);
  }
  if (first > config_.num_blocks || count > config_.num_blocks - first) {
    return Fail(KVRM_INVALID_ARGUMENT, "%s blocks: %u blocks from %u, wanted within %u", action, count, first,
                config_.num_blocks);
  }
  const uint64_t wanted = count * executor_->block_bytes();
  if (bytes != wanted) {
    return Fail(KVRM_INVALID_ARGUMENT, "%s blocks: the buffer has %u bytes, wanted %llu", action, bytes,
                static_cast<unsigned long long>(wanted));
  }
  return KVRM_OK;
}

kvrm_status Engine::ExportBlocks(uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) {
  KVRM_TRY(CheckBlockAccess("export", first, count, bytes));
  if (bytes != 0) std::memcpy(out, executor_->pool() + first * executor_->block_bytes(), bytes);
  return KVRM_OK;
}

kvrm_status Engine::ImportBlocks(uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) {
  KVRM_TRY(CheckBlockAccess("import", first, count, bytes));
  if (bytes != 0) std::memcpy(executor_->pool() + first * executor_->block_bytes(), in, bytes);
  return KVRM_OK;
}

kvrm_status Engine::ReadLogits(uint32_t slot, float* out, uint32_t count) {
  if (InFlight()) return Fail(KVRM_BUSY, "read logits: %u steps are in flight, wanted 0", committed_.load() - taken_);
  if (config_.flags & KVRM_ENGINE_NOOP) return Fail(KVRM_UNSUPPORTED, "read logits: a no-op engine has none");
  if (count != model_->config.vocab) {
    return Fail(KVRM_INVALID_ARGUMENT, "read logits: the buffer has %u numbers, wanted %u", count,
                model_->config.vocab);
  }
  const float* logits = executor_->Logits(slot);
  if (!logits) return Fail(KVRM_INVALID_ARGUMENT, "read logits: slot %u did not sample in the last step", slot);
  std::memcpy(out, logits, count * sizeof(float));
  return KVRM_OK;
}

kvrm_status Engine::ReadCounters(double* out, uint32_t count) {
  std::lock_guard lock(mutex_);
  std::copy_n(counters_, std::min<uint32_t>(count, KVRM_COUNTER_COUNT), out);
  return KVRM_OK;
}

}  // namespace kvrm::cpu
