// attention_generic.cu - attention by plain multiply-adds, for F32 KV and for shapes that tensor cores do
// not fit. The order of docs/cuda.md; a score is a chain over D, the sum of p adds the tile's tokens t and
// t + 32, then lanes pairwise from 16 down to 1.
#include "attention_kernels.h"
#include "attention_merge.h"

namespace kvrm::cuda {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kElements = 16;  // of rows x D that a thread owns
constexpr uint32_t kMaxRows = 32;   // query rows at once

// Query rows that are worked on together; rows * D <= kThreads * kElements.
KVRM_HD uint32_t RowsAtOnce(uint32_t dim) {
  const uint32_t rows = kThreads * kElements / dim;
  return rows < kMaxRows ? rows : kMaxRows;
}

// Dynamic shared memory.
struct Tiles {
  __device__ Tiles(uint32_t dim)
      : tile(DynamicShared<float>()), q(tile + kTileTokens * (dim + 1)), p(q + RowsAtOnce(dim) * dim) {}
  static uint32_t Bytes(uint32_t dim) {
    return (kTileTokens * (dim + 1) + RowsAtOnce(dim) * (dim + kTileTokens)) * sizeof(float);
  }
  float* tile;  // [kTileTokens][D + 1]: K, then V
  float* q;     // [rows][D]
  float* p;     // [rows][kTileTokens]: scores, then their exponentials
};

struct Control {
  Work work;
  bool stop, valid, merge;
  uint32_t block[kTileTokens / 16];  // physical blocks of the tile
  SoftmaxStat split[kMaxRows], row[kMaxRows];
  MergeFactors factors[kMaxRows];
};

// Takes the next item off the counter, for all threads.
__device__ void TakeWork(const StepView& step, const AttentionArgs& args, const WorkList& list, Control& control) {
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t n = atomicAdd(args.work, 1u);
    control.stop = n >= list.total;
    control.valid = true;
    if (n < list.prefill) {
      control.work = PrefillWork(step, list, n);
      const AttentionUnit& unit = step.units[control.work.unit];
      control.work.split_first = FirstSplit(step, unit, args.window);
      control.work.split_last = LastSplit(step, unit);
    } else if (n < list.total) {
      uint32_t place;
      control.work.unit = DecodeUnit(step, list, n, place);
      const AttentionUnit unit = UnitOf(step, control.work.unit, args.window);
      control.valid = DecodePlace(step, list, unit, args.window, place, control.work);
    }
  }
  __syncthreads();
}

// K or V of the tile that starts at `token`, zeros where no row of the unit sees.
template <class T>
__device__ void LoadTile(const StepView& step, const Control& control, const uint8_t* pool, uint32_t token,
                         uint32_t first, uint32_t last, float* tile) {
  const uint32_t dim = step.head_dim;
  for (uint32_t t = threadIdx.x / 32; t < kTileTokens; t += kThreads / 32) {
    const bool seen = token + t >= first && token + t <= last;
    const uint64_t block = seen ? control.block[t / step.block_tokens] : 0;
    const T* row = reinterpret_cast<const T*>(pool + block * step.block_bytes) + t % step.block_tokens * dim;
    for (uint32_t n = threadIdx.x % 32; n < dim; n += 32) tile[t * (dim + 1) + n] = seen ? ToFloat(row[n]) : 0.0f;
  }
}

// p [rows][kTileTokens] of the tile, merged into control.split: a warp takes rows by turns.
__device__ void Softmax(const StepView& step, const AttentionArgs& args, const AttentionUnit& unit, uint32_t row_first,
                        uint32_t rows, uint32_t token, float* p, Control& control) {
  const uint32_t lane = threadIdx.x % 32, group = step.heads / step.kv_heads;
  for (uint32_t r = threadIdx.x / 32; r < rows; r += kThreads / 32) {
    const uint32_t position = unit.position + (row_first + r) / group;
    const uint32_t first = FirstVisible(position, args.window);
    float score[2];
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t at = token + lane + 32 * i;
      score[i] = at >= first && at <= position ? p[r * kTileTokens + lane + 32 * i] : -INFINITY;
    }
    float max = score[0] > score[1] ? score[0] : score[1];
    for (uint32_t lanes = 16; lanes > 0; lanes /= 2) {
      const float other = __shfl_xor_sync(~0u, max, lanes);
      max = other > max ? other : max;
    }
    const float base = max == -INFINITY ? 0.0f : max;
    for (uint32_t i = 0; i < 2; ++i) {
      score[i] = ExpF(Sub(score[i], base));
      p[r * kTileTokens + lane + 32 * i] = score[i];
    }
    float sum = Add(score[0], score[1]);
    for (uint32_t lanes = 16; lanes > 0; lanes /= 2) sum = Add(sum, __shfl_xor_sync(~0u, sum, lanes));
    if (lane == 0) control.factors[r] = MergePartial(control.split[r], {max, sum});
  }
}

