// attention_tensor.h - the kernel of attention on tensor cores and its launch; one file per head size
// instantiates it.
#ifndef KVRM_CUDA_ATTENTION_TENSOR_H_
#define KVRM_CUDA_ATTENTION_TENSOR_H_

#include "attention_decode.h"
#include "attention_kernels.h"
#include "attention_prefill.h"

// The parameters stay where they are; copied, they would be local memory as soon as one is referred to.
#ifdef KVRM_EMULATOR
#define KVRM_GRID_CONSTANT
#else
#define KVRM_GRID_CONSTANT __grid_constant__
#endif

namespace kvrm::cuda {

inline int CurrentDevice() {
  int device = 0;
  (void)cudaGetDevice(&device);
  return device;
}

// What a GPU has to confirm (attention_bench.cc): how many chunks a warp's ring holds. Two blocks to a
// multiprocessor and about 17 KiB per warp and ring give some 100 KiB under way; to keep memory busy an H200
// needs 33 KiB. Head size 256 has one block to a multiprocessor.
template <uint32_t D, class Kv>
struct DefaultDepth {
  static constexpr uint32_t kFits = 17408 / Geometry<D, Kv>::kChunkBytes;
  static constexpr uint32_t kValue = kFits < 3 ? 3 : kFits > 8 ? 8 : kFits;
};

constexpr uint32_t BlocksPerMultiprocessor(uint32_t dim) { return dim > 128 ? 1 : 2; }

// wide: decode units go through the prefill code, one split at a time; for G above 16.
template <uint32_t D, class Kv, uint32_t kDepth>
__global__ void __launch_bounds__(kThreads, BlocksPerMultiprocessor(D))
    AttendTensor(const KVRM_GRID_CONSTANT StepView step, const KVRM_GRID_CONSTANT AttentionArgs args, bool wide) {
  __shared__ uint32_t next, merges;
  WaitForPrevious();
  LaunchDependents();
  const WorkList list = ListWork(step, args.window);
  uint32_t number = blockIdx.x;
  PrefillBlock<D, Kv> prefill(step, args);
  while (number < (wide ? list.total : list.prefill)) {
    if (threadIdx.x == 0) next = atomicAdd(args.work, 1u) + gridDim.x;
    Work work;
    uint32_t splits = 1;
    bool seen = true;
    if (number < list.prefill) {
      work = PrefillWork(step, list, number);
      work.split_first = FirstSplit(step, step.units[work.unit], args.window);
      work.split_last = LastSplit(step, step.units[work.unit]);
    } else {
      uint32_t place;
      work.unit = DecodeUnit(step, list, number, place);
      const AttentionUnit& unit = step.units[work.unit];
      seen = DecodePlace(step, list, unit, args.window, place, work);
      splits = LastSplit(step, unit) - FirstSplit(step, unit, args.window) + 1;
    }
    if (seen) prefill.Run(work, splits > 1);
    if (threadIdx.x == 0) merges = seen && splits > 1 && ArriveAtRow(step, args, work, splits);
    __syncthreads();
    if (merges != 0) MergeSplits(step, args, work, threadIdx.x, kThreads);
    number = next;
    __syncthreads();
  }
  if (!wide) DecodeBlock<D, Kv, kDepth>(step, args).Run(list, number);
}

template <uint32_t D, class Kv, uint32_t kDepth = DefaultDepth<D, Kv>::kValue>
void LaunchTensor(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  const uint32_t group = step.heads / step.kv_heads;
  const auto kernel = AttendTensor<D, Kv, kDepth>;
  int limit = 0, blocks = 0;
  (void)cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, CurrentDevice());
  const uint32_t narrow = DecodeShared<D, Kv, kDepth>(group).end, prefill = PrefillShared<D, Kv>::kEnd;
  const bool wide = group > kDecodeRows || narrow > static_cast<uint32_t>(limit);
  const uint32_t bytes = wide || narrow < prefill ? prefill : narrow;
  AllowShared(kernel, bytes);
  (void)cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, bytes);
  const uint32_t grid = context.sms * static_cast<uint32_t>(blocks > 0 ? blocks : 1);
  Launch({dim3(grid), dim3(kThreads), bytes, context.stream, context.dependent}, kernel, step, args, wide);
}

// One head size, every type that it is for.
template <uint32_t D>
void LaunchTensorOf(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  switch (step.kv_dtype) {
    case KVRM_F16:
      return LaunchTensor<D, f16_t>(context, step, args);
    case KVRM_BF16:
      return LaunchTensor<D, bf16_t>(context, step, args);
    default:
      return LaunchTensor<D, fp8_t>(context, step, args);
  }
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_TENSOR_H_
