// Attention over transfer groups; the loops are in attention-inl.h and attention_far-inl.h.
#include "dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ops_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention_far-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

void AttendSplitImpl(const KvView& kv, uint32_t kv_head, float scale, uint32_t window, uint32_t split, const float* q,
                     size_t q_stride, const uint32_t* positions, uint32_t count, Partial* partials, float* acc,
                     size_t acc_stride) {
  for (uint32_t i = 0; i < count; i += kBatch) {
    const uint32_t batch = std::min<uint32_t>(kBatch, count - i);
    if (kv.dtype == KVRM_Q8_0) {
      AttendBatch<Q8Block>(kv, kv_head, scale, window, split, q + i * q_stride, q_stride, positions + i, batch,
                           partials + i, acc + i * acc_stride, acc_stride);
      continue;
    }
    KVRM_WITH_DTYPE(kv.dtype, AttendBatch<T>(kv, kv_head, scale, window, split, q + i * q_stride, q_stride,
                                             positions + i, batch, partials + i, acc + i * acc_stride, acc_stride));
  }
}

void AttendFarImpl(const FarView& far, float scale, const float* q, size_t q_stride, uint32_t count, Partial* partials,
                   float* acc, size_t acc_stride) {
  for (uint32_t i = 0; i < count; i += kBatch) {
    AttendFarBatch(far, scale, q + i * q_stride, q_stride, std::min<uint32_t>(kBatch, count - i), partials + i,
                   acc + i * acc_stride, acc_stride);
  }
}

// exp of one number, by the same code as everywhere else.
HWY_INLINE float ExpOne(float x) { return hn::GetLane(Exp(hn::Set(DF(), x))); }

void MergeSplitsImpl(const Partial* partials, size_t partial_stride, const float* acc, size_t acc_stride, uint32_t num,
                     uint32_t head_dim, float* out) {
  const DF d;
  float max = -std::numeric_limits<float>::infinity();
  for (uint32_t s = 0; s < num; ++s) max = std::max(max, partials[s * partial_stride].max);
  std::fill(out, out + head_dim, 0.0f);
  float sum = 0;
  for (uint32_t s = 0; s < num; ++s) {
    const Partial& part = partials[s * partial_stride];
    if (part.sum == 0) continue;  // nothing seen, and acc may not have been written
    const float factor = ExpOne(part.max - max);
    sum += factor * part.sum;
    const VF scale = hn::Set(d, factor);
    const float* in = acc + s * acc_stride;
    for (size_t n = 0; n < head_dim; n += kLanes) {
      const VF merged = hn::MulAdd(scale, LoadUpTo(in + n, head_dim - n), LoadUpTo(out + n, head_dim - n));
      StoreUpTo(merged, out + n, head_dim - n);
    }
  }
  if (sum == 0) return;
  const VF inverse = hn::Set(d, 1.0f / sum);
  for (size_t n = 0; n < head_dim; n += kLanes) {
    StoreUpTo(hn::Mul(LoadUpTo(out + n, head_dim - n), inverse), out + n, head_dim - n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvrm::cpu {

KVRM_EXPORT(AttendSplitImpl);
KVRM_EXPORT(AttendFarImpl);
KVRM_EXPORT(MergeSplitsImpl);

void AttendSplit(const KvView& kv, uint32_t kv_head, float scale, uint32_t window, uint32_t split, const float* q,
                 size_t q_stride, const uint32_t* positions, uint32_t count, Partial* partials, float* acc,
                 size_t acc_stride) {
  KVRM_CALL(AttendSplitImpl)
  (kv, kv_head, scale, window, split, q, q_stride, positions, count, partials, acc, acc_stride);
}

void AttendFar(const FarView& far, float scale, const float* q, size_t q_stride, uint32_t count, Partial* partials,
               float* acc, size_t acc_stride) {
  KVRM_CALL(AttendFarImpl)(far, scale, q, q_stride, count, partials, acc, acc_stride);
}

void MergeSplits(const Partial* partials, size_t partial_stride, const float* acc, size_t acc_stride, uint32_t num,
                 uint32_t head_dim, float* out) {
  KVRM_CALL(MergeSplitsImpl)(partials, partial_stride, acc, acc_stride, num, head_dim, out);
}

}  // namespace kvrm::cpu
#endif  // HWY_ONCE
