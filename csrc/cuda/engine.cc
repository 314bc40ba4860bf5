#include "engine.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>

namespace kvrm::cuda {
namespace {

// Asking costs a microsecond; a step that has just been launched is not worth asking about at once.
constexpr auto kSpin = std::chrono::microseconds(200);
constexpr long kNapNs = 20'000;

uint32_t ClampMicroseconds(double us) { return static_cast<uint32_t>(std::clamp(us, 0.0, 4e9)); }

// Whether any segment wants its rows' log-probabilities.
bool Scored(const DescriptorView& view) {
  for (uint32_t i = 0; i < view.header->num_segments; ++i) {
    if (view.segments[i].flags & KVRM_SEGMENT_PROMPT_LOGPROBS) return true;
  }
  return false;
}

bool Samples(const kvrm_slot& slot) { return (slot.flags & (KVRM_SLOT_DECODE | KVRM_SLOT_SAMPLE)) != 0; }

}  // namespace

GpuEngine::GpuEngine(std::shared_ptr<const Model> model, const kvrm_engine_config& config)
    : model_(std::move(model)), config_(config), gate_(config, model_->config.vocab, model_->widest_window) {}

kvrm_status GpuEngine::Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config,
                              kvrm_engine_info* info, std::shared_ptr<Engine>* out) {
  if (config.max_summaries != 0) {
    return Fail(KVRM_UNSUPPORTED, "create engine: max_summaries is %u, wanted 0 on a GPU: far history is the CPU's",
                config.max_summaries);
  }
  std::shared_ptr<GpuEngine> engine(new GpuEngine(std::move(model), config));
  KVRM_TRY(engine->Prepare());
  engine->gate_.FillInfo(info);
  info->block_bytes = static_cast<uint32_t>(engine->executor_->block_bytes());
  info->arena_kib = static_cast<uint32_t>((engine->executor_->arena_bytes() + 1023) / 1024);
  info->threads = 1;
  *out = std::move(engine);
  return KVRM_OK;
}

kvrm_status GpuEngine::Prepare() {
  KVRM_TRY(UseDevice(model_->config.device));
  KVRM_TRY(Executor::Create(model_, config_, &executor_));
  if (config_.host_blocks != 0) {
    KVRM_TRY(HostTier::Create(config_.host_blocks, executor_->block_bytes(), &host_tier_));
  }
  const RecordLayout& at = gate_.at();
  const uint64_t stride = AlignUp(at.descriptor_bytes, 256) + AlignUp(at.result_bytes, 256);
  KVRM_TRY(PinnedMemory::Allocate(stride * kRing, "descriptors and results", &pinned_));
  std::memset(pinned_.data(), 0, pinned_.bytes());
  for (uint32_t i = 0; i < kRing; ++i) {
    Entry& entry = ring_[i];
    entry.descriptor = pinned_.data() + i * stride;
    entry.result = entry.descriptor + AlignUp(at.descriptor_bytes, 256);
    KVRM_CUDA_TRY("create engine", cudaEventCreateWithFlags(&entry.start, cudaEventDefault));
    KVRM_CUDA_TRY("create engine", cudaEventCreateWithFlags(&entry.end, cudaEventDefault));
  }
  return KVRM_OK;
}

GpuEngine::~GpuEngine() {
  (void)UseDevice(model_->config.device);
  if (executor_) cudaStreamSynchronize(executor_->stream());
  for (Entry& entry : ring_) {
    if (entry.start) cudaEventDestroy(entry.start);
    if (entry.end) cudaEventDestroy(entry.end);
  }
}

// What follows a failed CUDA call means nothing any more: the engine remembers and repeats why.
kvrm_status GpuEngine::Lose(kvrm_status status) {
  if (lost_.empty()) lost_ = LastError();
  return status == KVRM_OUT_OF_MEMORY ? status : Fail(KVRM_DEVICE_LOST, "%s", lost_.c_str());
}

kvrm_status GpuEngine::Commit(const uint8_t* descriptor, uint32_t bytes) {
  if (!lost_.empty()) return Fail(KVRM_DEVICE_LOST, "commit: the GPU was lost: %s", lost_.c_str());
  if (committed_ - taken_ == KVRM_MAX_IN_FLIGHT) {
    return Fail(KVRM_BUSY, "commit: %u steps are in flight, wanted at most %u before it", committed_ - taken_,
                KVRM_MAX_IN_FLIGHT - 1);
  }
  Entry& entry = ring_[committed_ % kRing];
  KVRM_TRY(gate_.Accept(descriptor, bytes, entry.descriptor));
  entry.committed = Clock::now();
  if (Noop()) {
    RunNoop(entry);
  } else {
    KVRM_TRY(UseDevice(model_->config.device));
    if (const kvrm_status status = Enqueue(entry); status != KVRM_OK) return Lose(status);
  }
  ++committed_;
  return KVRM_OK;
}

