// ops.h - the arithmetic of a step on the CPU. Pure functions over caller-owned memory: no
// allocation, no threads, no globals. Each has one implementation per SIMD target, picked once.
//
// The rule that everything else rests on: the bits of one output row depend on that row's inputs
// alone, never on m, on the other rows, on how [n_begin, n_end) or queries are cut over threads, or
// on where blocks lie. So each output element reduces over k in one fixed order, and attention cuts a
// history at fixed token boundaries and merges the parts in ascending order.
#ifndef KVRM_CPU_OPS_H_
#define KVRM_CPU_OPS_H_

#include <cstddef>
#include <cstdint>

#include "../common/block_format.h"
#include "../common/far_summary.h"
#include "../common/model.h"
#include "../common/samplers.h"
#include "../kvrm.h"

namespace kvrm::cpu {

// out[i][n] (+)= sum_k x[i][k] * w[n][k] (+ bias[n])  for i in [0, m), n in [n_begin, n_end).
// x [m, w.cols] f32, out [m, >= n_end] f32; strides in elements. bias may be null. add: accumulate
// into out (the residual), out + (sum + bias).
void MatMul(const Weight& w, const Weight* bias, const float* x, size_t x_stride, uint32_t m, float* out,
            size_t out_stride, uint32_t n_begin, uint32_t n_end, bool add);

// out[n] = f32(table[row][n]), n < table.cols; in any type of a weight.
void EmbedRow(const Weight& table, uint32_t row, float* out);

// out[n] = x[n] / sqrt(mean(x^2) + eps) * w[n], n < count. out may be x.
void RmsNorm(const Weight& w, float eps, const float* x, uint32_t count, float* out);

// cos and sin of position * inv_freq[i] (the product rounded to f32, as HF does), i < half.
void RopeTable(const float* inv_freq, uint32_t half, uint32_t position, float* cos_out, float* sin_out);

// Rotate-half RoPE in place on one head x[2 * half].
void RopeHead(float* x, const float* cos_table, const float* sin_table, uint32_t half);

// out[n] = silu(gate[n]) * up[n]. out may be gate.
void SiluMul(const float* gate, const float* up, uint32_t count, float* out);

// dst[n] = x[n] rounded to dtype (nearest even). Q8_0: in blocks of 32, as block_format.h says; a block with a
// number that is not finite becomes NaN.
void Convert(const float* x, uint32_t count, uint32_t dtype, void* dst);

// ---- attention over transfer groups -----------------------------------------------------------

// Tokens per split: histories are cut at multiples of it, counted from logical token 0.
inline constexpr uint32_t kSplitTokens = 256;

// One layer of the pool as one slot sees it. The pool is [block][layer][K|V][kv_head][token][dim].
struct KvView {
  uint8_t* pool = nullptr;
  uint32_t dtype = KVRM_F32;
  uint32_t block_tokens = 0;  // 16, 32 or 64
  uint32_t head_dim = 0;
  uint32_t kv_heads = 0;
  uint32_t layers = 0;
  uint32_t layer = 0;
  const kvrm_group* groups = nullptr;
  uint32_t group_count = 0;
  uint32_t token_first = 0;         // what lies before a gap of the groups, or behind it: tokens
  uint32_t token_end = UINT32_MAX;  // [token_first, token_end)
};

// Address of token `offset` of one head in a physical block: the start of head_dim numbers.
inline uint8_t* KvRow(const KvView& kv, uint32_t block, bool value, uint32_t head, uint32_t offset) {
  size_t row = ((size_t(block) * kv.layers + kv.layer) * 2 + (value ? 1 : 0)) * kv.kv_heads + head;
  row = row * kv.block_tokens + offset;
  return kv.pool + row * RowBytes(kv.dtype, kv.head_dim);
}

// What one query has gathered over one split or several: softmax numerator and denominator relative
// to the maximum. acc [head_dim].
struct Partial {
  float max;
  float sum;
};

// The queries of one kv head over one split [split * kSplitTokens, (split + 1) * kSplitTokens).
//   q          [count][head_dim] f32 (q_stride elements apart), not yet scaled
//   positions  [count]: the query sees tokens p of [kv.token_first, kv.token_end) with p <= position, and
//              position - p < window when window is not 0
//   partials   [count] out: max and sum (max = -inf, sum = 0 when the query sees nothing here)
//   acc        [count][head_dim] out (acc_stride elements apart): sum of exp(score - max) * v
// What a query does not see never reaches its result, so NaN in unused rows is harmless.
void AttendSplit(const KvView& kv, uint32_t kv_head, float scale, uint32_t window, uint32_t split, const float* q,
                 size_t q_stride, const uint32_t* positions, uint32_t count, Partial* partials, float* acc,
                 size_t acc_stride);

// Summary rows of one slot, layer and KV head.
struct FarView {
  FarRows at;
  uint32_t rows = 0;  // 1 to kSplitTokens
  uint32_t head_dim = 0;
  uint32_t stride = 0;  // FarStride(head_dim)
};

// The queries of one kv head over all rows of far, as AttendSplit over a split; each query sees every row.
void AttendFar(const FarView& far, float scale, const float* q, size_t q_stride, uint32_t count, Partial* partials,
               float* acc, size_t acc_stride);

// Merges num splits of one query in ascending order into out[head_dim], normalised.
//   partials [num] (partial_stride apart), acc [num][head_dim] (acc_stride apart)
void MergeSplits(const Partial* partials, size_t partial_stride, const float* acc, size_t acc_stride, uint32_t num,
                 uint32_t head_dim, float* out);

// ---- sampling ---------------------------------------------------------------------------------

struct SampleParams {
  float temperature;  // 0: greedy (lowest id among equals)
  uint32_t top_k;     // 0: off
  float top_p;        // 1: off
  float min_p;        // 0: off
  uint64_t seed;
  uint32_t counter;  // index of the token in its request
  Samplers samplers = {};
};

// Bytes of scratch that Sample and TopLogprobs need for a vocabulary, 64-byte aligned.
size_t SampleScratchBytes(uint32_t vocab);

// log(sum(exp(logits))) in a fixed order.
float LogSumExp(const float* logits, uint32_t vocab);

// Draws a token. surprise, where it is not null, becomes that of kvrm_slot_result. Filters apply in the order
// temperature, top-k, top-p, min-p (of what top-p left), and samplers among them as kvrm.h has it; ties go to the lower
// id; the draw is an inverse-CDF look-up of one Philox4x32-10 number keyed by (seed, counter). logits are not changed.
int32_t Sample(const float* logits, uint32_t vocab, const SampleParams& params, void* scratch,
               float* surprise = nullptr);

// The n <= KVRM_MAX_TOP_LOGPROBS best tokens with logits[i] - log_sum_exp, best first.
void TopLogprobs(const float* logits, uint32_t vocab, float log_sum_exp, uint32_t n, kvrm_top* out, void* scratch);

// Philox4x32-10 (Salmon et al., SC 2011).
void Philox4x32(uint64_t seed, const uint32_t counter[4], uint32_t out[4]);

// Name of the SIMD target in use, e.g. "AVX3"; KVRM_CPU_TARGET=<name> in the environment lowers it, for tests.
const char* TargetName();

// Sum over a buffer as fast as memory allows: for kvrm_measure_bandwidth.
uint64_t ReadAll(const void* data, size_t bytes);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_OPS_H_
