#include "engine.h"

#include <algorithm>
#include <cstring>

#include "engine_config.h"

namespace kvrm::cpu {
namespace {

uint32_t Microseconds(std::chrono::steady_clock::duration time) {
  const int64_t us = std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, UINT32_MAX));
}

uint8_t* Bytes(std::vector<uint64_t>& words) { return reinterpret_cast<uint8_t*>(words.data()); }
const uint8_t* Bytes(const std::vector<uint64_t>& words) { return reinterpret_cast<const uint8_t*>(words.data()); }

}  // namespace

Engine::Engine(std::shared_ptr<const Model> model, const kvrm_engine_config& config)
    : model_(std::move(model)),
      config_(config),
      at_(LayOutRecords(config)),
      limits_(LimitsOf(config, model_->config.vocab, model_->widest_window)),
      scratch_(limits_) {
  shadow_.sampled.resize(config.slots);
  for (Entry& entry : ring_) {
    entry.descriptor.resize(at_.descriptor_bytes / sizeof(uint64_t));
    entry.result.resize(at_.result_bytes / sizeof(uint64_t));
  }
}

kvrm_status Engine::Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config, kvrm_engine_info* info,
                           std::shared_ptr<Engine>* out) {
  KVRM_TRY(CheckEngineConfig(*model, config));
  const uint32_t threads = ThreadCount(config.threads);
  std::shared_ptr<Engine> engine(new Engine(model, config));
  KVRM_TRY(Executor::Create(std::move(model), config, threads, &engine->executor_));
  engine->counters_[KVRM_COUNT_SHAPES_PREPARED] = engine->limits_.shapes;
  engine->thread_ = std::thread([e = engine.get()] { e->Loop(); });

  const RecordLayout& at = engine->at_;
  info->descriptor_bytes = static_cast<uint32_t>(at.descriptor_bytes);
  info->slots_offset = static_cast<uint32_t>(at.slots);
  info->segments_offset = static_cast<uint32_t>(at.segments);
  info->tokens_offset = static_cast<uint32_t>(at.tokens);
  info->targets_offset = static_cast<uint32_t>(at.targets);
  info->groups_offset = static_cast<uint32_t>(at.groups);
  info->moves_offset = static_cast<uint32_t>(at.moves);
  info->result_bytes = static_cast<uint32_t>(at.result_bytes);
  info->result_slots_offset = static_cast<uint32_t>(at.result_slots);
  info->result_slot_tops_offset = static_cast<uint32_t>(at.result_slot_tops);
  info->result_rows_offset = static_cast<uint32_t>(at.result_rows);
  info->result_row_tops_offset = static_cast<uint32_t>(at.result_row_tops);
  info->block_bytes = static_cast<uint32_t>(engine->executor_->block_bytes());
  info->arena_kib = static_cast<uint32_t>((engine->executor_->arena_bytes() + 1023) / 1024);
  info->threads = threads;
  info->shapes = engine->limits_.shapes;
  *out = std::move(engine);
  return KVRM_OK;
}

Engine::~Engine() {
  if (!thread_.joinable()) return;
  stop_ = true;
  // The loop sleeps on committed_, so that is what has to change.
  committed_.fetch_add(1);
  committed_.notify_one();
  thread_.join();
}

kvrm_status Engine::Refuse(const Refusal& refusal) const {
  char text[256];
  DescribeRefusal(refusal, text, sizeof(text));
  return Fail(KVRM_INVALID_DESCRIPTOR, "commit step %u: %s", shadow_.last_step + 1, text);
}

void Engine::CopyInUse(const uint8_t* from, const kvrm_header& header, uint8_t* to) const {
  auto copy = [&](uint64_t offset, size_t count, size_t size) {
    std::memcpy(to + offset, from + offset, count * size);
  };
  copy(at_.slots, config_.slots, sizeof(kvrm_slot));
  copy(at_.segments, header.num_segments, sizeof(kvrm_segment));
  copy(at_.tokens, header.num_tokens, sizeof(int32_t));
  copy(at_.targets, header.num_tokens, sizeof(int32_t));
  copy(at_.groups, header.num_groups, sizeof(kvrm_group));
  copy(at_.moves, header.num_moves, sizeof(kvrm_move));
}

