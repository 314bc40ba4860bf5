// pointwise.cu - what works on one row at a time: embedding and the tables of RoPE, RMS norms.
#include "kernels.h"

namespace kvrm::cuda {
namespace {

constexpr uint32_t kThreads = 256;  // lanes of a norm's sum: part of its order
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kKept = 16;  // elements that a thread of a norm keeps in registers

__device__ __forceinline__ float Load(const void* data, uint32_t dtype, uint64_t i) {
  switch (dtype) {
    case KVRM_F16:
      return ToFloat(static_cast<const f16_t*>(data)[i]);
    case KVRM_BF16:
      return ToFloat(static_cast<const bf16_t*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

__device__ __forceinline__ void Store(void* data, uint32_t dtype, uint64_t i, float value) {
  switch (dtype) {
    case KVRM_F16:
      static_cast<f16_t*>(data)[i] = FromFloat<f16_t>(value);
      break;
    case KVRM_BF16:
      static_cast<bf16_t*>(data)[i] = FromFloat<bf16_t>(value);
      break;
    default:
      static_cast<float*>(data)[i] = value;
  }
}

// ---- embedding --------------------------------------------------------------------------------------

__device__ int32_t TokenOf(const StepView& step, const Row& row) {
  if (row.chunk_row != kNoChunkRow) return step.tokens[row.chunk_row];
  const kvrm_slot& slot = step.slot[row.slot];
  return slot.flags & KVRM_SLOT_TOKEN_LAST ? step.last_token[row.slot] : slot.token;
}

// One block for each row.
__global__ void __launch_bounds__(kThreads)
    EmbedKernel(StepView step, Table table, const float* inv_freq, float* hidden, float* cos_table, float* sin_table) {
  LaunchDependents();
  WaitForPrevious();
  const uint32_t r = blockIdx.x;
  if (r >= step.counts->rows) return;
  const Row& row = step.rows[r];
  const uint32_t position = row.position;
  const int32_t token = TokenOf(step, row);
  // A slot that never sampled has no last token; its row must stay within the table all the same.
  const uint32_t known = static_cast<uint32_t>(token) < step.vocab ? static_cast<uint32_t>(token) : 0;
  if (threadIdx.x == 0) step.rows[r].token = static_cast<int32_t>(known);

  const uint64_t from = uint64_t{known} * step.hidden, to = uint64_t{r} * step.hidden;
  for (uint32_t n = threadIdx.x; n < step.hidden; n += kThreads)
    hidden[to + n] = Load(table.data, table.dtype, from + n);
  const uint32_t half = step.head_dim / 2;
  for (uint32_t i = threadIdx.x; i < half; i += kThreads) {
    // In double, as on the CPU: a float's sine of a large angle would lose its last bits.
    const double angle = Mul(static_cast<float>(position), inv_freq[i]);
    cos_table[uint64_t{r} * half + i] = static_cast<float>(cos(angle));
    sin_table[uint64_t{r} * half + i] = static_cast<float>(sin(angle));
  }
}

// ---- norms ------------------------------------------------------------------------------------------

// The sum over the block's 256 lanes, added pairwise from 128 lanes apart down to 1; every thread gets it.
__device__ float SumOfLanes(float value) {
  __shared__ float lanes[kThreads];
  lanes[threadIdx.x] = value;
  __syncthreads();
  const uint32_t lane = threadIdx.x % 32;
  float sum[kWarps];
  KVRM_UNROLL
  for (uint32_t i = 0; i < kWarps; ++i) sum[i] = lanes[32 * i + lane];
  KVRM_UNROLL
  for (uint32_t apart = kWarps / 2; apart > 0; apart /= 2) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < apart; ++i) sum[i] = Add(sum[i], sum[i + apart]);
  }
  KVRM_UNROLL
  for (int apart = 16; apart > 0; apart /= 2) sum[0] = Add(sum[0], __shfl_xor_sync(~0u, sum[0], apart));
  return sum[0];
}

// x[n] = hidden[n] / sqrt(mean(hidden^2) + eps) * weight[n]. weights: the first of the thread's own.
__device__ void NormRow(const float* hidden, uint32_t count, Table weight, const float (&weights)[kKept], float eps,
                        uint32_t act_dtype, void* x, uint64_t to) {
  float kept[kKept];
  float squares = 0;
  KVRM_UNROLL
  for (uint32_t i = 0; i < kKept; ++i) {
    const uint32_t n = threadIdx.x + i * kThreads;
    kept[i] = n < count ? hidden[n] : 0.0f;
  }
  KVRM_UNROLL
  for (uint32_t i = 0; i < kKept; ++i) squares = Fma(kept[i], kept[i], squares);
  for (uint32_t n = threadIdx.x + kKept * kThreads; n < count; n += kThreads)
    squares = Fma(hidden[n], hidden[n], squares);
  const float mean = Div(SumOfLanes(squares), static_cast<float>(count));
  const float scale = Div(1.0f, Sqrt(Add(mean, eps)));
  KVRM_UNROLL
  for (uint32_t i = 0; i < kKept; ++i) {
    const uint32_t n = threadIdx.x + i * kThreads;
    if (n < count) Store(x, act_dtype, to + n, Mul(Mul(kept[i], scale), weights[i]));
  }
  for (uint32_t n = threadIdx.x + kKept * kThreads; n < count; n += kThreads) {
    Store(x, act_dtype, to + n, Mul(Mul(hidden[n], scale), Load(weight.data, weight.dtype, n)));
  }
}

// What a thread multiplies first; weights do not change, so this may run ahead of the previous kernel.
__device__ __forceinline__ void LoadWeights(Table weight, uint32_t count, float (&weights)[kKept]) {
  KVRM_UNROLL
  for (uint32_t i = 0; i < kKept; ++i) {
    const uint32_t n = threadIdx.x + i * kThreads;
    weights[i] = n < count ? Load(weight.data, weight.dtype, n) : 0.0f;
  }
}

// One block for each row. With a list row i is hidden[list[first + i].row].
__global__ void __launch_bounds__(kThreads)
    NormKernel(const float* hidden, uint32_t count, const uint32_t* rows, const HeadRow* list, uint32_t first,
               Table weight, float eps, uint32_t act_dtype, void* x) {
  LaunchDependents();
  float weights[kKept];
  LoadWeights(weight, count, weights);
  WaitForPrevious();
  const uint32_t i = blockIdx.x;
  if (first + i >= *rows) return;
  const uint32_t row = list ? list[first + i].row : i;
  NormRow(hidden + uint64_t{row} * count, count, weight, weights, eps, act_dtype, x, uint64_t{i} * count);
}

LaunchConfig RowBlocks(const LaunchContext& context, uint32_t rows) {
  LaunchConfig config;
  config.grid = dim3(rows);
  config.block = dim3(kThreads);
  config.stream = context.stream;
  config.dependent = context.dependent;
  return config;
}

}  // namespace

void LaunchEmbed(const LaunchContext& context, const StepView& step, Table table, const float* inv_freq, float* hidden,
                 float* cos_table, float* sin_table) {
  if (step.max_rows == 0) return;
  Launch(RowBlocks(context, step.max_rows), EmbedKernel, step, table, inv_freq, hidden, cos_table, sin_table);
}

void LaunchRmsNorm(const LaunchContext& context, const StepView& step, const float* hidden, Table weight, float eps,
                   uint32_t act_dtype, void* x) {
  if (step.max_rows == 0) return;
  Launch(RowBlocks(context, step.max_rows), NormKernel, hidden, step.hidden, &step.counts->rows, nullptr, 0u, weight,
         eps, act_dtype, x);
}

void LaunchGatherNorm(const LaunchContext& context, const StepView& step, const HeadRow* list,
                      const uint32_t* list_count, uint32_t first, uint32_t max_count, const float* hidden, Table weight,
                      float eps, uint32_t act_dtype, void* x) {
  if (max_count == 0) return;
  Launch(RowBlocks(context, max_count), NormKernel, hidden, step.hidden, list_count, list, first, weight, eps,
         act_dtype, x);
}

}  // namespace kvrm::cuda
