#include "thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace kvrm::cpu {
namespace {

// How long a thread spins before it sleeps. A futex wake-up costs tens of microseconds, about as much
// as this; the stages of a step follow each other faster.
constexpr std::chrono::microseconds kSpin{40};

// Spins until condition() or kSpin has passed; returns condition().
template <typename Condition>
bool SpinUntil(Condition condition) {
  // The clock costs as much as some pauses, so it is read seldom.
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      CpuRelax();
    }
  } while (std::chrono::steady_clock::now() - start < kSpin);
  return condition();
}

}  // namespace

ThreadPool::ThreadPool(uint32_t threads) {
  try {
    for (uint32_t member = 1; member < threads; ++member) workers_.emplace_back([this, member] { Work(member); });
  } catch (...) {  // the system has no more threads: end those that run
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  stop_ = true;
  ++doorbell_;
  doorbell_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

bool ThreadPool::HasTiles() const {
  const uint64_t ticket = ticket_.load();
  return uint32_t(ticket) < uint32_t(ticket >> 32);
}

// Works until no tile is left.
void ThreadPool::TakeTiles(uint32_t member) {
  while (HasTiles()) {  // a look first: the counter must not run away while many wait
    const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
    const uint32_t tile = uint32_t(ticket);
    if (tile >= uint32_t(ticket >> 32)) break;
    call_(context_, tile, member);
    // Each tile is counted at once. Counting at the end would be cheaper, but a member that goes on
    // with the next job's tiles would then mix the two.
    if (done_.fetch_add(1) + 1 == uint32_t(ticket >> 32) && member != 0 && caller_waits_.load() != 0) {
      done_.notify_one();
    }
  }
}

void ThreadPool::RunShared(uint32_t tiles, const void* context, Call call) {
  context_ = context;
  call_ = call;
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(uint64_t{tiles} << 32);
  // Pairs with Work(): it counts itself a sleeper before its last look at ticket_.
  if (const uint32_t sleepers = sleepers_.load(); sleepers != 0) {
    ++doorbell_;
    if (tiles - 1 < sleepers) {
      for (uint32_t i = 0; i < tiles - 1; ++i) doorbell_.notify_one();
    } else {
      doorbell_.notify_all();
    }
  }
  TakeTiles(0);
  if (SpinUntil([&] { return done_.load() == tiles; })) return;
  caller_waits_.store(1);
  for (uint32_t done; (done = done_.load()) != tiles;) done_.wait(done);
  caller_waits_.store(0);
}

void ThreadPool::Work(uint32_t member) {
  while (!stop_) {
    TakeTiles(member);
    if (SpinUntil([&] { return HasTiles() || stop_.load(); })) continue;
    const uint32_t rings = doorbell_.load();
    ++sleepers_;
    if (!HasTiles() && !stop_) doorbell_.wait(rings);
    --sleepers_;
  }
}

uint32_t ThreadCount(uint32_t configured) {
  if (configured != 0) return configured;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return static_cast<uint32_t>(CPU_COUNT(&allowed));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace kvrm::cpu