kvrm_status Engine::Commit(const uint8_t* descriptor, uint32_t bytes) {
  if (bytes != at_.descriptor_bytes) {
    return Fail(KVRM_INVALID_ARGUMENT, "commit step %u: the descriptor has %u bytes, wanted %u", shadow_.last_step + 1,
                bytes, static_cast<uint32_t>(at_.descriptor_bytes));
  }
  const uint32_t step = committed_.load(std::memory_order_relaxed);
  if (step - taken_ == KVRM_MAX_IN_FLIGHT) {
    return Fail(KVRM_BUSY, "commit step %u: %u steps are in flight, wanted at most %u before it", shadow_.last_step + 1,
                step - taken_, KVRM_MAX_IN_FLIGHT - 1);
  }
  // The copy is what is checked, so that a caller who writes at the same time cannot change what has
  // been found good. A free place of the ring is no state.
  Entry& entry = ring_[step % kRing];
  uint8_t* copy = Bytes(entry.descriptor);
  const DescriptorView view = ViewDescriptor(at_, copy);
  std::memcpy(copy, descriptor, sizeof(kvrm_header));
  Refusal refusal;
  if (!CheckHeader(limits_, shadow_, *view.header, &refusal)) return Refuse(refusal);
  CopyInUse(descriptor, *view.header, copy);
  if (!CheckSections(limits_, shadow_, view, scratch_, &refusal)) return Refuse(refusal);
  ApplyToShadow(limits_, view, shadow_);
  entry.committed = Clock::now();
  committed_.store(step + 1);
  committed_.notify_one();
  return KVRM_OK;
}

void Engine::Loop() {
  for (uint32_t step = 0;; ++step) {
    while (committed_.load() == step) committed_.wait(step);
    if (stop_) return;  // what was committed but not begun has no reader any more
    RunEntry(ring_[step % kRing]);
  }
}

void Engine::RunEntry(Entry& entry) {
  const Clock::time_point start = Clock::now();
  const DescriptorView view = ViewDescriptor(at_, Bytes(entry.descriptor));
  const ResultView result = ViewResult(at_, Bytes(entry.result));
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
    counters_[KVRM_COUNT_BUSY_US] += std::chrono::duration<double, std::micro>(end - start).count();
    counters_[KVRM_COUNT_GROUPS] += view.header->num_groups;
    ++completed_;
  }
  done_.notify_one();
}

void Engine::CopyOut(const Entry& entry, uint8_t* out) const {
  const uint8_t* from = Bytes(entry.result);
  auto copy = [&](uint64_t offset, size_t bytes) { std::memcpy(out + offset, from + offset, bytes); };
  const auto* header = reinterpret_cast<const kvrm_result_header*>(from);
  const auto* slots = reinterpret_cast<const kvrm_slot_result*>(from + at_.result_slots);
  const auto* rows = reinterpret_cast<const kvrm_row_result*>(from + at_.result_rows);
  constexpr size_t kTops = KVRM_MAX_TOP_LOGPROBS * sizeof(kvrm_top);
  copy(0, sizeof(kvrm_result_header));
  copy(at_.result_slots, config_.slots * sizeof(kvrm_slot_result));
  for (uint32_t i = 0; i < config_.slots; ++i) {
    if (slots[i].num_tops != 0) copy(at_.result_slot_tops + i * kTops, slots[i].num_tops * sizeof(kvrm_top));
  }
  copy(at_.result_rows, header->num_rows * sizeof(kvrm_row_result));
  for (uint32_t i = 0; i < header->num_rows; ++i) {
    if (rows[i].num_tops != 0) copy(at_.result_row_tops + i * kTops, rows[i].num_tops * sizeof(kvrm_top));
  }
}

kvrm_status Engine::Wait(uint32_t timeout_us, uint8_t* result, uint32_t bytes) {
  if (bytes < at_.result_bytes) {
    return Fail(KVRM_INVALID_ARGUMENT, "wait: the result buffer has %u bytes, wanted at least %u", bytes,
                static_cast<uint32_t>(at_.result_bytes));
  }
  if (!InFlight()) return Fail(KVRM_EMPTY, "wait: no step is in flight, wanted a committed one");
  {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return completed_ != taken_; };
    if (!ready() && !done_.wait_for(lock, std::chrono::microseconds(timeout_us), ready)) {
      return Fail(KVRM_TIMEOUT, "wait: the step is still running after %u us", timeout_us);
    }
  }
  CopyOut(ring_[taken_ % kRing], result);
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

kvrm_status Engine::ExportBlocks(uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) const {
  KVRM_TRY(CheckBlockAccess("export", first, count, bytes));
  if (bytes != 0) std::memcpy(out, executor_->pool() + first * executor_->block_bytes(), bytes);
  return KVRM_OK;
}

kvrm_status Engine::ImportBlocks(uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) {
  KVRM_TRY(CheckBlockAccess("import", first, count, bytes));
  if (bytes != 0) std::memcpy(executor_->pool() + first * executor_->block_bytes(), in, bytes);
  return KVRM_OK;
}

kvrm_status Engine::ReadLogits(uint32_t slot, float* out, uint32_t count) const {
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

void Engine::ReadCounters(double* out, uint32_t count) const {
  std::lock_guard lock(mutex_);
  std::copy_n(counters_, std::min<uint32_t>(count, KVRM_COUNTER_COUNT), out);
}

}  // namespace kvrm::cpu
