// The head of a step's graph: copies of blocks within the pool, edits of the slots' token states, and the
// lists that the other kernels work off, made from a descriptor that the host has checked.
#include "../common/adjust.h"
#include "block.h"
#include "kernels.h"

namespace kvrm::cuda {
namespace {

// ---- moves --------------------------------------------------------------------------------------------

constexpr uint32_t kMoveThreads = 512;
constexpr uint32_t kMoveLoads = 4;  // of 16 bytes, under way at once in each thread
constexpr uint32_t kTileBytes = kMoveThreads * kMoveLoads * 16;

// Copies one tile of a block, or what is left of it. bytes is a multiple of 16.
__device__ void CopyTile(const uint8_t* from, uint8_t* to, uint32_t bytes) {
  uint4 piece[kMoveLoads];
  for (uint32_t i = 0; i < kMoveLoads; ++i) {
    const uint32_t at = (i * kMoveThreads + threadIdx.x) * 16;
    if (at < bytes) piece[i] = Load128Stream(from + at);
  }
  for (uint32_t i = 0; i < kMoveLoads; ++i) {
    const uint32_t at = (i * kMoveThreads + threadIdx.x) * 16;
    if (at < bytes) *reinterpret_cast<uint4*>(to + at) = piece[i];
  }
}

// The blocks of the grid take tiles by turns. No move reads what another writes, so their order is free.
__global__ void __launch_bounds__(kMoveThreads) MoveKernel(StepView step) {
  __shared__ uint32_t first_block[kMoveThreads];  // of each move: blocks of the moves before it
  __shared__ uint32_t warp_sums[kMaxWarps][1];
  WaitForPrevious();
  LaunchDependents();
  const uint32_t num_moves = step.header->num_moves;
  const uint32_t tiles = static_cast<uint32_t>((step.block_bytes + kTileBytes - 1) / kTileBytes);  // of one block
  for (uint32_t begin = 0; begin < num_moves; begin += kMoveThreads) {
    const kvrm_move* moves = step.moves + begin;
    const uint32_t listed = Least(num_moves - begin, kMoveThreads);
    const bool within = threadIdx.x < listed && moves[threadIdx.x].tiers == KVRM_TIER_POOL;
    uint32_t blocks[1] = {within ? moves[threadIdx.x].count : 0}, all[1];
    BlockScan(blocks, all, warp_sums);
    first_block[threadIdx.x] = blocks[0];
    __syncthreads();
    const uint64_t work = uint64_t{all[0]} * tiles;
    for (uint64_t item = blockIdx.x; item < work; item += gridDim.x) {
      const uint32_t block = static_cast<uint32_t>(item / tiles);
      const uint64_t offset = item % tiles * kTileBytes;
      // Of moves that start at the same block all but the last are empty.
      const uint32_t m = LastAtMost(listed, block, [&](uint32_t i) { return first_block[i]; });
      const uint64_t inside = block - first_block[m];
      const uint64_t left = step.block_bytes - offset;
      CopyTile(step.pool + (moves[m].from + inside) * step.block_bytes + offset,
               step.pool + (moves[m].to + inside) * step.block_bytes + offset,
               left < kTileBytes ? static_cast<uint32_t>(left) : kTileBytes);
    }
    __syncthreads();
  }
}

// ---- edits --------------------------------------------------------------------------------------------

constexpr uint32_t kEditThreads = 256;

struct EditTile {
  int32_t token[kEditThreads];
  uint32_t kind[kEditThreads];
  uint32_t value[kEditThreads];
};

__device__ void ClearCounts(uint16_t* counts, uint32_t vocab) {
  if (vocab % 8 == 0) {  // every slot's counts are aligned then
    uint4* eight = reinterpret_cast<uint4*>(counts);
    for (uint32_t i = threadIdx.x; i < vocab / 8; i += kEditThreads) eight[i] = make_uint4(0, 0, 0, 0);
  } else {
    for (uint32_t i = threadIdx.x; i < vocab; i += kEditThreads) counts[i] = 0;
  }
}

__device__ __forceinline__ bool Counts(uint32_t kind) { return kind == KVRM_EDIT_PROMPT || kind == KVRM_EDIT_COUNT; }

// PROMPT and COUNT of the `listed` edits of a tile. Where a token is edited several times the first edit
// does it all: a bit and a sum that saturates have no order.
__device__ void EditCounts(const StepView& step, uint32_t slot, const EditTile& tile, uint32_t listed) {
  const uint32_t mine = threadIdx.x;
  if (mine >= listed || !Counts(tile.kind[mine])) return;
  uint16_t& state = step.token_counts[uint64_t{slot} * step.vocab + tile.token[mine]];
  uint16_t prompt = 0;
  uint32_t times = 0;
  for (uint32_t j = 0; j < listed; ++j) {
    if (tile.token[j] != tile.token[mine] || !Counts(tile.kind[j])) continue;
    if (j < mine) return;
    if (tile.kind[j] == KVRM_EDIT_PROMPT) {
      prompt = kTokenInPrompt;
    } else {
      times += tile.value[j];
    }
  }
  state = CountToken(static_cast<uint16_t>(state | prompt), times);
}

// BIAS of a tile, appended in their order after `before` others. Returns how many there are then.
__device__ uint32_t EditBiases(const StepView& step, uint32_t slot, const EditTile& tile, uint32_t listed,
                               uint32_t before) {
  uint32_t at = before;
  for (uint32_t j = 0; j < listed; ++j) {
    if (tile.kind[j] != KVRM_EDIT_BIAS) continue;
    if (j == threadIdx.x && at < KVRM_MAX_BIASES) {
      step.bias_token[uint64_t{slot} * KVRM_MAX_BIASES + at] = tile.token[j];
      step.bias_value[uint64_t{slot} * KVRM_MAX_BIASES + at] = BitsAs<float>(tile.value[j]);
    }
    ++at;
  }
  return at;
}

// One block for each slot.
__global__ void __launch_bounds__(kEditThreads) EditKernel(StepView step) {
  __shared__ EditTile tile;
  WaitForPrevious();
  LaunchDependents();
  const uint32_t slot = blockIdx.x, num_edits = step.header->num_edits;
  // Edits are sorted by slot.
  const auto starts_after = [&](uint32_t wanted) {
    uint32_t low = 0, high = num_edits;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if ((step.edits[middle].slot_kind & 0xffffu) <= wanted) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  if (num_edits == 0) return;
  const uint32_t begin = slot == 0 ? 0 : starts_after(slot - 1), end = starts_after(slot);
  if (begin == end) return;

  uint32_t biases = step.bias_count[slot];
  if (step.edits[begin].slot_kind >> 16 == KVRM_EDIT_CLEAR) {  // comes first of its slot's
    if (step.edits[begin].value == 0) ClearCounts(step.token_counts + uint64_t{slot} * step.vocab, step.vocab);
    biases = 0;
  }
  for (uint32_t first = begin; first < end; first += kEditThreads) {
    const uint32_t listed = Least(end - first, kEditThreads);
    __syncthreads();
    if (threadIdx.x < listed) {
      const kvrm_edit& edit = step.edits[first + threadIdx.x];
      tile.token[threadIdx.x] = edit.token;
      tile.kind[threadIdx.x] = edit.slot_kind >> 16;
      tile.value[threadIdx.x] = edit.value;
    }
    __syncthreads();
    EditCounts(step, slot, tile, listed);
    biases = EditBiases(step, slot, tile, listed, biases);
  }
  if (threadIdx.x == 0) step.bias_count[slot] = biases < KVRM_MAX_BIASES ? biases : KVRM_MAX_BIASES;
}

// ---- the lists ----------------------------------------------------------------------------------------

constexpr uint32_t kBuildThreads = 1024;
constexpr uint32_t kAttentionTile = 64;  // kTileTokens of attention_walk.h

__device__ __forceinline__ uint32_t Splits(const StepView& step, uint32_t tokens) {
  return (tokens + step.split_tokens - 1) / step.split_tokens;
}

__device__ __forceinline__ uint32_t Alternatives(const kvrm_slot& slot) {
  return slot.logprobs == 0 ? 0 : slot.logprobs - 1;
}

// What the kernel's parts share.
struct BuildShared {
  uint32_t sums[kMaxWarps][3];
  // Of the segments in work, one for each thread:
  uint32_t token_first[kBuildThreads];
  uint32_t unit_first[kBuildThreads];
  uint32_t prompt_first[kBuildThreads];
};

// Decoding rows with their units, samples in the order of the slots (the row of a segment's sample follows
// in AddSegments), and empty results.
__device__ void AddSlots(const StepView& step, BuildShared& shared, StepCounts& counts) {
  uint32_t rows = 0, samples = 0, items = 0;
  for (uint32_t begin = 0; begin < step.slots; begin += kBuildThreads) {
    const uint32_t s = begin + threadIdx.x;
    kvrm_slot slot = {};
    if (s < step.slots) slot = step.slot[s];
    const bool decodes = (slot.flags & KVRM_SLOT_DECODE) != 0;
    const bool sampled = (slot.flags & (KVRM_SLOT_DECODE | KVRM_SLOT_SAMPLE)) != 0;
    const uint32_t splits = decodes ? Splits(step, slot.position + 1) : 0;
    uint32_t at[3] = {decodes, sampled, splits * step.kv_heads}, all[3];
    BlockScan(at, all, shared.sums);
    const uint32_t row = rows + at[0];
    if (decodes) {
      step.rows[row] = {slot.token, s, slot.position, slot.write_block, slot.write_offset, kNoChunkRow};
      step.units[row] = {s, row, 1, slot.position, items + at[2], splits, 0};
    }
    if (sampled) step.samples[samples + at[1]] = {row, s, -1, Alternatives(slot)};
    if (s < step.slots) step.slot_results[s] = {};
    rows += all[0];
    samples += all[1];
    items += all[2];
  }
  counts.rows = rows + step.header->num_tokens;
  counts.units = rows;
  counts.decode_units = rows;
  counts.items = items;
  counts.samples = samples;
}

// A second unit for each decoding row, if the step is padded: what lies between its last tile and the window's
// end. Such steps have no segments.
__device__ void AddPadding(const StepView& step, BuildShared& shared, StepCounts& counts) {
  const uint32_t window = step.header->padded_window, rows = counts.decode_units;
  if (window == 0) return;
  uint32_t items = counts.items;
  for (uint32_t begin = 0; begin < rows; begin += kBuildThreads) {
    const uint32_t row = begin + threadIdx.x;
    AttentionUnit unit = {};
    if (row < rows) {
      unit = step.units[row];
      unit.padding = (unit.position / kAttentionTile + 1) * kAttentionTile;
      unit.position = window - 1;
      unit.splits = unit.padding < window ? Splits(step, window) - unit.padding / step.split_tokens : 0;
    }
    uint32_t at[1] = {unit.splits * step.kv_heads}, all[1];
    BlockScan(at, all, reinterpret_cast<uint32_t(*)[1]>(shared.sums));
    unit.item_first = items + at[0];
    if (row < rows) step.units[rows + row] = unit;
    items += all[0];
  }
  counts.units = counts.decode_units = 2 * rows;
  counts.items = items;
}

// One row of the chunk, `inside` its segment.
__device__ void AddChunkRow(const StepView& step, const kvrm_segment& segment, uint32_t inside, uint32_t row,
                            uint32_t prompt_row) {
  const kvrm_slot& slot = step.slot[segment.slot];
  const kvrm_group* groups = step.groups + slot.group_first;
  const uint32_t position = segment.position + inside, chunk_row = segment.token_first + inside;
  const uint32_t logical = position / step.block_tokens;
  const uint32_t g = LastAtMost(slot.group_count, logical, [&](uint32_t i) { return groups[i].logical_start; });
  const uint32_t block = groups[g].physical_start + (logical - groups[g].logical_start);
  step.rows[row] = {step.tokens[chunk_row], segment.slot, position, block, position % step.block_tokens, chunk_row};
  if ((segment.flags & KVRM_SEGMENT_PROMPT_LOGPROBS) && inside < segment.count - segment.padding) {
    step.prompt_rows[prompt_row] = {row, chunk_row, step.targets[chunk_row], segment.top_logprobs};
  }
}

// Rows and units of the segments, and the rows of their samples. Returns the rows of the result that are
// in use; counts has those of the slots.
__device__ uint32_t AddSegments(const StepView& step, uint32_t unit_rows, BuildShared& shared, StepCounts& counts) {
  const uint32_t num_segments = step.header->num_segments;
  uint32_t units = counts.decode_units, prompt_rows = 0, used = 0;
  for (uint32_t begin = 0; begin < num_segments; begin += kBuildThreads) {
    const uint32_t listed = Least(num_segments - begin, kBuildThreads);
    const kvrm_segment* segments = step.segments + begin;
    kvrm_segment mine = {};
    if (threadIdx.x < listed) mine = segments[threadIdx.x];
    const bool reported = (mine.flags & KVRM_SEGMENT_PROMPT_LOGPROBS) != 0;
    const uint32_t own = mine.count - mine.padding;
    uint32_t at[2] = {(mine.count + unit_rows - 1) / unit_rows, reported ? own : 0}, all[2];
    BlockScan(at, all, reinterpret_cast<uint32_t(*)[2]>(shared.sums));
    shared.token_first[threadIdx.x] = mine.token_first;
    shared.unit_first[threadIdx.x] = units + at[0];
    shared.prompt_first[threadIdx.x] = prompt_rows + at[1];
    if (reported && at[1] + own == all[1]) shared.sums[0][0] = mine.token_first + own;
    if (mine.count != 0 && (step.slot[mine.slot].flags & KVRM_SLOT_SAMPLE)) {
      const uint32_t i = LastAtMost(counts.samples, mine.slot, [&](uint32_t j) { return step.samples[j].index; });
      step.samples[i].row = counts.decode_units + mine.token_first + own - 1;
    }
    __syncthreads();
    if (all[1] != 0) used = shared.sums[0][0];

    const uint32_t end = segments[listed - 1].token_first + segments[listed - 1].count;
    for (uint32_t chunk_row = segments[0].token_first + threadIdx.x; chunk_row < end; chunk_row += kBuildThreads) {
      const uint32_t i = LastAtMost(listed, chunk_row, [&](uint32_t j) { return shared.token_first[j]; });
      const kvrm_segment& segment = segments[i];
      const uint32_t inside = chunk_row - segment.token_first, row = counts.decode_units + chunk_row;
      AddChunkRow(step, segment, inside, row, shared.prompt_first[i] + inside);
      if (inside % unit_rows != 0) continue;
      const uint32_t unit = shared.unit_first[i] + inside / unit_rows, rows = Least(unit_rows, segment.count - inside);
      const uint32_t position = segment.position + inside;
      step.units[unit] = {segment.slot,
                          row,
                          rows,
                          position,
                          counts.items + (unit - counts.decode_units) * step.kv_heads,
                          Splits(step, position + rows),
                          0};
    }
    units += all[0];
    prompt_rows += all[1];
    __syncthreads();
  }
  counts.units = units;
  counts.items += (units - counts.decode_units) * step.kv_heads;
  counts.prompt_rows = prompt_rows;
  return used;
}

__global__ void __launch_bounds__(kBuildThreads, 1) BuildKernel(StepView step, uint32_t* work_counters) {
  __shared__ BuildShared shared;
  WaitForPrevious();
  LaunchDependents();
  for (uint32_t i = threadIdx.x; i <= step.layers; i += kBuildThreads) work_counters[i] = 0;
  uint32_t moved[1] = {0};
  for (uint32_t i = threadIdx.x; i < step.header->num_moves; i += kBuildThreads) moved[0] += step.moves[i].count;
  BlockSum(moved, reinterpret_cast<uint32_t(*)[1]>(shared.sums));

  const uint32_t per_unit = kUnitRows / (step.heads / step.kv_heads);
  const uint32_t unit_rows = per_unit == 0 ? 1 : per_unit;
  StepCounts counts = {};
  AddSlots(step, shared, counts);
  __syncthreads();  // AddPadding looks units up, AddSegments samples
  AddPadding(step, shared, counts);
  const uint32_t used = AddSegments(step, unit_rows, shared, counts);
  for (uint32_t i = threadIdx.x; i < used; i += kBuildThreads) step.row_results[i] = {};
  if (threadIdx.x != 0) return;
  *step.counts = counts;
  step.result_header->moved_blocks = moved[0];
  step.result_header->rows = counts.rows;
  step.result_header->num_rows = used;
}

}  // namespace

void LaunchMoves(const LaunchContext& context, const StepView& step, uint32_t max_moves) {
  if (max_moves == 0) return;
  Launch({dim3(2 * context.sms), dim3(kMoveThreads), 0, context.stream, context.dependent}, MoveKernel, step);
}

void LaunchEdits(const LaunchContext& context, const StepView& step) {
  if (step.token_counts == nullptr) return;
  Launch({dim3(step.slots), dim3(kEditThreads), 0, context.stream, context.dependent}, EditKernel, step);
}

void LaunchBuildStep(const LaunchContext& context, const StepView& step, uint32_t* work_counters) {
  Launch({dim3(1), dim3(kBuildThreads), 0, context.stream, context.dependent}, BuildKernel, step, work_counters);
}

}  // namespace kvrm::cuda
