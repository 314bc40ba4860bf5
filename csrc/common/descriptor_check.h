// descriptor_check.h - the one gate between the runtime and the executors: a descriptor that passes
// here makes no executor read or write outside its buffers. Shared by all backends; runs on the host.
//
// The cost is linear in what the descriptor uses (plus m log m for m moves); unused tails are never
// read. Nothing is allocated.
#ifndef KVRM_COMMON_DESCRIPTOR_CHECK_H_
#define KVRM_COMMON_DESCRIPTOR_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kvrm.h"
#include "layout.h"

namespace kvrm {

// What an engine allows; fixed at its creation.
struct DescriptorLimits {
  uint32_t slots = 0;
  uint32_t block_tokens = 0;
  uint32_t num_blocks = 0;
  uint32_t max_context = 0;
  uint32_t max_groups = 0;
  uint32_t max_segments = 0;
  uint32_t max_moves = 0;
  uint32_t max_edits = 0;
  uint32_t mask_rows = 0;
  uint32_t host_blocks = 0;
  uint32_t max_summaries = 0;
  uint32_t far_rows = 0;
  uint32_t vocab = 0;
  uint32_t widest_window = 0;  // 0 when some layer attends to everything
  uint32_t shapes = 0;
  uint32_t chunk[KVRM_MAX_SHAPES] = {};  // rows of shape i's chunk; chunk[0] = 0
};

DescriptorLimits LimitsOf(const kvrm_engine_config& config, uint32_t vocab, uint32_t widest_window);

// What earlier commits left behind, in commit order: ahead of what has run.
struct ShadowState {
  explicit ShadowState(const DescriptorLimits& limits);
  // Words of one slot's row of biased; 0 without edits.
  size_t BiasedWords() const { return biased.size() / sampled.size(); }

  uint32_t last_step = 0;
  std::vector<uint8_t> sampled;  // [S]: the slot's most recent step sampled a token
  std::vector<uint32_t> biases;  // [S]: tokens that are biased
  std::vector<uint64_t> biased;  // [S][(vocab + 63) / 64]: which; empty without edits
  std::vector<uint32_t> rows;    // [S]: summary rows that the slot has; empty without far history
};

// Memory the check works in; its content means nothing between two checks.
struct CheckScratch {
  explicit CheckScratch(const DescriptorLimits& limits);
  struct Range {
    uint32_t first, end;
  };
  uint32_t stamp = 0;
  // Marked when equal to stamp, so that nothing has to be cleared between two checks.
  std::vector<uint32_t> slot_stamp;   // [S]: the slot has a segment in this step
  std::vector<uint32_t> block_stamp;  // [num_blocks]: the block is written in this step
  std::vector<Range> destinations;    // [max_moves]
  uint32_t edit_stamp = 0;            // of the slot whose edits are walked
  std::vector<uint32_t> token_stamp;  // [vocab]: the token is biased in this step; empty without edits
  std::vector<uint32_t> rows;         // [S]: summary rows that the slot has after this step's operations
};

// Why a descriptor was refused.
struct Refusal {
  enum Want { kExactly, kAtMost, kWithin, kPlain };
  const char* section = "";
  int64_t index = -1;  // -1: the section is no array
  const char* field = "";
  double found = 0;
  Want want = kPlain;  // kExactly a, kAtMost a, kWithin a..b, kPlain: see why
  double a = 0, b = 0;
  const char* why = nullptr;  // in words, or null
};

// Checks the header alone: after it the counts may be trusted.
bool CheckHeader(const DescriptorLimits& limits, const ShadowState& shadow, const kvrm_header& header,
                 Refusal* refusal);

// Checks all the rest; the header must have passed.
bool CheckSections(const DescriptorLimits& limits, const ShadowState& shadow, const DescriptorView& view,
                   CheckScratch& scratch, Refusal* refusal);

// Moves the shadow state over a descriptor that was accepted.
void ApplyToShadow(const DescriptorLimits& limits, const DescriptorView& view, ShadowState& shadow);

// Writes "slots[3].write_offset is 7, wanted 5 (position % block_tokens)".
void DescribeRefusal(const Refusal& refusal, char* out, size_t capacity);

}  // namespace kvrm
#endif  // KVRM_COMMON_DESCRIPTOR_CHECK_H_