kvrm_status GpuEngine::Enqueue(Entry& entry) {
  const DescriptorView view = ViewDescriptor(gate_.at(), entry.descriptor);
  const cudaStream_t stream = executor_->stream();
  if (host_tier_) KVRM_TRY(EnqueueHostMoves(view));
  KVRM_CUDA_TRY("commit", cudaEventRecord(entry.start, stream));
  KVRM_TRY(executor_->Launch(entry.descriptor, Scored(view), entry.result));
  KVRM_CUDA_TRY("commit", cudaEventRecord(entry.end, stream));
  return KVRM_OK;
}

kvrm_status GpuEngine::EnqueueHostMoves(const DescriptorView& view) {
  const bool any = std::any_of(view.moves, view.moves + view.header->num_moves,
                               [](const kvrm_move& move) { return move.tiers != 0; });
  if (!any) return KVRM_OK;
  return host_tier_->Enqueue(view.moves, view.header->num_moves, executor_->pool(), executor_->stream());
}

kvrm_status GpuEngine::Await(const Entry& entry, uint32_t timeout_us) {
  const Clock::time_point start = Clock::now();
  for (;;) {
    const cudaError_t error = cudaEventQuery(entry.end);
    if (error == cudaSuccess) return KVRM_OK;
    if (error != cudaErrorNotReady) return Lose(FailCuda("wait", error));
    const Clock::duration waited = Clock::now() - start;
    if (waited >= std::chrono::microseconds(timeout_us)) {
      return Fail(KVRM_TIMEOUT, "wait: the step is still running after %u us", timeout_us);
    }
    if (waited < kSpin) {
      sched_yield();
    } else {
      const timespec nap = {0, kNapNs};
      nanosleep(&nap, nullptr);
    }
  }
}

kvrm_status GpuEngine::Wait(uint32_t timeout_us, uint8_t* result, uint32_t bytes) {
  const RecordLayout& at = gate_.at();
  if (bytes < at.result_bytes) {
    return Fail(KVRM_INVALID_ARGUMENT, "wait: the result buffer has %u bytes, wanted at least %u", bytes,
                static_cast<uint32_t>(at.result_bytes));
  }
  if (!lost_.empty()) return Fail(KVRM_DEVICE_LOST, "wait: the GPU was lost: %s", lost_.c_str());
  if (committed_ == taken_) return Fail(KVRM_EMPTY, "wait: no step is in flight, wanted a committed one");
  Entry& entry = ring_[taken_ % kRing];
  if (!Noop()) {
    KVRM_TRY(UseDevice(model_->config.device));
    KVRM_TRY(Await(entry, timeout_us));
  }
  Finish(entry);
  CopyResult(at, config_.slots, entry.result, result);
  ++taken_;
  return KVRM_OK;
}

// Fills in what only the host knows, and counts.
void GpuEngine::Finish(Entry& entry) {
  const DescriptorView view = ViewDescriptor(gate_.at(), entry.descriptor);
  kvrm_result_header& header = *ViewResult(gate_.at(), entry.result).header;
  float ms = 0;
  if (!Noop()) cudaEventElapsedTime(&ms, entry.start, entry.end);
  const double exec_us = double(ms) * 1000;
  const double total_us = std::chrono::duration<double, std::micro>(Clock::now() - entry.committed).count();
  header.magic = KVRM_RESULT_MAGIC;
  header.step = view.header->step;
  header.status = KVRM_OK;
  header.exec_us = ClampMicroseconds(exec_us);
  header.wait_us = ClampMicroseconds(total_us - exec_us);
  counters_[KVRM_COUNT_STEPS] += 1;
  counters_[KVRM_COUNT_ROWS] += header.rows;
  counters_[KVRM_COUNT_MOVED_BLOCKS] += header.moved_blocks;
  counters_[KVRM_COUNT_BUSY_US] += exec_us;
  counters_[KVRM_COUNT_GROUPS] += view.header->num_groups;
  for (uint32_t i = 0; i < view.header->num_moves; ++i) {
    if (view.moves[i].tiers != 0) counters_[KVRM_COUNT_HOST_BLOCKS] += view.moves[i].count;
  }
}

