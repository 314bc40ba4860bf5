#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace kvrm::cuda::emulator {

constinit thread_local Lane* current = nullptr;

namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kGuardBytes = 4 << 10;
constexpr size_t kStackColours = 128;
constexpr size_t kStackColourBytes = 5 * 64;

// AddressSanitizer must know which stack it looks at.
inline void BeforeSwitch([[maybe_unused]] void** save, [[maybe_unused]] const void* bottom,
                         [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(save, bottom, bytes);
#endif
}

inline void AfterSwitch([[maybe_unused]] void* saved, [[maybe_unused]] const void** bottom,
                        [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(saved, bottom, bytes);
#endif
}

std::string Name(const Where& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line()) + " in " + where.function_name();
}

}  // namespace

// The fiber of a lane: runs its thread of one block after another.
void Block::RunFiber() {
  Lane& lane = *current;
  Block& block = *lane.block;
  AfterSwitch(nullptr, &block.scheduler_stack_, &block.scheduler_stack_bytes_);
  for (;;) {
    Main(lane);
    block.Suspend(lane);
  }
}

Block::Block() : lanes_(new Lane[kMaxThreads]), warps_(new Warp[kMaxThreads / kWarp]) {}

Block::~Block() {
  for (uint32_t i = 0; i < fibers_; ++i) munmap(lanes_[i].stack, lanes_[i].stack_bytes);
  std::free(shared_);
}

void Block::AddFibers(uint32_t threads) {
  for (; fibers_ < threads; ++fibers_) {
    Lane& lane = lanes_[fibers_];
    void* stack =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, kGuardBytes, PROT_NONE) != 0) {
      std::fprintf(stderr, "kvrm emulator: no memory for the stacks of a block\n");
      std::abort();
    }
    lane.block = this;
    lane.warp = &warps_[fibers_ / kWarp];
    lane.lane = fibers_ % kWarp;
    lane.stack = stack;
    lane.stack_bytes = kStackBytes;
    // Tops at different places of their pages: caches would hold few of them otherwise.
    const size_t used = kStackBytes - fibers_ % kStackColours * kStackColourBytes;
    lane.context = MakeFiber(static_cast<char*>(stack) + used, used, &Block::RunFiber);
    warps_[fibers_ / kWarp].lanes = &lanes_[fibers_ / kWarp * kWarp];
  }
}

void Block::Main(Lane& lane) {
  Block& block = *lane.block;
  block.kernel_->body();
  if (block.kernel_->dependent && !lane.waited_for_previous) {
    block.Die("a thread of a dependent launch ended without WaitForPrevious()", block.kernel_->where);
  }
  lane.warp->exited |= 1u << lane.lane;
  --block.alive_;
  if (block.at_barrier_ > 0 && block.at_barrier_ == block.alive_) block.OpenBarrier();
}

void Block::RunLane(Lane& lane) {
  current = &lane;
  void* fake = nullptr;
  BeforeSwitch(&fake, lane.stack, lane.stack_bytes);
  SwitchFiber(&scheduler_, lane.context);
  AfterSwitch(fake, nullptr, nullptr);
}

void Block::Suspend(Lane& lane) {
  BeforeSwitch(&lane.fake_stack, scheduler_stack_, scheduler_stack_bytes_);
  SwitchFiber(&lane.context, scheduler_);
  AfterSwitch(lane.fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
}

void Block::Enqueue(Warp& warp) {
  if (warp.queued) return;
  warp.queued = true;
  queue_.push_back(&warp);
}

void Block::MakeReady(Lane& lane) {
  lane.waits_for = nullptr;
  lane.warp->ready |= 1u << lane.lane;
  Enqueue(*lane.warp);
}

void Block::Start(const Kernel& kernel, uint3 index) {
  kernel_ = &kernel;
  const uint32_t threads = kernel.block.x * kernel.block.y * kernel.block.z;
  AddFibers(threads);
  if (shared_ == nullptr || shared_bytes_ != kernel.shared_bytes) {
    std::free(shared_);
    shared_bytes_ = kernel.shared_bytes;
    // Of that very size, so that AddressSanitizer sees what goes beyond.
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, shared_bytes_ > 0 ? shared_bytes_ : 1) != 0) std::abort();
    shared_ = static_cast<unsigned char*>(memory);
  }
  std::memset(shared_, 0xff, shared_bytes_);
  info_ = {index, kernel.block, kernel.grid, shared_};
  alive_ = threads;
  at_barrier_ = 0;
  barrier_waiters_.clear();
  bulk_copies_.clear();
  queue_.clear();
  for (uint32_t i = 0; i < threads; ++i) {
    Lane& lane = lanes_[i];
    lane.thread = {i % kernel.block.x, i / kernel.block.x % kernel.block.y, i / kernel.block.x / kernel.block.y};
    lane.info = &info_;
    lane.waits_for = nullptr;
    lane.waited_for_previous = false;
    lane.group = 0;
    lane.copies.clear();
  }
  for (uint32_t w = 0; w * kWarp < threads; ++w) {
    Warp& warp = warps_[w];
    const uint32_t size = std::min(kWarp, threads - w * kWarp);
    warp.exists = size == kWarp ? ~0u : (1u << size) - 1;
    warp.ready = warp.exists;
    warp.waiting = warp.exited = 0;
    warp.queued = false;
    Enqueue(warp);
  }
}

