// plan.h - the static graph of one step shape: its operations in order, and where in the arena each
// buffer lies. Made once, when the engine is created; a step only walks it.
#ifndef KVRM_CPU_PLAN_H_
#define KVRM_CPU_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/model.h"
#include "../kvrm.h"

namespace kvrm::cpu {

// R: rows of the shape, S slots + C of the chunk. H heads, D head_dim, G heads per KV head.
enum BufferId : uint8_t {
  kHidden,       // f32 [R, hidden]            the residual stream
  kNormed,       // f32 [R, hidden]
  kQkv,          // f32 [R, (H + 2 KV) * D]
  kQuery,        // f32 [KV, R, G, D]          rotated; the queries of one KV head lie together
  kAttended,     // f32 [R, H * D]
  kGate,         // f32 [R, intermediate]
  kUp,           // f32 [R, intermediate]
  kCos,          // f32 [R, D / 2]
  kSin,          // f32 [R, D / 2]
  kPartialAcc,   // f32 [partials, D]          of one wave of attention
  kPartial,      // Partial [partials]
  kQuant,        // [R rows of activations of a product with packed weights, see quant.h]; none without such weights
  kPackScratch,  // [threads][16 rows of weights], while some matrix is not packed yet
  kHeadIn,       // f32 [S, hidden]
  kLogits,       // f32 [S, vocab]             kept until the next step, for kvrm_read_logits
  kScratch,      // [threads][scratch of sampling]
  kAdjusted,     // f32 [threads][vocab]       logits under penalties, biases and masks
  kBuffers
};

enum class OpKind : uint8_t { kEmbed, kAttnNorm, kQkv, kRopeWrite, kAttend, kAttnOut, kFfnNorm, kGateUp, kDown, kHead };

struct Op {
  OpKind kind;
  uint32_t layer;
  uint32_t reads;   // bit set of BufferId
  uint32_t writes;  // bit set of BufferId
};

// How attention is cut into pieces of bounded memory; has no effect on results.
struct AttentionShape {
  uint32_t query_rows;    // rows of a segment that are attended together
  uint32_t max_splits;    // parts of the longest history
  uint32_t max_units;     // slots plus batches of query_rows
  uint32_t max_partials;  // of one wave: what kPartial holds
};

struct Plan {
  uint32_t rows = 0;  // R
  AttentionShape attention;
  std::vector<Op> ops;
  size_t bytes[kBuffers] = {};
  size_t offset[kBuffers] = {};
  size_t arena_bytes = 0;
};

// chunk: rows of the shape's chunk, 0 for decode[S].
Plan MakePlan(const Model& model, const kvrm_engine_config& config, uint32_t chunk, uint32_t threads);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_PLAN_H_