// A made-up token for every slot that samples, the same as the CPU's.
void GpuEngine::RunNoop(Entry& entry) {
  const DescriptorView view = ViewDescriptor(gate_.at(), entry.descriptor);
  const ResultView result = ViewResult(gate_.at(), entry.result);
  const uint32_t vocab = model_->config.vocab;
  result.header->rows = view.header->num_decode + view.header->num_tokens;
  result.header->moved_blocks = 0;
  result.header->num_rows = 0;
  for (uint32_t i = 0; i < view.header->num_moves; ++i) result.header->moved_blocks += view.moves[i].count;
  for (uint32_t i = 0; i < config_.slots; ++i) {
    const kvrm_slot& slot = view.slots[i];
    result.slots[i] = {};
    if (!Samples(slot)) continue;
    result.slots[i].flags = KVRM_RESULT_SAMPLED;
    result.slots[i].token = static_cast<int32_t>(3 + (i * 7 + slot.counter) % (vocab - 3));
  }
  for (uint32_t i = 0; i < view.header->num_segments; ++i) {
    const kvrm_segment& segment = view.segments[i];
    if (!(segment.flags & KVRM_SEGMENT_PROMPT_LOGPROBS)) continue;
    result.header->num_rows = segment.token_first + segment.count - segment.padding;
    for (uint32_t t = segment.token_first; t < result.header->num_rows; ++t) {
      result.rows[t] = {view.targets[t] >= 0 ? KVRM_RESULT_SAMPLED : 0, 0, 0, 0};
    }
  }
}

kvrm_status GpuEngine::CheckBlockAccess(const char* action, uint32_t first, uint32_t count, uint32_t bytes) const {
  if (!lost_.empty()) return Fail(KVRM_DEVICE_LOST, "%s blocks: the GPU was lost: %s", action, lost_.c_str());
  if (committed_ != taken_) {
    return Fail(KVRM_BUSY, "%s blocks: %u steps are in flight, wanted 0", action, committed_ - taken_);
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
  return UseDevice(model_->config.device);
}

kvrm_status GpuEngine::ExportBlocks(uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) {
  KVRM_TRY(CheckBlockAccess("export", first, count, bytes));
  if (bytes == 0) return KVRM_OK;
  const uint8_t* from = executor_->pool() + first * executor_->block_bytes();
  KVRM_CUDA_TRY("export blocks", cudaMemcpy(out, from, bytes, cudaMemcpyDeviceToHost));
  return KVRM_OK;
}

kvrm_status GpuEngine::ImportBlocks(uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) {
  KVRM_TRY(CheckBlockAccess("import", first, count, bytes));
  if (bytes == 0) return KVRM_OK;
  uint8_t* to = executor_->pool() + first * executor_->block_bytes();
  // The step's stream does not wait for the default one.
  KVRM_CUDA_TRY("import blocks", cudaMemcpyAsync(to, in, bytes, cudaMemcpyHostToDevice, executor_->stream()));
  KVRM_CUDA_TRY("import blocks", cudaStreamSynchronize(executor_->stream()));
  return KVRM_OK;
}

kvrm_status GpuEngine::ReadLogits(uint32_t slot, float* out, uint32_t count) {
  if (!lost_.empty()) return Fail(KVRM_DEVICE_LOST, "read logits: the GPU was lost: %s", lost_.c_str());
  if (committed_ != taken_) {
    return Fail(KVRM_BUSY, "read logits: %u steps are in flight, wanted 0", committed_ - taken_);
  }
  if (Noop()) return Fail(KVRM_UNSUPPORTED, "read logits: a no-op engine has none");
  if (count != model_->config.vocab) {
    return Fail(KVRM_INVALID_ARGUMENT, "read logits: the buffer has %u numbers, wanted %u", count,
                model_->config.vocab);
  }
  const DescriptorView view = ViewDescriptor(gate_.at(), ring_[(taken_ + kRing - 1) % kRing].descriptor);
  if (taken_ == 0 || slot >= config_.slots || !Samples(view.slots[slot])) {
    return Fail(KVRM_INVALID_ARGUMENT, "read logits: slot %u did not sample in the last step", slot);
  }
  uint32_t index = 0;  // rows of the logits are in the order of the slots that sample
  for (uint32_t i = 0; i < slot; ++i) index += Samples(view.slots[i]);
  KVRM_TRY(UseDevice(model_->config.device));
  KVRM_CUDA_TRY("read logits",
                cudaMemcpy(out, executor_->Logits(index), count * sizeof(float), cudaMemcpyDeviceToHost));
  return KVRM_OK;
}

kvrm_status GpuEngine::ReadCounters(double* out, uint32_t count) {
  double counters[KVRM_COUNTER_COUNT];
  std::copy_n(counters_, KVRM_COUNTER_COUNT, counters);
  counters[KVRM_COUNT_SHAPES_PREPARED] = executor_->captures();
  std::copy_n(counters, std::min<uint32_t>(count, KVRM_COUNTER_COUNT), out);
  return KVRM_OK;
}

}  // namespace kvrm::cuda
