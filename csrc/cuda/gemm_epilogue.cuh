// gemm_epilogue.cuh - what becomes of a tile of sums: bias, norms, RoPE, the residual, SwiGLU, and the
// writes. All threads of a block work on one tile in shared memory.
#ifndef KVRM_CUDA_GEMM_EPILOGUE_CUH_
#define KVRM_CUDA_GEMM_EPILOGUE_CUH_

#include "gemm.h"

namespace kvrm::cuda {

// Sums in shared memory, [rows][stride]; features is a power of two, except for Q, K and V.
struct SumTile {
  float* sums;
  uint32_t stride;
  uint32_t features;
  uint32_t index;      // of the features' tile
  uint32_t row_first;  // of x
  uint32_t rows;
};

// Distance of two rows of sums: fragments of a tensor core product are stored without bank conflicts.
KVRM_HD uint32_t SumStride(uint32_t features) { return (features + 15) / 16 * 16 + 4; }

__device__ __forceinline__ float Finished(const GemmArgs& args, float sum, uint32_t row) {
  if (args.row_scales) sum = Mul(sum, args.row_scales[row]);
  return args.bias ? Add(sum, args.bias[row]) : sum;
}

__device__ __forceinline__ void StoreActivation(void* out, uint32_t dtype, uint64_t i, float value) {
  switch (dtype) {
    case KVRM_F16:
      static_cast<f16_t*>(out)[i] = FromFloat<f16_t>(value);
      break;
    case KVRM_BF16:
      static_cast<bf16_t*>(out)[i] = FromFloat<bf16_t>(value);
      break;
    default:
      static_cast<float*>(out)[i] = value;
  }
}

__device__ __forceinline__ void StoreKv(uint8_t* pool, uint32_t dtype, uint64_t i, float value) {
  if (dtype == KVRM_F8_E4M3) {
    reinterpret_cast<fp8_t*>(pool)[i] = FromFloat<fp8_t>(value);
  } else {
    StoreActivation(pool, dtype, i, value);
  }
}

// out[r][n] = sum, or += sum.
template <bool kAdd>
__device__ __forceinline__ void StoreSums(const GemmArgs& args, const SumTile& tile) {
  constexpr uint32_t kBatch = 8;  // reads under way at once
  float* out = static_cast<float*>(args.out);
  const uint32_t all = tile.rows * tile.features, step = kBatch * blockDim.x;
  for (uint32_t first = threadIdx.x; first < all; first += step) {
    float old[kBatch];
    KVRM_UNROLL
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * blockDim.x;
      const uint32_t r = i / tile.features, n = tile.index * tile.features + i % tile.features;
      old[j] = kAdd && i < all && n < args.n ? out[uint64_t{tile.row_first + r} * args.n + n] : 0.0f;
    }
    KVRM_UNROLL
    for (uint32_t j = 0; j < kBatch; ++j) {
      const uint32_t i = first + j * blockDim.x;
      const uint32_t r = i / tile.features, f = i % tile.features, n = tile.index * tile.features + f;
      if (i >= all || n >= args.n) continue;
      const float sum = Finished(args, tile.sums[r * tile.stride + f], n);
      out[uint64_t{tile.row_first + r} * args.n + n] = kAdd ? Add(old[j], sum) : sum;
    }
  }
}

// y = silu(gate) * up; features come by turns of 16 of gate and 16 of up.
__device__ __forceinline__ void StoreGateUp(const GemmArgs& args, const SumTile& tile) {
  const uint32_t columns = tile.features / 2, all = tile.rows * columns;
  for (uint32_t i = threadIdx.x; i < all; i += blockDim.x) {
    const uint32_t r = i / columns, c = i % columns, f = c / 16 * 32 + c % 16;
    const uint32_t n = tile.index * columns + c;
    if (n >= args.out_columns) continue;
    const float* sums = tile.sums + r * tile.stride + f;
    const uint32_t row = tile.index * tile.features + f;
    const float gate = Finished(args, sums[0], row), up = Finished(args, sums[16], row + 16);
    const float y = Mul(Div(gate, Add(1.0f, ExpF(-gate))), up);
    StoreActivation(args.out, args.act_dtype, uint64_t{tile.row_first + r} * args.out_columns + n, y);
  }
}

// ---- Q, K and V ----------------------------------------------------------------------------------------