// The totals of the elements that this thread owns: element i is number threadIdx.x + i * kThreads of
// [rows][D].
struct Totals {
  float split[kElements];
  float row[kElements];
};

// rows query rows of the unit, from row_first on, over one split.
template <class T>
__device__ void AttendSplit(const StepView& step, const AttentionArgs& args, const AttentionUnit& unit,
                            const Work& work, uint32_t split, uint32_t row_first, uint32_t rows, const Tiles& tiles,
                            Control& control, Totals& totals) {
  const uint32_t dim = step.head_dim;
  const uint32_t first = FirstToken(unit, args.window), last = unit.position + unit.rows - 1;
  const kvrm_slot& slot = step.slot[unit.slot];
  const uint8_t* keys = step.pool + KeyOffset(step, args.layer, work.kv_head);
  const uint8_t* values = keys + ValueDistance(step);
  const uint32_t begin = split * step.split_tokens;
  const uint32_t seen_begin = first > begin ? first / kTileTokens * kTileTokens : begin;
  const uint32_t seen_end = last < begin + step.split_tokens ? last + 1 : begin + step.split_tokens;
  if (threadIdx.x < rows) control.split[threadIdx.x] = EmptyStat();
  for (float& value : totals.split) value = 0.0f;

  for (uint32_t token = seen_begin; token < seen_end; token += kTileTokens) {
    const uint32_t blocks = kTileTokens / step.block_tokens;
    if (threadIdx.x < blocks) {
      const uint32_t logical = token / step.block_tokens + threadIdx.x;
      if (logical * step.block_tokens <= last && (logical + 1) * step.block_tokens > first) {
        const kvrm_group* groups = step.groups + slot.group_first;
        control.block[threadIdx.x] = PhysicalBlock(groups[FindGroup(groups, slot.group_count, logical)], logical);
      }
    }
    __syncthreads();
    LoadTile<T>(step, control, keys, token, first, last, tiles.tile);
    __syncthreads();
    for (uint32_t pair = threadIdx.x; pair < rows * kTileTokens; pair += kThreads) {
      const float* q = tiles.q + pair / kTileTokens * dim;
      const float* k = tiles.tile + pair % kTileTokens * (dim + 1);
      float score = 0.0f;
      for (uint32_t n = 0; n < dim; ++n) score = Fma(q[n], k[n], score);
      tiles.p[pair] = Mul(score, args.scale);
    }
    __syncthreads();
    Softmax(step, args, unit, row_first, rows, token, tiles.p, control);
    LoadTile<T>(step, control, values, token, first, last, tiles.tile);
    __syncthreads();
    KVRM_UNROLL
    for (uint32_t i = 0; i < kElements; ++i) {
      const uint32_t e = threadIdx.x + i * kThreads;
      if (e >= rows * dim) break;
      const float* p = tiles.p + e / dim * kTileTokens;
      const float* v = tiles.tile + e % dim;
      float sum = 0.0f;
      for (uint32_t t = 0; t < kTileTokens; ++t) sum = Fma(p[t], v[t * (dim + 1)], sum);
      totals.split[i] = MergeValue(totals.split[i], sum, control.factors[e / dim]);
    }
    __syncthreads();
  }
}

