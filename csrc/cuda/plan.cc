#include "plan.h"

#include <algorithm>

#include "../common/engine_config.h"
#include "kernels.h"

namespace kvrm::cuda {
namespace {

// Attention's partial results may take so much; longer splits need fewer.
constexpr uint64_t kMaxPartialBytes = uint64_t{256} << 20;
constexpr uint32_t kMinSplit = 256;
constexpr uint32_t kMaxSplit = 1u << 16;
// Log-probabilities of a prompt are worth a pass over the head only for so many rows.
constexpr uint32_t kMinLogitRows = 32;
constexpr uint64_t kAlign = 256;

uint32_t DivideUp(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

}  // namespace

Plan MakePlan(const PlanInput& input) {
  const kvrm_model_config& m = input.model;
  const kvrm_engine_config& c = input.config;
  const uint32_t group = m.heads / m.kv_heads;
  Plan plan;
  plan.max_chunk = MaxChunk(c);
  plan.max_rows = c.slots + plan.max_chunk;
  plan.logit_rows = plan.max_chunk == 0 ? c.slots : std::max(c.slots, std::min(kMinLogitRows, plan.max_chunk));
  plan.prompt_passes = DivideUp(plan.max_chunk, plan.logit_rows);
  // A segment is cut every kUnitRows / group rows; its last piece may be short.
  // Of a padded step each decoding row has two units, and there are no segments.
  const uint32_t segment_units = DivideUp(plan.max_chunk, std::max(1u, kUnitRows / group)) + c.max_segments;
  plan.max_units = c.slots + std::max(c.slots, segment_units);

  const uint64_t partial_bytes = uint64_t{group} * (m.head_dim + 2) * sizeof(float);
  plan.split_tokens = kMinSplit;
  for (;; plan.split_tokens *= 2) {
    plan.max_splits = DivideUp(c.max_context, plan.split_tokens);
    if (AttentionPartials(c.slots, m.kv_heads, plan.max_splits) * partial_bytes <= kMaxPartialBytes) break;
    if (plan.split_tokens == kMaxSplit) break;
  }
  const uint64_t partials = AttentionPartials(c.slots, m.kv_heads, plan.max_splits);

  plan.block_bytes = BlockBytes(m, c);
  plan.pool_bytes = plan.block_bytes * c.num_blocks;

  const RecordLayout at = LayOutRecords(c, m.vocab);
  const uint64_t rows = plan.max_rows, slots = c.slots, act = input.act_bytes;
  const uint64_t edited = c.max_edits != 0 ? slots : 0;
  uint64_t* bytes = plan.bytes;
  bytes[kDescriptor] = at.descriptor_bytes;
  bytes[kResult] = at.result_bytes;
  bytes[kCounts] = sizeof(StepCounts);
  bytes[kRows] = rows * sizeof(Row);
  bytes[kUnits] = plan.max_units * sizeof(AttentionUnit);
  bytes[kSamples] = slots * sizeof(HeadRow);
  bytes[kPromptRows] = plan.max_chunk * sizeof(HeadRow);
  bytes[kWork] = (m.layers + 1) * sizeof(uint32_t);
  bytes[kLastToken] = slots * sizeof(int32_t);
  bytes[kTokenCounts] = edited * m.vocab * sizeof(uint16_t);
  bytes[kBiasCount] = edited * sizeof(uint32_t);
  bytes[kBiasToken] = edited * KVRM_MAX_BIASES * sizeof(int32_t);
  bytes[kBiasValue] = edited * KVRM_MAX_BIASES * sizeof(float);
  bytes[kHidden] = rows * m.hidden * sizeof(float);
  bytes[kNormed] = rows * m.hidden * act;
  bytes[kQuery] = rows * m.heads * m.head_dim * sizeof(float);
  bytes[kAttended] = rows * m.heads * m.head_dim * act;
  bytes[kFeedForward] = rows * m.intermediate * act;
  bytes[kCos] = bytes[kSin] = rows * (m.head_dim / 2) * sizeof(float);
  bytes[kPartialAcc] = partials * group * m.head_dim * sizeof(float);
  bytes[kPartialStat] = partials * group * 2 * sizeof(float);
  bytes[kArrivals] = uint64_t{plan.max_units} * m.kv_heads * sizeof(uint32_t);
  bytes[kHeadIn] = uint64_t{plan.logit_rows} * m.hidden * act;
  bytes[kLogits] = uint64_t{plan.logit_rows} * m.vocab * sizeof(float);
  bytes[kSampleScratch] = SampleScratchBytes(plan.logit_rows, m.vocab);
  bytes[kGemmWorkspace] = GemmWorkspaceBytes(input.sms, plan.max_rows);
  for (uint32_t i = 0; i < kBuffers; ++i) {
    plan.offset[i] = plan.arena_bytes;
    plan.arena_bytes += AlignUp(bytes[i], kAlign);
  }
  return plan;
}

}  // namespace kvrm::cuda
