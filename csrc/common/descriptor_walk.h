// descriptor_walk.h - what the parts of the descriptor's check share.
#ifndef KVRM_COMMON_DESCRIPTOR_WALK_H_
#define KVRM_COMMON_DESCRIPTOR_WALK_H_

#include <cstdint>

#include "descriptor_check.h"

namespace kvrm {

using Want = Refusal::Want;

// Names the place while a section is walked, so that each check is one line.
struct Where {
  Refusal* refusal;
  const char* section;
  int64_t index;

  bool No(const char* field, double found, Want want, double a, double b, const char* why) const {
    *refusal = {section, index, field, found, want, a, b, why};
    return false;
  }
  bool Exactly(const char* field, uint64_t found, uint64_t wanted, const char* why = nullptr) const {
    return found == wanted || No(field, double(found), Want::kExactly, double(wanted), 0, why);
  }
  bool AtMost(const char* field, uint64_t found, uint64_t limit, const char* why = nullptr) const {
    return found <= limit || No(field, double(found), Want::kAtMost, double(limit), 0, why);
  }
  bool Within(const char* field, int64_t found, int64_t low, int64_t high, const char* why = nullptr) const {
    return (low <= found && found <= high) || No(field, double(found), Want::kWithin, double(low), double(high), why);
  }
  bool Refuse(const char* field, double found, const char* why) const {
    return No(field, found, Want::kPlain, 0, 0, why);
  }
};

struct CheckContext {
  const DescriptorLimits& limits;
  const ShadowState& shadow;
  const DescriptorView& view;
  CheckScratch& scratch;
  Refusal* refusal;
};

// Whether a slot has any of these, NaN too.
bool HasPenalty(const kvrm_slot& slot);
bool HasSamplers(const kvrm_slot& slot);

// Of a slot with ADJUST: that its penalties are in range; of one that samples: the rest.
bool CheckPenalties(const Where& at, const kvrm_slot& slot);
bool CheckSampling(const Where& at, const kvrm_slot& slot);

// moves[]: ranges within their tiers, destinations apart from each other and from every source.
bool CheckMoves(const CheckContext& c);

// edits[]: sorted by slot, values in range, no token biased twice.
bool CheckEdits(const CheckContext& c);

// summaries[]: rows that their slots have, blocks of the pool. Leaves in the scratch how many rows each slot has
// then; so it comes before the slots.
bool CheckSummaries(const CheckContext& c);

// Summary rows of a slot that has `rows`, after an operation that was found good.
inline uint32_t RowsAfter(const kvrm_summary& summary, uint32_t rows) {
  const uint32_t kind = summary.slot_kind >> 16;
  return kind == KVRM_SUMMARY_CLEAR ? 0 : kind == KVRM_SUMMARY_BLOCK && summary.row == rows ? rows + 1 : rows;
}

}  // namespace kvrm
#endif  // KVRM_COMMON_DESCRIPTOR_WALK_H_