// Norms of the heads of Q and K, in place: one warp for each row of a head. The tile holds whole heads.
// The sum of squares runs over 32 lanes, lane j adding x^2 of d = j, j + 32, ... (fused), then pairwise
// from 16 lanes apart down to 1.
__device__ __forceinline__ void NormHeads(const GemmArgs& args, const SumTile& tile) {
  const uint32_t half = args.head_dim / 2, pairs = tile.features / 2, in_tile = pairs / half;
  const uint32_t lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (uint32_t i = threadIdx.x / 32; i < tile.rows * in_tile; i += warps) {
    const uint32_t r = i / in_tile, h = i % in_tile, head = tile.index * in_tile + h;
    if (head >= args.heads + 2 * args.kv_heads) continue;
    float* sums = tile.sums + r * tile.stride + h * half;
    float squares = 0;
    for (uint32_t d = lane; d < args.head_dim; d += 32) {
      float& sum = d < half ? sums[d] : sums[pairs + d - half];
      sum = Finished(args, sum, head * args.head_dim + d);
      squares = Fma(sum, sum, squares);
    }
    KVRM_UNROLL
    for (int apart = 16; apart > 0; apart /= 2) squares = Add(squares, __shfl_xor_sync(~0u, squares, apart));
    if (head >= args.heads + args.kv_heads) continue;
    const float* weight = head < args.heads ? args.q_norm : args.k_norm;
    const float scale = Div(1.0f, Sqrt(Add(Div(squares, static_cast<float>(args.head_dim)), args.eps)));
    for (uint32_t d = lane; d < args.head_dim; d += 32) {
      float& sum = d < half ? sums[d] : sums[pairs + d - half];
      sum = Mul(Mul(sum, scale), weight[d]);
    }
  }
  __syncthreads();
}

// RoPE and the writes. A warp takes rows, kBatch at once, a lane pairs of elements.
__device__ __forceinline__ void StoreQkv(const GemmArgs& args, const SumTile& tile) {
  constexpr uint32_t kBatch = 4;
  const bool normed = args.q_norm != nullptr;
  if (normed) NormHeads(args, tile);
  const uint32_t half = args.head_dim / 2, pairs = tile.features / 2;
  const uint32_t lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const uint32_t first_k = args.heads, first_v = args.heads + args.kv_heads;
  for (uint32_t first = threadIdx.x / 32; first < tile.rows; first += kBatch * warps) {
    for (uint32_t p = lane; p < pairs; p += 32) {
      const uint32_t pair = tile.index * pairs + p, head = pair / half, d = pair % half;
      if (head >= first_v + args.kv_heads) continue;
      float cosine[kBatch], sine[kBatch];
      uint32_t block[kBatch], offset[kBatch];
      KVRM_UNROLL
      for (uint32_t j = 0; j < kBatch; ++j) {
        const uint32_t r = first + j * warps;
        const bool rotated = r < tile.rows && head < first_v, stored = r < tile.rows && head >= first_k;
        const uint64_t at = uint64_t{tile.row_first + r};
        cosine[j] = rotated ? args.cos_table[at * half + d] : 1.0f;
        sine[j] = rotated ? args.sin_table[at * half + d] : 0.0f;
        block[j] = stored ? args.row[at].block : 0;
        offset[j] = stored ? args.row[at].offset : 0;
      }
      KVRM_UNROLL
      for (uint32_t j = 0; j < kBatch; ++j) {
        const uint32_t r = first + j * warps;
        if (r >= tile.rows) continue;
        float a = tile.sums[r * tile.stride + p], b = tile.sums[r * tile.stride + pairs + p];
        if (!normed) {
          a = Finished(args, a, head * args.head_dim + d);
          b = Finished(args, b, head * args.head_dim + half + d);
        }
        if (head < first_v) {
          const float rotated = Sub(Mul(a, cosine[j]), Mul(b, sine[j]));
          b = Add(Mul(b, cosine[j]), Mul(a, sine[j]));
          a = rotated;
        }
        if (head < first_k) {
          float* q = static_cast<float*>(args.out);
          const uint64_t at = (uint64_t{tile.row_first + r} * args.heads + head) * args.head_dim + d;
          q[at] = a;
          q[at + half] = b;
        } else {
          const uint32_t is_v = head < first_v ? 0 : 1;
          const uint32_t kv_head = head - (is_v ? first_v : first_k);
          uint64_t at = ((uint64_t{block[j]} * args.layers + args.layer) * 2 + is_v) * args.kv_heads + kv_head;
          at = (at * args.block_tokens + offset[j]) * args.head_dim + d;
          StoreKv(args.pool, args.kv_dtype, at, a);
          StoreKv(args.pool, args.kv_dtype, at + half, b);
        }
      }
    }
  }
}

// All threads of the block; the sums are there (after a __syncthreads()).
__device__ __forceinline__ void FinishTile(const GemmArgs& args, const SumTile& tile) {
  switch (args.output) {
    case GemmOutput::kQkv:
      StoreQkv(args, tile);
      break;
    case GemmOutput::kResidual:
      StoreSums<true>(args, tile);
      break;
    case GemmOutput::kGateUp:
      StoreGateUp(args, tile);
      break;
    case GemmOutput::kLogits:
      StoreSums<false>(args, tile);
      break;
  }
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_EPILOGUE_CUH_
