#include "transport.h"

#include <algorithm>
#include <tuple>

namespace kvrm::cuda {

void JoinMoves(const kvrm_move* moves, uint32_t num_moves, std::vector<TierCopy>* out) {
  constexpr uint32_t kToHost = KVRM_TIER_POOL | KVRM_TIER_HOST << 16;
  out->clear();
  for (uint32_t i = 0; i < num_moves; ++i) {
    const kvrm_move& move = moves[i];
    if (move.tiers != KVRM_TIER_POOL) out->push_back({move.tiers == kToHost, move.from, move.to, move.count});
  }
  std::sort(out->begin(), out->end(), [](const TierCopy& a, const TierCopy& b) {
    return std::tie(a.to_host, a.from) < std::tie(b.to_host, b.from);
  });
  size_t kept = 0;
  for (const TierCopy& copy : *out) {
    TierCopy* last = kept == 0 ? nullptr : &(*out)[kept - 1];
    if (last && last->to_host == copy.to_host && last->from + last->count == copy.from &&
        last->to + last->count == copy.to) {
      last->count += copy.count;
    } else {
      (*out)[kept++] = copy;
    }
  }
  out->resize(kept);
}

kvrm_status HostTier::Create(uint32_t host_blocks, uint64_t block_bytes, std::unique_ptr<HostTier>* out) {
  std::unique_ptr<HostTier> tier(new HostTier(block_bytes));
  KVRM_TRY(PinnedMemory::Allocate(host_blocks * block_bytes, "the host tier", &tier->memory_));
  KVRM_CUDA_TRY("create the host tier", cudaStreamCreateWithFlags(&tier->stream_, cudaStreamNonBlocking));
  KVRM_CUDA_TRY("create the host tier", cudaEventCreateWithFlags(&tier->before_, cudaEventDisableTiming));
  KVRM_CUDA_TRY("create the host tier", cudaEventCreateWithFlags(&tier->after_, cudaEventDisableTiming));
  *out = std::move(tier);
  return KVRM_OK;
}

HostTier::~HostTier() {
  if (stream_) cudaStreamSynchronize(stream_);
  if (before_) cudaEventDestroy(before_);
  if (after_) cudaEventDestroy(after_);
  if (stream_) cudaStreamDestroy(stream_);
}

kvrm_status HostTier::Enqueue(const kvrm_move* moves, uint32_t num_moves, uint8_t* pool, cudaStream_t stream) {
  JoinMoves(moves, num_moves, &copies_);
  if (copies_.empty()) return KVRM_OK;
  KVRM_CUDA_TRY("move blocks between the tiers", cudaEventRecord(before_, stream));
  KVRM_CUDA_TRY("move blocks between the tiers", cudaStreamWaitEvent(stream_, before_));
  KVRM_TRY(Copy(pool));
  KVRM_CUDA_TRY("move blocks between the tiers", cudaEventRecord(after_, stream_));
  KVRM_CUDA_TRY("move blocks between the tiers", cudaStreamWaitEvent(stream, after_));
  return KVRM_OK;
}

// No copy reads or writes what another one writes, so their order is free.
kvrm_status HostTier::Copy(uint8_t* pool) {
  to_.clear();
  from_.clear();
  bytes_.clear();
  for (const TierCopy& copy : copies_) {
    uint8_t* const from = (copy.to_host ? pool : memory_.data()) + copy.from * block_bytes_;
    uint8_t* const to = (copy.to_host ? memory_.data() : pool) + copy.to * block_bytes_;
    from_.push_back(from);
    to_.push_back(to);
    bytes_.push_back(copy.count * block_bytes_);
  }
  if (copies_.size() == 1) {
    const cudaMemcpyKind kind = copies_[0].to_host ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice;
    KVRM_CUDA_TRY("move blocks between the tiers", cudaMemcpyAsync(to_[0], from_[0], bytes_[0], kind, stream_));
    return KVRM_OK;
  }
  // Pinned memory and the pool: CUDA knows where both are, and asks for no hint.
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
  size_t first = 0;
  KVRM_CUDA_TRY("move blocks between the tiers", cudaMemcpyBatchAsync(to_.data(), from_.data(), bytes_.data(),
                                                                      bytes_.size(), &attributes, &first, 1, stream_));
  return KVRM_OK;
}

}  // namespace kvrm::cuda
