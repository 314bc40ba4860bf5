// The sections that change what the engine keeps between steps, beside K and V: moves, edits and summaries.
#include <algorithm>
#include <bit>
#include <limits>

#include "descriptor_walk.h"

namespace kvrm {
namespace {

// The blocks of one side of a move, those of the host numbered after those of the pool, so that ranges of
// different tiers never overlap.
bool CheckMoveSide(const CheckContext& c, const Where& at, const char* field, uint32_t tier, uint32_t first,
                   uint32_t count, CheckScratch::Range* range) {
  const bool host = tier == KVRM_TIER_HOST;
  const uint32_t blocks = host ? c.limits.host_blocks : c.limits.num_blocks;
  if (!at.Within("count", count, 1, blocks, host ? "host_blocks" : "num_blocks") ||
      !at.AtMost(field, first, blocks - count, host ? "host_blocks - count" : "num_blocks - count")) {
    return false;
  }
  const uint32_t base = host ? c.limits.num_blocks : 0;
  *range = {base + first, base + first + count};
  return true;
}

bool CheckMove(const CheckContext& c, const Where& at, const kvrm_move& move, CheckScratch::Range* from,
               CheckScratch::Range* to) {
  const uint32_t from_tier = move.tiers & 0xffff, to_tier = move.tiers >> 16;
  if (from_tier > KVRM_TIER_HOST || to_tier > KVRM_TIER_HOST || (from_tier & to_tier) != 0) {
    return at.Refuse("tiers", move.tiers, "0, HOST or HOST << 16 (from tier | to tier << 16)");
  }
  return CheckMoveSide(c, at, "from", from_tier, move.from, move.count, from) &&
         CheckMoveSide(c, at, "to", to_tier, move.to, move.count, to);
}

bool CheckEdit(const Where& at, const kvrm_edit& edit) {
  switch (edit.slot_kind >> 16) {
    case KVRM_EDIT_CLEAR:
      return at.Exactly("token", uint32_t(edit.token), 0) && at.AtMost("value", edit.value, 1);
    case KVRM_EDIT_PROMPT:
      return at.Exactly("value", edit.value, 0);
    case KVRM_EDIT_COUNT:
      return at.Within("value", edit.value, 1, KVRM_MAX_COUNT);
    case KVRM_EDIT_BIAS: {
      const float bias = std::bit_cast<float>(edit.value);
      return bias < std::numeric_limits<float>::infinity() ||
             at.Refuse("value", bias, "the bits of a finite number or of -inf");
    }
    default:
      return at.Refuse("slot_kind", edit.slot_kind, "slot | kind << 16 with a kind of at most 3");
  }
}

bool CheckSummary(const CheckContext& c, const Where& at, const kvrm_summary& summary, uint32_t rows) {
  const uint32_t first = summary.tokens & 0xffff, count = summary.tokens >> 16, block = c.limits.block_tokens;
  switch (summary.slot_kind >> 16) {
    case KVRM_SUMMARY_CLEAR:
      return at.Exactly("row", summary.row, 0) && at.Exactly("source", summary.source, 0) &&
             at.Exactly("tokens", summary.tokens, 0);
    case KVRM_SUMMARY_BLOCK:
      return at.AtMost("row", summary.row, rows, "the rows that the slot has") &&
             at.Within("row", summary.row, 0, int64_t(c.limits.far_rows) - 1, "far_rows") &&
             at.AtMost("source", summary.source, c.limits.num_blocks - 1, "num_blocks - 1") &&
             at.AtMost("tokens", first, block - 1, "the first token, within a block") &&
             at.Within("tokens", count, 1, block - first, "the count, within a block");
    case KVRM_SUMMARY_MERGE:
      return at.Within("row", summary.row, 0, int64_t(rows) - 1, "the rows that the slot has") &&
             at.Within("source", summary.source, 0, int64_t(rows) - 1, "the rows that the slot has") &&
             (summary.row != summary.source || at.Refuse("source", summary.source, "another row")) &&
             at.Exactly("tokens", summary.tokens, 0);
    default:
      return at.Refuse("slot_kind", summary.slot_kind, "slot | kind << 16 with a kind of at most 2");
  }
}

}  // namespace

bool CheckMoves(const CheckContext& c) {
  using Range = CheckScratch::Range;
  const uint32_t num_moves = c.view.header->num_moves;
  Range* destinations = c.scratch.destinations.data();
  Range from;
  for (uint32_t i = 0; i < num_moves; ++i) {
    if (!CheckMove(c, Where{c.refusal, "moves", i}, c.view.moves[i], &from, &destinations[i])) return false;
  }
  std::sort(destinations, destinations + num_moves, [](Range a, Range b) { return a.first < b.first; });
  for (uint32_t i = 1; i < num_moves; ++i) {
    if (destinations[i].first < destinations[i - 1].end) {
      return Where{c.refusal, "moves", -1}.Refuse("to", destinations[i].first,
                                                  "a block that is one move's destination");
    }
  }
  for (uint32_t i = 0; i < num_moves; ++i) {
    const kvrm_move& move = c.view.moves[i];
    const uint32_t base = (move.tiers & 0xffff) == KVRM_TIER_HOST ? c.limits.num_blocks : 0;
    from = {base + move.from, base + move.from + move.count};
    // The destinations are disjoint and sorted: the first that ends after the source begins decides.
    const Range* hit = std::upper_bound(destinations, destinations + num_moves, from.first,
                                        [](uint32_t first, Range range) { return first < range.end; });
    if (hit != destinations + num_moves && hit->first < from.end) {
      return Where{c.refusal, "moves", i}.Refuse("from", move.from, "blocks that are no move's destination");
    }
  }
  return true;
}

bool CheckEdits(const CheckContext& c) {
  const int64_t last_id = int64_t(c.limits.vocab) - 1;
  uint32_t slot = 0, biases = 0;
  bool cleared = false;
  for (uint32_t i = 0; i < c.view.header->num_edits; ++i) {
    const kvrm_edit& edit = c.view.edits[i];
    const Where at{c.refusal, "edits", i};
    const uint32_t edited = edit.slot_kind & 0xffff, kind = edit.slot_kind >> 16;
    if (!CheckEdit(at, edit) || !at.Within("token", edit.token, 0, last_id) ||
        !at.Exactly("reserved0", edit.reserved0, 0)) {
      return false;
    }
    if (edited >= c.limits.slots || edited < slot) {
      return at.No("slot_kind", edited, Want::kWithin, slot, c.limits.slots - 1, "the slot; edits are sorted by it");
    }
    const bool first = i == 0 || edited != slot;
    if (first) {
      slot = edited;
      cleared = kind == KVRM_EDIT_CLEAR;
      biases = cleared ? 0 : c.shadow.biases[slot];
      if (++c.scratch.edit_stamp == 0) {
        std::fill(c.scratch.token_stamp.begin(), c.scratch.token_stamp.end(), 0);
        c.scratch.edit_stamp = 1;
      }
    } else if (kind == KVRM_EDIT_CLEAR) {
      return at.Refuse("slot_kind", edit.slot_kind, "no CLEAR after other edits of its slot");
    }
    if (kind != KVRM_EDIT_BIAS) continue;
    const uint64_t* biased = &c.shadow.biased[slot * c.shadow.BiasedWords()];
    uint32_t& stamp = c.scratch.token_stamp[edit.token];
    if (stamp == c.scratch.edit_stamp || (!cleared && (biased[edit.token / 64] >> edit.token % 64 & 1) != 0)) {
      return at.Refuse("token", edit.token, "a token that its slot does not bias yet");
    }
    stamp = c.scratch.edit_stamp;
    static_assert(KVRM_MAX_BIASES == 1024);
    if (++biases > KVRM_MAX_BIASES) return at.Refuse("slot_kind", edit.slot_kind, "at most 1024 biases of one slot");
  }
  return true;
}

bool CheckSummaries(const CheckContext& c) {
  std::vector<uint32_t>& rows = c.scratch.rows;
  std::copy(c.shadow.rows.begin(), c.shadow.rows.end(), rows.begin());
  for (uint32_t i = 0; i < c.view.header->num_summaries; ++i) {
    const kvrm_summary& summary = c.view.summaries[i];
    const Where at{c.refusal, "summaries", i};
    const uint32_t slot = summary.slot_kind & 0xffff;
    if (!at.AtMost("slot_kind", slot, c.limits.slots - 1, "the slot") || !CheckSummary(c, at, summary, rows[slot])) {
      return false;
    }
    rows[slot] = RowsAfter(summary, rows[slot]);
  }
  return true;
}

}  // namespace kvrm