void Block::Run(const Kernel& kernel, uint3 index, uint64_t seed) {
  Start(kernel, index);
  Random random(seed);
  while (!queue_.empty()) {
    const uint32_t turn = random.Next();
    const size_t at = turn % queue_.size();
    Warp& warp = *queue_[at];
    const uint32_t stride = turn >> 16 | 1u;
    uint32_t next = turn >> 8;
    for (uint32_t i = 0; i < kWarp; ++i, next += stride) {
      const uint32_t lane = next % kWarp;
      if ((warp.ready >> lane & 1u) == 0) continue;
      warp.ready &= ~(1u << lane);
      RunLane(warp.lanes[lane]);
    }
    if (warp.ready == 0) {
      warp.queued = false;
      queue_[at] = queue_.back();
      queue_.pop_back();
    }
  }
  if (alive_ > 0) Die("deadlock: no thread of the block can run", kernel.where);
  current = nullptr;
}

void Block::OpenBarrier() {
  at_barrier_ = 0;
  const uint32_t threads = info_.block.x * info_.block.y * info_.block.z;
  for (uint32_t i = 0; i < threads; ++i) {
    const uint32_t bit = 1u << lanes_[i].lane;
    if ((lanes_[i].warp->exited & bit) == 0) MakeReady(lanes_[i]);
  }
}

void Block::SyncThreads(Lane& lane, const Where& where) {
  lane.waits_for = "__syncthreads";
  lane.where = where;
  if (at_barrier_ == 0) {
    first_at_barrier_ = &lane;
  } else if (const Where& first = first_at_barrier_->where;
             first.line() != where.line() || first.column() != where.column() ||
             (first.file_name() != where.file_name() && std::strcmp(first.file_name(), where.file_name()) != 0)) {
    Die("threads of a block wait at different __syncthreads", where);
  }
  if (++at_barrier_ == alive_) OpenBarrier();
  Suspend(lane);
}

void Block::WakeBarrierWaiters() {
  for (Lane* lane : barrier_waiters_) MakeReady(*lane);
  barrier_waiters_.clear();
}

void Block::Die(const char* what, const Where& where) {
  const auto print = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  const auto triple = [](auto v) {
    return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
  };
  print(std::string("kvrm emulator: ") + what);
  print("  at " + Name(where));
  print("  block " + triple(info_.index) + " of " + triple(info_.grid) + ", threads " + triple(info_.block) +
        ", launched at " + Name(kernel_->where));
  // Threads in the same place, together.
  struct Place {
    std::string text;
    uint32_t first, count;
  };
  std::vector<Place> places;
  const uint32_t threads = info_.block.x * info_.block.y * info_.block.z;
  for (uint32_t i = 0; i < threads; ++i) {
    const Lane& lane = lanes_[i];
    std::string text = "can run";
    if ((lane.warp->exited >> lane.lane & 1u) != 0) {
      text = "ended";
    } else if (lane.waits_for != nullptr) {
      text = std::string("in ") + lane.waits_for + " at " + Name(lane.where);
    }
    const auto same = std::find_if(places.begin(), places.end(), [&](const Place& p) { return p.text == text; });
    if (same != places.end()) {
      ++same->count;
    } else {
      places.push_back({text, i, 1});
    }
  }
  for (size_t i = 0; i < std::min<size_t>(places.size(), 16); ++i) {
    const Place& place = places[i];
    print("  " + std::to_string(place.count) + " threads from " + std::to_string(place.first) + " on: " + place.text);
  }
  std::fflush(stderr);
  std::abort();
}

// ---- what a thread calls -----------------------------------------------------------------------------------

void Die(const char* what, const Where& where) { current->block->Die(what, where); }

void Yield() { current->block->Suspend(*current); }

void SyncThreads(const Where& where) { current->block->SyncThreads(*current, where); }

bool Arrive(const char* what, uint32_t mask, const Where& where) {
  Lane& lane = *current;
  Warp& warp = *lane.warp;
  const uint32_t bit = 1u << lane.lane;
  if ((mask & bit) == 0) Die("a lane takes part in a collective whose mask leaves it out", where);
  lane.waits_for = what;
  lane.where = where;
  lane.mask = mask;
  warp.waiting |= bit;
  const uint32_t wanted = mask & warp.exists;
  if ((warp.waiting & wanted) != wanted) {
    lane.block->Suspend(lane);
    return false;
  }
  for (uint32_t l = 0; l < kWarp; ++l) {
    if ((wanted >> l & 1u) == 0) continue;
    const Lane& other = warp.lanes[l];
    if (other.mask != mask || other.waits_for != what || other.where.line() != where.line() ||
        other.where.column() != where.column()) {
      Die("lanes of a warp wait at different collectives", where);
    }
  }
  return true;
}

void Release(uint32_t mask) {
  Lane& self = *current;
  Warp& warp = *self.warp;
  const uint32_t wanted = mask & warp.exists;
  for (uint32_t l = 0; l < kWarp; ++l) {
    if ((wanted >> l & 1u) != 0) warp.lanes[l].waits_for = nullptr;
  }
  warp.waiting &= ~wanted;
  warp.ready |= wanted & ~(1u << self.lane);
  self.block->Enqueue(warp);
}

}  // namespace kvrm::cuda::emulator
