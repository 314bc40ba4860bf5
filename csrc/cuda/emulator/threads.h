// threads.h - a block of the emulated GPU: one fiber per thread, on one processor. What kernels see of it:
// threadIdx and its like, barriers, shuffles and votes.
//
// A fiber runs until it must wait. The order of warps and of lanes is random from a seed, so results that
// need a barrier that is missing differ from seed to seed. Threads that wait for what cannot come, or that
// wait at different places, end the process with a message that says where they are.
#ifndef KVRM_CUDA_EMULATOR_THREADS_H_
#define KVRM_CUDA_EMULATOR_THREADS_H_

#include <atomic>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>
#include <vector>

#include "vector_types.h"

namespace kvrm::cuda::emulator {

using Where = std::source_location;

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kMaxThreads = 1024;

// What every thread of a block shares.
struct BlockInfo {
  uint3 index;
  dim3 block;
  dim3 grid;
  unsigned char* shared;  // dynamic
};

// A copy to shared memory that has been asked for.
struct PendingCopy {
  unsigned char* to;
  const unsigned char* from;
  uint32_t bytes;  // 0xff bytes stand at `to` until the copy
  bool valid;      // else zeros are written
  uint64_t group;  // cp.async: the group it belongs to
  uint64_t* barrier;
};

struct Warp;
class Block;

// A thread of the block.
struct Lane {
  uint3 thread;
  const BlockInfo* info;
  Block* block;
  Warp* warp;
  uint32_t lane;  // within the warp

  const char* waits_for = nullptr;  // what, while it waits
  Where where;
  uint32_t mask = 0;         // of the collective it waits at
  const void* in = nullptr;  // its operands there
  void* out = nullptr;       // and its result

  bool waited_for_previous = false;
  uint64_t group = 0;  // cp.async: the open group
  std::vector<PendingCopy> copies;

