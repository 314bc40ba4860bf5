// plan.h - the sizes that one engine's shape decides, and where each of its buffers lies in GPU memory.
// Plain arithmetic, done before anything is allocated, so that a configuration that does not fit is refused
// with what it needs.
#ifndef KVRM_CUDA_PLAN_H_
#define KVRM_CUDA_PLAN_H_

#include <cstddef>
#include <cstdint>

#include "../common/layout.h"
#include "../kvrm.h"

namespace kvrm::cuda {

// S slots, C rows of the largest chunk, R = S + C.
enum BufferId : uint32_t {
  kDescriptor,   // the record of the running step, masks included
  kResult,       // the record of results
  kCounts,       // StepCounts
  kRows,         // Row [R]
  kUnits,        // AttentionUnit [max_units]
  kSamples,      // HeadRow [S]
  kPromptRows,   // HeadRow [C]
  kWork,         // u32 [layers + 1]: work counters of attention
  kLastToken,    // i32 [S]
  kTokenCounts,  // u16 [S][vocab], with max_edits
  kBiasCount,    // u32 [S], with max_edits
  kBiasToken,    // i32 [S][KVRM_MAX_BIASES], with max_edits
  kBiasValue,    // f32 [S][KVRM_MAX_BIASES], with max_edits
  kHidden,       // f32 [R][hidden]: the residual stream
  kNormed,       // act [R][hidden]
  kQuery,        // f32 [R][heads][head_dim]
  kAttended,     // act [R][heads * head_dim]
  kFeedForward,  // act [R][intermediate]
  kCos,          // f32 [R][head_dim / 2]
  kSin,          // f32 [R][head_dim / 2]
  kPartialAcc,   // f32 [partials][heads per KV head][head_dim]
  kPartialStat,  // f32 [partials][heads per KV head][2]
  kArrivals,     // u32 [max_units][kv_heads]
  kHeadIn,       // act [logit_rows][hidden]
  kLogits,       // f32 [logit_rows][vocab]
  kSampleScratch,
  kGemmWorkspace,
  kBuffers
};

// What the arithmetic needs to know of the kernels and the device.
struct PlanInput {
  kvrm_model_config model;
  kvrm_engine_config config;
  uint32_t act_bytes;  // of one activation
  uint32_t sms;
};

struct Plan {
  uint32_t max_rows = 0;       // R
  uint32_t max_chunk = 0;      // C
  uint32_t logit_rows = 0;     // rows whose logits are computed at once
  uint32_t prompt_passes = 0;  // passes of logit_rows that the largest chunk's log-probabilities take
  uint32_t split_tokens = 0;
  uint32_t max_splits = 0;
  uint32_t max_units = 0;
  uint64_t block_bytes = 0;  // of one KV block, all layers
  uint64_t pool_bytes = 0;
  uint64_t bytes[kBuffers] = {};
  uint64_t offset[kBuffers] = {};
  uint64_t arena_bytes = 0;
};

Plan MakePlan(const PlanInput& input);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_PLAN_H_
