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
  static constexpr uint32_t kValue = kFits < 3 ? 3 : kFits > kMaxDepth ? kMaxDepth : kFits;
};

constexpr uint32_t BlocksPerMultiprocessor(uint32_t dim) { return dim > 128 ? 1 : 2; }

// What the block shares while it works on segments. Not in registers: those are short.
struct SegmentControl {
  WorkList list;
  uint32_t limit;   // numbers below it are worked on so
  uint32_t number;  // off the counter, the one in hand
  uint32_t next;
  SegmentItem item;
  uint32_t seen;    // 0: an empty place
  uint32_t merges;  // the split was the last of its row
};

// By one thread: what control.number means.
__device__ __forceinline__ void TakeSegment(const StepView& step, const AttentionArgs& args, SegmentControl& control) {
  control.next = atomicAdd(args.work, 1u) + gridDim.x;
  control.seen = 1;
  Work work;
  uint32_t splits = 1;
  if (control.number < control.list.prefill) {
    work = PrefillWork(step, control.list, control.number);
    work.split_first = FirstSplit(step, step.units[work.unit], args.window);
    work.split_last = LastSplit(step, step.units[work.unit]);
  } else {
    uint32_t place;
    work.unit = DecodeUnit(step, control.list, control.number, place);
    const AttentionUnit unit = UnitOf(step, work.unit, args.window);
    control.seen = DecodePlace(step, control.list, unit, args.window, place, work);
    splits = MergedSplits(step, unit, args.window);
    // Padding is passed over here: to compute it and leave no result takes registers that sm_100 has not.
    if (splits == 0) control.seen = 0;
  }
  control.item = {UnitOf(step, work.unit, args.window), work, splits};
}

template <uint32_t D, class Kv, uint32_t kDepth, bool kBulk>
__global__ void __launch_bounds__(kThreads, BlocksPerMultiprocessor(D))
    AttendTensor(const KVRM_GRID_CONSTANT StepView step, const KVRM_GRID_CONSTANT AttentionArgs args,
                 const KVRM_GRID_CONSTANT TensorShape shape) {
  __shared__ SegmentControl control;
  WaitForPrevious();
  LaunchDependents();
  if (threadIdx.x == 0) {
    control.list = ListWork(step, args.window);
    control.limit = shape.wide != 0 ? control.list.total : control.list.prefill;
    control.number = blockIdx.x;
  }
  __syncthreads();
  while (control.number < control.limit) {
    if (threadIdx.x == 0) TakeSegment(step, args, control);
    __syncthreads();
    if (control.seen != 0) PrefillBlock<D, Kv>(step, args, shape).Run(control.item);
    if (threadIdx.x == 0) {
      control.merges = control.seen != 0 && control.item.splits > 1 &&
                       ArriveAtRow(step, args, control.item.work, control.item.splits);
      control.number = control.next;
    }
    __syncthreads();
    if (control.merges != 0) MergeSplits(step, args, control.item.work, threadIdx.x, kThreads);
    __syncthreads();
  }
  if (shape.wide == 0) DecodeBlock<D, Kv, kDepth, kBulk>(step, args, shape).Run(control.list, control.number);
}

template <uint32_t D, class Kv, uint32_t kDepth = DefaultDepth<D, Kv>::kValue, bool kBulk = false>
void LaunchTensor(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  const auto kernel = AttendTensor<D, Kv, kDepth, kBulk>;
  TensorShape shape;
  shape.group = step.heads / step.kv_heads;
  shape.block_shift = BlockShift(step.block_tokens);
  shape.value_distance = static_cast<uint32_t>(ValueDistance(step));
  shape.at = DecodeShared<D, Kv, kDepth>::Offsets(shape.group);
  int limit = 0, blocks = 0;
  (void)cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, CurrentDevice());
  shape.wide = shape.group > kDecodeRows || shape.at.end > static_cast<uint32_t>(limit);
  uint32_t bytes = PrefillShared<D, Kv>::kEnd;
  if (shape.wide == 0 && bytes < shape.at.end) bytes = shape.at.end;
  AllowShared(kernel, bytes);
  (void)cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, bytes);
  const uint32_t grid = context.sms * static_cast<uint32_t>(blocks > 0 ? blocks : 1);
  Launch({dim3(grid), dim3(kThreads), bytes, context.stream, context.dependent}, kernel, step, args, shape);
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
