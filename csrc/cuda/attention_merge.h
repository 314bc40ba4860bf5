// attention_merge.h - the end of a row of attention, shared by its kernels: the result's type, and the
// merge of a decoding row's splits by whoever finishes the last of them.
#ifndef KVRM_CUDA_ATTENTION_MERGE_H_
#define KVRM_CUDA_ATTENTION_MERGE_H_

#include "attention_walk.h"

namespace kvrm::cuda {

// out[row][column] of args.
__device__ __forceinline__ void StoreOut(const AttentionArgs& args, uint64_t index, float value) {
  if (args.out_dtype == KVRM_F32) {
    static_cast<float*>(args.out)[index] = value;
  } else if (args.out_dtype == KVRM_F16) {
    static_cast<f16_t*>(args.out)[index] = FromFloat<f16_t>(value);
  } else {
    static_cast<bf16_t*>(args.out)[index] = FromFloat<bf16_t>(value);
  }
}

// The same for two neighbours; index is even.
__device__ __forceinline__ void StoreOut2(const AttentionArgs& args, uint64_t index, float x, float y) {
  if (args.out_dtype == KVRM_F32) {
    *reinterpret_cast<float2*>(static_cast<float*>(args.out) + index) = make_float2(x, y);
  } else if (args.out_dtype == KVRM_F16) {
    *reinterpret_cast<uint32_t*>(static_cast<f16_t*>(args.out) + index) = Pack2<f16_t>(x, y);
  } else {
    *reinterpret_cast<uint32_t*>(static_cast<bf16_t*>(args.out) + index) = Pack2<bf16_t>(x, y);
  }
}

// The same for four neighbours; index is a multiple of 4.
__device__ __forceinline__ void StoreOut4(const AttentionArgs& args, uint64_t index, const float (&value)[4]) {
  if (args.out_dtype == KVRM_F32) {
    *reinterpret_cast<float4*>(static_cast<float*>(args.out) + index) =
        make_float4(value[0], value[1], value[2], value[3]);
  } else if (args.out_dtype == KVRM_F16) {
    *reinterpret_cast<uint2*>(static_cast<f16_t*>(args.out) + index) =
        make_uint2(Pack2<f16_t>(value[0], value[1]), Pack2<f16_t>(value[2], value[3]));
  } else {
    *reinterpret_cast<uint2*>(static_cast<bf16_t*>(args.out) + index) =
        make_uint2(Pack2<bf16_t>(value[0], value[1]), Pack2<bf16_t>(value[2], value[3]));
  }
}

// By one thread, after a barrier that follows the writes of a split's partial result. True: it is the last of
// the row's splits, and after one more barrier the block may read all of them.
__device__ __forceinline__ bool ArriveAtRow(const StepView& step, const AttentionArgs& args, const Work& work,
                                            uint32_t splits) {
  uint32_t* arrivals = args.arrivals + work.unit * step.kv_heads + work.kv_head;
  __threadfence();
  if (atomicAdd(arrivals, 1u) + 1 != splits) return false;
  __threadfence();
  *arrivals = 0;
  return true;
}

// Merges the partial results of a decode unit and KV head into out: threads [0, threads) take the elements
// of its G heads by turns. The caller has seen every split arrive. Even head_dim.
__device__ __forceinline__ void MergeSplits(const StepView& step, const AttentionArgs& args, const Work& work,
                                            uint32_t thread, uint32_t threads) {
  const AttentionUnit unit = step.units[work.unit];
  const uint32_t dim = step.head_dim, group = step.heads / step.kv_heads, elements = group * dim;
  const uint32_t first = FirstSplit(step, unit, args.window), last = LastSplit(step, unit);
  const float* acc = args.partial_acc + PartialIndex(step, work, first) * elements;
  const float* stat = args.partial_stat + PartialIndex(step, work, first) * group * 2;
  const uint64_t out = (uint64_t{unit.row_first} * step.heads + work.kv_head * group) * dim;
  const bool by_four = dim % 4 == 0;
  for (uint32_t e = thread * 4; e < elements; e += threads * 4) {
    if (by_four) {
      const uint32_t head = e / dim;
      SoftmaxStat total = EmptyStat();
      float value[4] = {};
      for (uint32_t split = 0; split <= last - first; ++split) {
        const float4 part = *reinterpret_cast<const float4*>(acc + uint64_t{split} * elements + e);
        const float2 m = *reinterpret_cast<const float2*>(stat + (uint64_t{split} * group + head) * 2);
        const MergeFactors factors = MergePartial(total, {m.x, m.y});
        value[0] = MergeValue(value[0], part.x, factors);
        value[1] = MergeValue(value[1], part.y, factors);
        value[2] = MergeValue(value[2], part.z, factors);
        value[3] = MergeValue(value[3], part.w, factors);
      }
      const float inverse = Div(1.0f, total.sum);
      for (float& v : value) v = Mul(v, inverse);
      StoreOut4(args, out + e, value);
      continue;
    }
    for (uint32_t i = e; i < e + 4 && i < elements; ++i) {
      SoftmaxStat total = EmptyStat();
      float value = 0.0f;
      for (uint32_t split = 0; split <= last - first; ++split) {
        const float* m = stat + (uint64_t{split} * group + i / dim) * 2;
        value = MergeValue(value, acc[uint64_t{split} * elements + i], MergePartial(total, {m[0], m[1]}));
      }
      StoreOut(args, out + i, Mul(value, Div(1.0f, total.sum)));
    }
  }
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_MERGE_H_
