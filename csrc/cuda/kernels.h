// kernels.h - the kernels of a step, as the graph executor launches them. Each function enqueues on a
// stream (usually one that is being captured), returns at once and allocates nothing; the grid depends
// on the shape alone, never on the step. What varies from step to step is read from device memory.
//
// The rule of csrc/cpu/ops.h holds here too: the bits of one output row depend on that row's inputs
// alone. How a product is tiled, which rows are in the batch, whether a row decodes or prefills and
// where blocks lie cannot show. docs/cuda.md gives the order of every sum.
//
// Letters: R rows of the shape (S slots + C of the chunk), H heads, KV kv_heads, D head_dim,
// G = H / KV heads per KV head, K reduction length.
#ifndef KVRM_CUDA_KERNELS_H_
#define KVRM_CUDA_KERNELS_H_

#include <cstdint>

#include "../common/layout.h"
#include "../kvrm.h"
#include "device.h"

namespace kvrm::cuda {

// ---- the step, as the device sees it ----------------------------------------------------------------

// One active token; rows are compacted: decoding slots first (ascending), then the chunk's segments.
struct Row {
  int32_t token;  // filled in by the embedding (last samples are only known then)
  uint32_t slot;
  uint32_t position;
  uint32_t block;      // physical block that takes its K and V
  uint32_t offset;     // its token within the block
  uint32_t chunk_row;  // row of the chunk, or kNoChunkRow for a decoding slot
};
inline constexpr uint32_t kNoChunkRow = 0xffffffffu;

// Rows of one slot at consecutive positions that attend together: one decoding row, or at most
// kUnitRows / G rows of a segment (at least 1), cut at fixed places relative to the segment's start;
// how it is cut cannot show in the bits.
struct AttentionUnit {
  uint32_t slot;
  uint32_t row_first;
  uint32_t rows;
  uint32_t position;    // of the first row
  uint32_t item_first;  // first work item, see StepCounts::items
  uint32_t splits;      // of kSplit tokens, over [0, position + rows); of padding, those that it reaches
  // Of padding the first token, never 0: the unit is what a decoding row's window is padded with
  // (kvrm_header.padded_window). Its row is the decoding row's, its position the last token of the window; it
  // costs what a unit costs and leaves no result.
  uint32_t padding;
};
inline constexpr uint32_t kUnitRows = 64;  // query rows (tokens x G) that a unit of several rows may have

// A row whose distribution is wanted.
struct HeadRow {
  uint32_t row;
  uint32_t index;         // the slot, or the row of the chunk
  int32_t target;         // prompt rows: the id to report; -1: none
  uint32_t top_logprobs;  // prompt rows: alternatives to report
};

struct StepCounts {
  uint32_t rows;
  uint32_t units;
  uint32_t decode_units;  // the first so many units are decoding rows, then their padding
  uint32_t items;         // work items of attention: decode: KV x splits each, prefill: KV each
  uint32_t samples;
  uint32_t prompt_rows;
  uint32_t reserved[2];
};

// Everything a kernel may need to find, by value. All pointers are to device memory and stay the same
// for the engine's life.
struct StepView {
  // sizes
  uint32_t slots, max_rows, max_chunk, block_tokens, layers, heads, kv_heads, head_dim, vocab, hidden;
  uint32_t split_tokens;  // kSplit: a multiple of 256, chosen at creation
  uint32_t max_splits;    // of the longest history
  uint32_t max_units;
  uint32_t mask_words;
  // the descriptor at its fixed address
  const kvrm_header* header;
  const kvrm_slot* slot;  // [S]
  const kvrm_segment* segments;
  const int32_t* tokens;
  const int32_t* targets;
  const kvrm_group* groups;
  const kvrm_move* moves;
  const kvrm_edit* edits;
  const uint32_t* masks;  // [mask_rows][mask_words]
  // made by BuildStep
  StepCounts* counts;
  Row* rows;             // [R]
  AttentionUnit* units;  // [max_units]
  HeadRow* samples;      // [S]
  HeadRow* prompt_rows;  // [C]
  // state between steps
  int32_t* last_token;     // [S]: each slot's last sample
  uint16_t* token_counts;  // [S][vocab]: bit 15 in the prompt, 0..14 times in the answer; or null
  uint32_t* bias_count;    // [S]; or null
  int32_t* bias_token;     // [S][KVRM_MAX_BIASES]
  float* bias_value;       // [S][KVRM_MAX_BIASES]
  // the KV pool: [block][layer][K|V][kv_head][token][dim]
  uint8_t* pool;
  uint64_t block_bytes;
  uint32_t kv_dtype;
  // results, laid out as kvrm.h says
  kvrm_slot_result* slot_results;
  kvrm_top* slot_tops;
  kvrm_row_result* row_results;
  kvrm_top* row_tops;
  kvrm_result_header* result_header;
};

struct LaunchContext {
  cudaStream_t stream;
  uint32_t sms;    // multiprocessors of the device
  bool dependent;  // programmatic dependent launch (sm_90 and later)
};

// ---- begin.cu: the head of the graph ------------------------------------------------------------------

// moves[] within the pool: one batched copy. Fixed grid; no work when there are none.
void LaunchMoves(const LaunchContext& context, const StepView& step, uint32_t max_moves);

// edits[] into token_counts and the biases, in their order for each slot.
void LaunchEdits(const LaunchContext& context, const StepView& step);

// One block: rows, units (work items are numbered in their order), samples (in the order of the slots),
// prompt_rows, counts; empties slot_results and the rows of row_results in use, zeroes the attention's work
// counters [layers + 1] and fills what the header of the result says of rows and moves.
void LaunchBuildStep(const LaunchContext& context, const StepView& step, uint32_t* work_counters);

// ---- pointwise.cu --------------------------------------------------------------------------------------

// A matrix or vector in device memory; F32, F16 or BF16.
struct Table {
  const void* data;
  uint32_t dtype;
};

// rows[].token (from the descriptor, or the slot's last sample), hidden[R][hidden] = table[token], and
// cos/sin [R][D / 2] of position * inv_freq (the product rounded to f32).
void LaunchEmbed(const LaunchContext& context, const StepView& step, Table table, const float* inv_freq, float* hidden,
                 float* cos_table, float* sin_table);

// x[r][n] = hidden[r][n] / sqrt(mean(hidden[r]^2) + eps) * weight[n], rounded to act; r < counts->rows.
void LaunchRmsNorm(const LaunchContext& context, const StepView& step, const float* hidden, Table weight, float eps,
                   uint32_t act_dtype, void* x);

// The same for gathered rows: x[i] from hidden[list[i].row], i < count_of_list. first: of the list;
// at most max_count rows.
void LaunchGatherNorm(const LaunchContext& context, const StepView& step, const HeadRow* list,
                      const uint32_t* list_count, uint32_t first, uint32_t max_count, const float* hidden, Table weight,
                      float eps, uint32_t act_dtype, void* x);

// ---- gemm.cu -------------------------------------------------------------------------------------------

enum class WeightType : uint32_t { kF32, kF16, kBf16, kFp8, kInt8, kInt4 };

// [n, k] row-major; the order within a row of narrow types is in gemm.h. Activations are F32 for kF32,
// F16 for kF16, else BF16 or F16 as act says.
struct DeviceWeight {
  const void* data = nullptr;
  const float* scales = nullptr;  // kFp8, kInt8: [n]; kInt4: [n][ceil(k / 128)]
  WeightType type = WeightType::kF32;
  uint32_t n = 0, k = 0;
};

// What the products share. x [max_rows][k] of act_dtype (kvrm_dtype). *rows (device) counts the rows of the
// whole list, of which x holds those from `first` on: in use are min(*rows - first, max_rows), or none.
struct GemmInput {
  const void* x;
  uint32_t act_dtype;
  const uint32_t* rows;  // device
  uint32_t max_rows;
  void* workspace;  // GemmWorkspaceBytes(), zero before the first use; left zero where it must be
  uint32_t first = 0;
};
size_t GemmWorkspaceBytes(uint32_t sms, uint32_t max_rows);

// Q, K and V of one layer in one product (weights stacked [(H + 2 KV) D, hidden]), then bias, norms of
// the heads of Q and K, RoPE, and the writes: q [R][H][D] f32, K and V into the pool at rows[].block.
struct QkvEpilogue {
  const float* bias;    // [(H + 2 KV) D] or null
  const float* q_norm;  // [D] or null
  const float* k_norm;
  float eps;
  const float* cos_table;  // [R][D / 2]
  const float* sin_table;
  float* q;
  uint32_t layer;
};
void LaunchQkv(const LaunchContext& context, const StepView& step, const DeviceWeight& weight, const GemmInput& in,
               const QkvEpilogue& out);

// hidden[r][n] += x W^T (+ bias).
void LaunchResidual(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, const float* bias,
                    float* hidden);

// y[r][n] = silu(gate) * up, rounded to act. weight stacks gate and up by turns of 16 rows: 16 of gate,
// the same 16 of up, ...; n = 2 * intermediate rounded up to a multiple of 32, the rows added zero.
void LaunchGateUp(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, uint32_t intermediate,
                  void* y);

// logits[r][n] = x W^T, f32.
void LaunchLogits(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, float* logits);

// ---- attention.cu --------------------------------------------------------------------------------------

struct AttentionArgs {
  const float* q;  // [R][H][D], rotated, not scaled
  void* out;       // [R][H * D] of out_dtype
  uint32_t out_dtype;
  uint32_t layer;
  uint32_t window;  // 0: all
  float scale;
  float* partial_acc;   // [AttentionPartials()][G][D] of decoding units
  float* partial_stat;  // [AttentionPartials()][G][2]: max, sum
  uint32_t* arrivals;   // [max_units][KV], zero before the first use; left zero
  uint32_t* work;       // this layer's counter, zeroed by BuildStep
};

// Partial results that decoding slots may need at once.
uint64_t AttentionPartials(uint32_t slots, uint32_t kv_heads, uint32_t max_splits);

// One kernel: persistent blocks take work items off `work`; the last to finish a decoding row merges its
// splits in ascending order.
void LaunchAttention(const LaunchContext& context, const StepView& step, const AttentionArgs& args);

// ---- sampling.cu ---------------------------------------------------------------------------------------

// Bytes of scratch of LaunchSample.
uint64_t SampleScratchBytes(uint32_t slots, uint32_t vocab);

// Samples of samples[] from logits [S][vocab] (row i belongs to samples[i]): writes slot_results, slot_tops,
// last_token, and counts the token where the slot has ADJUST. logits stay as they are.
void LaunchSample(const LaunchContext& context, const StepView& step, const float* logits, void* scratch);

// Log-probabilities of prompt_rows[first .. first + max_count) from logits [max_count][vocab]; needs no scratch.
void LaunchPromptLogprobs(const LaunchContext& context, const StepView& step, const float* logits, uint32_t first,
                          uint32_t max_count, void* scratch);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_KERNELS_H_