// A group of query rows of the item over its splits: into out, or, for one of several splits of a decoding
// row, into its partial result; of padding (splits is 0) to nowhere.
template <class T>
__device__ void AttendRows(const StepView& step, const AttentionArgs& args, const AttentionUnit& unit, const Work& work,
                           uint32_t splits, uint32_t row_first, uint32_t rows, const Tiles& tiles, Control& control) {
  const uint32_t dim = step.head_dim, group = step.heads / step.kv_heads;
  const bool partial = splits > 1;
  Totals totals = {};
  for (uint32_t e = threadIdx.x; e < rows * dim; e += kThreads) {
    const uint32_t row = row_first + e / dim;
    const uint64_t head = uint64_t{unit.row_first + row / group} * step.heads + work.kv_head * group + row % group;
    tiles.q[e] = args.q[head * dim + e % dim];
  }
  if (threadIdx.x < rows) control.row[threadIdx.x] = EmptyStat();
  for (uint32_t split = work.split_first; split <= work.split_last; ++split) {
    AttendSplit<T>(step, args, unit, work, split, row_first, rows, tiles, control, totals);
    if (partial) break;
    if (threadIdx.x < rows) {
      control.factors[threadIdx.x] = MergePartial(control.row[threadIdx.x], control.split[threadIdx.x]);
    }
    __syncthreads();
    KVRM_UNROLL
    for (uint32_t i = 0; i < kElements; ++i) {
      const uint32_t e = threadIdx.x + i * kThreads;
      if (e < rows * dim) totals.row[i] = MergeValue(totals.row[i], totals.split[i], control.factors[e / dim]);
    }
    __syncthreads();
  }
  const uint64_t at = PartialIndex(step, work, work.split_first) * group + row_first;
  if (partial && threadIdx.x < rows) {
    args.partial_stat[(at + threadIdx.x) * 2] = control.split[threadIdx.x].max;
    args.partial_stat[(at + threadIdx.x) * 2 + 1] = control.split[threadIdx.x].sum;
  }
  KVRM_UNROLL
  for (uint32_t i = 0; i < kElements; ++i) {
    const uint32_t e = threadIdx.x + i * kThreads;
    if (e >= rows * dim || splits == 0) break;
    const uint32_t row = row_first + e / dim;
    if (partial) {
      args.partial_acc[at * dim + e] = totals.split[i];
    } else {
      const uint64_t head = uint64_t{unit.row_first + row / group} * step.heads + work.kv_head * group + row % group;
      StoreOut(args, head * dim + e % dim, Mul(totals.row[i], Div(1.0f, control.row[e / dim].sum)));
    }
  }
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kThreads) AttendGeneric(StepView step, AttentionArgs args) {
  __shared__ Control control;
  const Tiles tiles(step.head_dim);
  WaitForPrevious();
  LaunchDependents();
  const uint32_t group = step.heads / step.kv_heads;
  const WorkList list = ListWork(step, args.window);
  for (;;) {
    TakeWork(step, args, list, control);
    if (control.stop) return;
    if (!control.valid) continue;
    const Work work = control.work;
    const AttentionUnit unit = UnitOf(step, work.unit, args.window);
    const uint32_t splits = work.unit < step.counts->decode_units ? MergedSplits(step, unit, args.window) : 1;
    for (uint32_t row = 0; row < unit.rows * group; row += RowsAtOnce(step.head_dim)) {
      const uint32_t left = unit.rows * group - row;
      const uint32_t rows = left < RowsAtOnce(step.head_dim) ? left : RowsAtOnce(step.head_dim);
      AttendRows<T>(step, args, unit, work, splits, row, rows, tiles, control);
    }
    if (splits <= 1) continue;
    if (threadIdx.x == 0) control.merge = ArriveAtRow(step, args, work, splits);
    __syncthreads();
    if (control.merge) MergeSplits(step, args, work, threadIdx.x, kThreads);
  }
}

}  // namespace

template <class T>
void LaunchGenericAttention(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  const uint32_t bytes = Tiles::Bytes(step.head_dim);
  AllowShared(AttendGeneric<T>, bytes);
  const uint32_t blocks = context.sms * (bytes <= 72 * 1024 ? 2u : 1u);
  Launch({dim3(blocks), dim3(kThreads), bytes, context.stream, context.dependent}, AttendGeneric<T>, step, args);
}

void LaunchAttentionGeneric(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  switch (step.kv_dtype) {
    case KVRM_F16:
      return LaunchGenericAttention<f16_t>(context, step, args);
    case KVRM_BF16:
      return LaunchGenericAttention<bf16_t>(context, step, args);
    case KVRM_F8_E4M3:
      return LaunchGenericAttention<fp8_t>(context, step, args);
    default:
      return LaunchGenericAttention<float>(context, step, args);
  }
}

}  // namespace kvrm::cuda
