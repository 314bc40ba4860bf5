// transport.h - the host tier: blocks in pinned memory, laid out as in the pool, and the copies between the
// two. They run on a stream of their own, before the step whose descriptor asks for them and after the
// step before it.
#ifndef KVRM_CUDA_TRANSPORT_H_
#define KVRM_CUDA_TRANSPORT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../kvrm.h"
#include "device_memory.h"

namespace kvrm::cuda {

// One copy between the pool and the host tier, of adjacent blocks.
struct TierCopy {
  bool to_host;
  uint32_t from;  // blocks
  uint32_t to;
  uint32_t count;
};

// The moves between the tiers (others are left out), joined where both sides are adjacent: as few copies,
// each as long as possible. Replaces what is in `out`.
void JoinMoves(const kvrm_move* moves, uint32_t num_moves, std::vector<TierCopy>* out);

class HostTier {
 public:
  static kvrm_status Create(uint32_t host_blocks, uint64_t block_bytes, std::unique_ptr<HostTier>* out);
  // Waits for copies under way.
  ~HostTier();
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;

  // The moves between the tiers: after everything that `stream` was given so far, and before all that it is
  // given from now on. pool is the GPU's. Not while the stream is captured.
  kvrm_status Enqueue(const kvrm_move* moves, uint32_t num_moves, uint8_t* pool, cudaStream_t stream);

  const uint8_t* data() const { return memory_.data(); }

 private:
  explicit HostTier(uint64_t block_bytes) : block_bytes_(block_bytes) {}
  kvrm_status Copy(uint8_t* pool);

  const uint64_t block_bytes_;
  PinnedMemory memory_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t before_ = nullptr;  // the steps so far
  cudaEvent_t after_ = nullptr;   // the copies
  std::vector<TierCopy> copies_;
  std::vector<void*> to_;
  std::vector<const void*> from_;
  std::vector<size_t> bytes_;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_TRANSPORT_H_