  void* context = nullptr;  // where the fiber goes on
  void* stack = nullptr;    // lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

struct Warp {
  Lane* lanes = nullptr;
  uint32_t exists = 0;   // one bit per lane
  uint32_t ready = 0;    // can run
  uint32_t waiting = 0;  // at a collective of the warp
  uint32_t exited = 0;
  bool queued = false;
};

// The thread that runs. Not initial-exec: that would put all thread-locals of the library, the blocks' shared
// memory among them, into the small space that is left for libraries that are loaded late.
extern constinit thread_local Lane* current;

// Ends the process: what happened, in which block, which threads wait where.
[[noreturn]] void Die(const char* what, const Where& where);

// Lets others run until somebody makes this thread ready.
void Yield();

// Arrives at a collective of the lanes in `mask`. True: this lane is the last, the others wait with their
// operands in place; it computes all results and calls Release. False: the result is there.
bool Arrive(const char* what, uint32_t mask, const Where& where);
void Release(uint32_t mask);

void SyncThreads(const Where& where);

// For every lane l of the mask, finish(in, out) finds in[l], and fills *out[l]; pointers of other lanes
// are null.
template <class Out, class In, class Finish>
inline Out Collective(const char* what, uint32_t mask, const In& in, const Where& where, Finish finish) {
  Out result = {};
  Lane& self = *current;
  self.in = &in;
  self.out = &result;
  if (Arrive(what, mask, where)) {
    const In* ins[kWarp] = {};
    Out* outs[kWarp] = {};
    for (uint32_t l = 0; l < kWarp; ++l) {
      if ((mask & self.warp->exists) >> l & 1u) {
        ins[l] = static_cast<const In*>(self.warp->lanes[l].in);
        outs[l] = static_cast<Out*>(self.warp->lanes[l].out);
      }
    }
    finish(ins, outs);
    Release(mask);
  }
  return result;
}

// The value of lane `from`; of lanes that take no part, bytes 0xff.
template <class T>
inline T Shuffle(const char* what, uint32_t mask, T value, uint32_t from, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  struct In {
    T value;
    uint32_t from;
  };
  return Collective<T>(what, mask, In{value, from}, where, [](const In* const* in, T* const* out) {
    for (uint32_t l = 0; l < kWarp; ++l) {
      if (in[l] == nullptr) continue;
      const In* source = in[in[l]->from];
      if (source != nullptr) {
        *out[l] = source->value;
      } else {
        std::memset(static_cast<void*>(out[l]), 0xff, sizeof(T));
      }
    }
  });
}

inline uint32_t Vote(const char* what, uint32_t mask, bool predicate, const Where& where) {
  return Collective<uint32_t>(what, mask, predicate, where, [](const bool* const* in, uint32_t* const* out) {
    uint32_t votes = 0;
    for (uint32_t l = 0; l < kWarp; ++l) votes |= static_cast<uint32_t>(in[l] != nullptr && *in[l]) << l;
    for (uint32_t l = 0; l < kWarp; ++l) {
      if (out[l] != nullptr) *out[l] = votes;
    }
  });
}

}  // namespace kvrm::cuda::emulator

// ---- CUDA's names ----------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// A block runs on one processor from its start to its end.
#define __shared__ static thread_local

#define threadIdx (::kvrm::cuda::emulator::current->thread)
#define blockIdx (::kvrm::cuda::emulator::current->info->index)
#define blockDim (::kvrm::cuda::emulator::current->info->block)
#define gridDim (::kvrm::cuda::emulator::current->info->grid)

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  kvrm::cuda::emulator::SyncThreads(where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location where = std::source_location::current()) {
  kvrm::cuda::emulator::Vote("__syncwarp", mask, false, where);
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int from, int width = 32,
                     std::source_location where = std::source_location::current()) {
  const unsigned lane = kvrm::cuda::emulator::current->lane, size = static_cast<unsigned>(width);
  const unsigned source = (lane & ~(size - 1)) | (static_cast<unsigned>(from) & (size - 1));
  return kvrm::cuda::emulator::Shuffle("__shfl_sync", mask, value, source, where);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                         std::source_location where = std::source_location::current()) {
  const unsigned lane = kvrm::cuda::emulator::current->lane, size = static_cast<unsigned>(width);
  unsigned source = lane ^ static_cast<unsigned>(lane_mask);
  if (source >= (lane & ~(size - 1)) + size) source = lane;
  return kvrm::cuda::emulator::Shuffle("__shfl_xor_sync", mask, value, source, where);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          std::source_location where = std::source_location::current()) {
  const unsigned lane = kvrm::cuda::emulator::current->lane, size = static_cast<unsigned>(width);
  const unsigned source = (lane & (size - 1)) + delta < size ? lane + delta : lane;
  return kvrm::cuda::emulator::Shuffle("__shfl_down_sync", mask, value, source, where);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        std::source_location where = std::source_location::current()) {
  const unsigned lane = kvrm::cuda::emulator::current->lane, size = static_cast<unsigned>(width);
  const unsigned source = (lane & (size - 1)) >= delta ? lane - delta : lane;
  return kvrm::cuda::emulator::Shuffle("__shfl_up_sync", mask, value, source, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return kvrm::cuda::emulator::Vote("__ballot_sync", mask, predicate != 0, where);
}

inline int __any_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return kvrm::cuda::emulator::Vote("__any_sync", mask, predicate != 0, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return kvrm::cuda::emulator::Vote("__all_sync", mask, predicate == 0, where) == 0;
}

// Blocks run on several processors at once.
template <class T>
inline T atomicAdd(T* at, std::type_identity_t<T> value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>);
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

template <class T>
inline T atomicExch(T* at, std::type_identity_t<T> value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  return __atomic_exchange_n(at, value, __ATOMIC_RELAXED);
}

template <class T>
inline T atomicCAS(T* at, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  __atomic_compare_exchange_n(at, &compare, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return compare;
}

template <class T>
inline T atomicMax(T* at, std::type_identity_t<T> value) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);
  T old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

template <class T>
inline T __ldg(const T* p) {
  return *p;
}

#endif  // KVRM_CUDA_EMULATOR_THREADS_H_
