#include "descriptor_check.h"

#include <algorithm>
#include <cstdio>

#include "descriptor_walk.h"

namespace kvrm {
namespace {

bool Samples(const kvrm_slot& slot) { return (slot.flags & (KVRM_SLOT_DECODE | KVRM_SLOT_SAMPLE)) != 0; }

bool CheckIdle(const Where& at, const kvrm_slot& slot) {
  const uint32_t words[] = {uint32_t(slot.token), slot.position,    slot.kv_len, slot.write_block, slot.write_offset,
                            slot.group_first,     slot.group_count, slot.top_k,  slot.seed_lo,     slot.seed_hi,
                            slot.counter,         slot.logprobs,    slot.mask};
  uint32_t any = 0;
  for (uint32_t word : words) any |= word;
  if (any != 0 || slot.temperature != 0 || slot.top_p != 0 || slot.min_p != 0 || HasPenalty(slot) ||
      HasSamplers(slot)) {
    return at.Refuse("flags", 0, "all other fields 0, since the slot is idle");
  }
  return true;
}

// What changes the logits: only with a sample, penalties only with ADJUST.
bool CheckAdjustment(const CheckContext& c, const Where& at, const kvrm_slot& slot) {
  if (!Samples(slot) && slot.mask != 0) return at.Refuse("mask", slot.mask, "0, since the slot does not sample");
  if (!at.AtMost("mask", slot.mask, c.view.header->num_masks, "num_masks")) return false;
  if ((slot.flags & KVRM_SLOT_ADJUST) == 0) {
    return !HasPenalty(slot) || at.Refuse("flags", slot.flags, "ADJUST, since the slot has a penalty");
  }
  if (!Samples(slot)) return at.Refuse("flags", slot.flags, "no ADJUST: the slot does not sample");
  if (c.limits.max_edits == 0) return at.Refuse("flags", slot.flags, "no ADJUST: the engine has no edits");
  return CheckPenalties(at, slot);
}

// Marks a block as written.
bool WriteBlock(const CheckContext& c, const Where& at, uint32_t physical) {
  if (c.scratch.block_stamp[physical] == c.scratch.stamp) {
    return at.Refuse("write_block", physical, "a block that nothing else writes in this step");
  }
  c.scratch.block_stamp[physical] = c.scratch.stamp;
  return true;
}

// The slot's groups: its own, ascending without gaps, exact but for one, covering what its rows can see; and the
// blocks that its rows write, each marked as written.
bool CheckGroups(const CheckContext& c, const Where& at, uint32_t index, const kvrm_slot& slot) {
  const uint32_t block = c.limits.block_tokens;
  const uint32_t max_blocks = (c.limits.max_context + block - 1) / block;
  const uint32_t write_first = slot.position / block;
  const uint32_t write_end = (slot.kv_len - 1) / block + 1;
  uint32_t visible = 0;  // the first token that the row at position still sees
  if (const uint32_t window = c.limits.widest_window; window != 0 && slot.position >= window) {
    visible = slot.position - (window - 1);
  }

  if (!at.AtMost("group_first", slot.group_first, c.view.header->num_groups, "num_groups")) return false;
  if (!at.Within("group_count", slot.group_count, 1, int64_t(c.view.header->num_groups) - slot.group_first,
                 "num_groups - group_first")) {
    return false;
  }
  uint32_t next = 0;       // the logical block after the last group
  bool far = false;        // some group was FAR
  bool after_far = false;  // the last one was
  for (uint32_t g = slot.group_first; g < slot.group_first + slot.group_count; ++g) {
    const kvrm_group& group = c.view.groups[g];
    const Where here{c.refusal, "groups", g};
    if (!far && c.limits.max_summaries != 0 && group.slot_kind == (index | KVRM_GROUP_FAR << 16)) {
      if (!here.Exactly("logical_start", group.logical_start, next, "the end of the group before it") ||
          !here.Exactly("physical_start", group.physical_start, 0) ||
          !here.AtMost("count", group.count, c.scratch.rows[index], "the summary rows that the slot has")) {
        return false;
      }
      far = after_far = true;
      continue;
    }
    if (!here.Exactly("slot_kind", group.slot_kind, index | KVRM_GROUP_EXACT << 16, "slot | kind << 16")) return false;
    if (after_far) {
      if (!here.Within("logical_start", group.logical_start, int64_t(next) + 1, write_first,
                       "after the start of the group FAR before it, at or before the block of position")) {
        return false;
      }
      after_far = false;
    } else if (g == slot.group_first) {
      if (!here.AtMost("logical_start", group.logical_start, visible / block, "the first block that is still seen")) {
        return false;
      }
    } else if (!here.Exactly("logical_start", group.logical_start, next, "the end of the group before it")) {
      return false;
    }
    if (!here.Within("count", group.count, 1, int64_t(max_blocks) - group.logical_start,
                     "the logical blocks of max_context")) {
      return false;
    }
    if (!here.AtMost("count", group.count, c.limits.num_blocks, "num_blocks")) return false;
    if (!here.AtMost("physical_start", group.physical_start, c.limits.num_blocks - group.count, "num_blocks - count")) {
      return false;
    }
    next = group.logical_start + group.count;

    for (uint32_t l = std::max(group.logical_start, write_first); l < std::min(next, write_end); ++l) {
      const uint32_t physical = group.physical_start + (l - group.logical_start);
      if (l == write_first && !at.Exactly("write_block", slot.write_block, physical, "where its groups map position")) {
        return false;
      }
      if (!WriteBlock(c, at, physical)) return false;
    }
  }
  if (after_far) return at.Refuse("group_count", slot.group_count, "a group after the one of kind FAR");
  if (next < write_end) {
    return at.No("group_count", next, Want::kExactly, write_end, 0, "logical blocks up to the one of kv_len - 1");
  }
  const uint32_t window = c.view.header->padded_window;
  if (const uint32_t padded_end = (window + block - 1) / block; next < padded_end) {
    return at.No("group_count", next, Want::kExactly, padded_end, 0,
                 "logical blocks up to the one of padded_window - 1");
  }
  return true;
}

// The padding of a segment: within the context, in blocks that its slot has and that nothing else writes.
bool CheckPadding(const CheckContext& c, const Where& at, const kvrm_segment& segment, const kvrm_slot& slot) {
  if (!at.AtMost("padding", segment.padding, c.limits.max_context - slot.kv_len, "max_context - kv_len")) return false;
  const uint32_t block = c.limits.block_tokens;
  const uint32_t written = (slot.kv_len - 1) / block + 1;
  const uint32_t end = (slot.kv_len + segment.padding - 1) / block + 1;
  const kvrm_group* group = c.view.groups + slot.group_first;
  const kvrm_group& last = group[slot.group_count - 1];
  if (last.logical_start + last.count < end) {
    return at.No("padding", segment.padding, Want::kAtMost,
                 double(last.logical_start + last.count) * block - slot.kv_len, 0, "what its slot's groups hold");
  }
  const Where writer{c.refusal, "slots", segment.slot};
  for (uint32_t logical = written; logical < end; ++logical) {
    while (group != &last && group[1].logical_start <= logical) ++group;
    if (!WriteBlock(c, writer, group->physical_start + (logical - group->logical_start))) return false;
  }
  return true;
}

bool CheckActive(const CheckContext& c, const Where& at, uint32_t index, const kvrm_slot& slot) {
  const uint32_t flags = slot.flags & ~KVRM_SLOT_ADJUST;
  const bool decode = flags == KVRM_SLOT_DECODE || flags == (KVRM_SLOT_DECODE | KVRM_SLOT_TOKEN_LAST);
  const bool prefill = flags == KVRM_SLOT_PREFILL || flags == (KVRM_SLOT_PREFILL | KVRM_SLOT_SAMPLE);
  if (!decode && !prefill) {
    return at.Refuse("flags", slot.flags,
                     "0, DECODE, DECODE | TOKEN_LAST, PREFILL or PREFILL | SAMPLE, perhaps | ADJUST");
  }
  if (!at.Within("kv_len", slot.kv_len, 1, c.limits.max_context, "max_context")) return false;
  if (!at.AtMost("position", slot.position, slot.kv_len - 1, "kv_len - 1")) return false;
  if (!at.Exactly("write_offset", slot.write_offset, slot.position % c.limits.block_tokens,
                  "position % block_tokens")) {
    return false;
  }
  if (decode) {
    if (!at.Exactly("kv_len", slot.kv_len, uint64_t(slot.position) + 1, "position + 1")) return false;
    if (const uint32_t window = c.view.header->padded_window; window != 0 && slot.kv_len > window) {
      return at.No("kv_len", slot.kv_len, Want::kAtMost, window, 0, "padded_window");
    }
    if (flags & KVRM_SLOT_TOKEN_LAST) {
      if (!c.shadow.sampled[index]) {
        return at.Refuse("flags", slot.flags, "no TOKEN_LAST: the slot's most recent step did not sample");
      }
    } else if (!at.Within("token", slot.token, 0, int64_t(c.limits.vocab) - 1)) {
      return false;
    }
  }
  if (Samples(slot) && !CheckSampling(at, slot)) return false;
  if (!CheckAdjustment(c, at, slot)) return false;
  return CheckGroups(c, at, index, slot);
}

bool CheckSlots(const CheckContext& c) {
  uint32_t num_decode = 0, num_prefill = 0;
  uint64_t num_groups = 0;
  for (uint32_t i = 0; i < c.limits.slots; ++i) {
    const kvrm_slot& slot = c.view.slots[i];
    const Where at{c.refusal, "slots", i};
    if (slot.flags == 0) {
      if (!CheckIdle(at, slot)) return false;
      continue;
    }
    if (!CheckActive(c, at, i, slot)) return false;
    num_decode += (slot.flags & KVRM_SLOT_DECODE) != 0;
    num_prefill += (slot.flags & KVRM_SLOT_PREFILL) != 0;
    num_groups += slot.group_count;
  }
  const Where at{c.refusal, "header", -1};
  const kvrm_header& header = *c.view.header;
  return at.Exactly("num_decode", header.num_decode, num_decode, "the slots that decode") &&
         at.Exactly("num_segments", header.num_segments, num_prefill, "the slots that prefill") &&
         at.Exactly("num_groups", header.num_groups, num_groups, "the groups of all slots");
}

bool CheckSegments(const CheckContext& c) {
  const kvrm_header& header = *c.view.header;
  uint32_t next = 0;  // the first row that no segment has taken yet
  for (uint32_t i = 0; i < header.num_segments; ++i) {
    const kvrm_segment& segment = c.view.segments[i];
    const Where at{c.refusal, "segments", i};
    if (!at.AtMost("slot", segment.slot, c.limits.slots - 1)) return false;
    const kvrm_slot& slot = c.view.slots[segment.slot];
    if ((slot.flags & KVRM_SLOT_PREFILL) == 0) return at.Refuse("slot", segment.slot, "a slot with PREFILL");
    if (c.scratch.slot_stamp[segment.slot] == c.scratch.stamp) {
      return at.Refuse("slot", segment.slot, "a slot without another segment");
    }
    c.scratch.slot_stamp[segment.slot] = c.scratch.stamp;
    if (!at.Exactly("token_first", segment.token_first, next, "the end of the segment before it") ||
        !at.Within("count", segment.count, 1, int64_t(header.num_tokens) - next, "the rows that are left") ||
        !at.Exactly("position", segment.position, slot.position, "its slot's position") ||
        !at.AtMost("padding", segment.padding, segment.count - 1, "count - 1") ||
        !at.Exactly("count", segment.count, uint64_t{slot.kv_len} - slot.position + segment.padding,
                    "its slot's kv_len - position + padding") ||
        !at.AtMost("flags", segment.flags, KVRM_SEGMENT_PROMPT_LOGPROBS) ||
        !at.AtMost("top_logprobs", segment.top_logprobs, KVRM_MAX_TOP_LOGPROBS) ||
        !at.Exactly("reserved1", segment.reserved1, 0) ||
        (segment.padding != 0 && !CheckPadding(c, at, segment, slot))) {
      return false;
    }
    const int64_t last_id = int64_t(c.limits.vocab) - 1;
    for (uint32_t t = next; t < next + segment.count; ++t) {
      if (!Where{c.refusal, "tokens", t}.Within("id", c.view.tokens[t], 0, last_id)) return false;
      if ((segment.flags & KVRM_SEGMENT_PROMPT_LOGPROBS) &&
          !Where{c.refusal, "targets", t}.Within("id", c.view.targets[t], -1, last_id)) {
        return false;
      }
    }
    next += segment.count;
  }
  return Where{c.refusal, "header", -1}.Exactly("num_tokens", header.num_tokens, next, "the rows of all segments");
}

}  // namespace

DescriptorLimits LimitsOf(const kvrm_engine_config& config, uint32_t vocab, uint32_t widest_window) {
  DescriptorLimits limits;
  limits.slots = config.slots;
  limits.block_tokens = config.block_tokens;
  limits.num_blocks = config.num_blocks;
  limits.max_context = config.max_context;
  limits.max_groups = config.max_groups;
  limits.max_segments = config.max_segments;
  limits.max_moves = config.max_moves;
  limits.max_edits = config.max_edits;
  limits.mask_rows = config.mask_rows;
  limits.host_blocks = config.host_blocks;
  limits.max_summaries = config.max_summaries;
  limits.far_rows = config.far_rows;
  limits.vocab = vocab;
  limits.widest_window = widest_window;
  limits.shapes = 1 + config.num_chunks;
  for (uint32_t i = 0; i < config.num_chunks; ++i) limits.chunk[i + 1] = Chunks(config)[i];
  return limits;
}

ShadowState::ShadowState(const DescriptorLimits& limits)
    : sampled(limits.slots),
      biases(limits.slots),
      biased(limits.max_edits == 0 ? 0 : limits.slots * ((size_t{limits.vocab} + 63) / 64)),
      rows(limits.max_summaries == 0 ? 0 : limits.slots) {}

CheckScratch::CheckScratch(const DescriptorLimits& limits)
    : slot_stamp(limits.slots),
      block_stamp(limits.num_blocks),
      destinations(limits.max_moves),
      token_stamp(limits.max_edits == 0 ? 0 : limits.vocab),
      rows(limits.max_summaries == 0 ? 0 : limits.slots) {}

bool CheckHeader(const DescriptorLimits& limits, const ShadowState& shadow, const kvrm_header& header,
                 Refusal* refusal) {
  const Where at{refusal, "header", -1};
  if (!at.Exactly("magic", header.magic, KVRM_DESCRIPTOR_MAGIC) ||
      !at.Exactly("abi_version", header.abi_version, KVRM_ABI_VERSION) ||
      !at.Exactly("step", header.step, uint32_t(shadow.last_step + 1), "the step after the last") ||
      !at.AtMost("shape", header.shape, limits.shapes - 1) || !at.Exactly("flags", header.flags, 0) ||
      !at.AtMost("num_decode", header.num_decode, limits.slots) ||
      !at.AtMost("num_segments", header.num_segments, limits.max_segments, "max_segments") ||
      !at.AtMost("num_tokens", header.num_tokens, limits.chunk[header.shape], "the chunk of the shape") ||
      !at.AtMost("num_groups", header.num_groups, limits.max_groups, "max_groups") ||
      !at.AtMost("num_moves", header.num_moves, limits.max_moves, "max_moves") ||
      !at.AtMost("num_edits", header.num_edits, limits.max_edits, "max_edits") ||
      !at.AtMost("num_masks", header.num_masks, limits.mask_rows, "mask_rows") ||
      !at.AtMost("num_summaries", header.num_summaries, limits.max_summaries, "max_summaries")) {
    return false;
  }
  if (header.padded_window != 0 && !at.Exactly("num_segments", header.num_segments, 0, "with padded_window"))
    return false;
  return at.AtMost("padded_window", header.padded_window, limits.max_context, "max_context") &&
         at.Exactly("reserved2", header.reserved2, 0) && at.Exactly("reserved3", header.reserved3, 0);
}

bool CheckSections(const DescriptorLimits& limits, const ShadowState& shadow, const DescriptorView& view,
                   CheckScratch& scratch, Refusal* refusal) {
  if (++scratch.stamp == 0) {  // after 2^32 checks the marks of old ones would look fresh
    std::fill(scratch.block_stamp.begin(), scratch.block_stamp.end(), 0);
    std::fill(scratch.slot_stamp.begin(), scratch.slot_stamp.end(), 0);
    scratch.stamp = 1;
  }
  const CheckContext context{limits, shadow, view, scratch, refusal};
  return CheckSummaries(context) && CheckSlots(context) && CheckSegments(context) && CheckMoves(context) &&
         CheckEdits(context);
}

void ApplyToShadow(const DescriptorLimits& limits, const DescriptorView& view, ShadowState& shadow) {
  shadow.last_step = view.header->step;
  for (uint32_t i = 0; i < limits.slots; ++i) {
    if (view.slots[i].flags != 0) shadow.sampled[i] = Samples(view.slots[i]);
  }
  const size_t words = shadow.BiasedWords();
  for (uint32_t i = 0; i < view.header->num_edits; ++i) {
    const kvrm_edit& edit = view.edits[i];
    const uint32_t slot = edit.slot_kind & 0xffff, kind = edit.slot_kind >> 16;
    uint64_t* biased = &shadow.biased[slot * words];
    if (kind == KVRM_EDIT_CLEAR && shadow.biases[slot] != 0) {
      std::fill_n(biased, words, 0);
      shadow.biases[slot] = 0;
    } else if (kind == KVRM_EDIT_BIAS) {
      biased[edit.token / 64] |= uint64_t{1} << edit.token % 64;
      ++shadow.biases[slot];
    }
  }
  for (uint32_t i = 0; i < view.header->num_summaries; ++i) {
    uint32_t& rows = shadow.rows[view.summaries[i].slot_kind & 0xffff];
    rows = RowsAfter(view.summaries[i], rows);
  }
}

void DescribeRefusal(const Refusal& r, char* out, size_t capacity) {
  char place[64];
  if (r.index < 0) {
    std::snprintf(place, sizeof(place), "%s.%s", r.section, r.field);
  } else {
    std::snprintf(place, sizeof(place), "%s[%lld].%s", r.section, static_cast<long long>(r.index), r.field);
  }
  char wanted[96];
  switch (r.want) {
    case Refusal::kExactly:
      std::snprintf(wanted, sizeof(wanted), "%.10g", r.a);
      break;
    case Refusal::kAtMost:
      std::snprintf(wanted, sizeof(wanted), "at most %.10g", r.a);
      break;
    case Refusal::kWithin:
      std::snprintf(wanted, sizeof(wanted), "within %.10g..%.10g", r.a, r.b);
      break;
    case Refusal::kPlain:
      std::snprintf(out, capacity, "%s is %.10g, wanted %s", place, r.found, r.why);
      return;
  }
  if (r.why) {
    std::snprintf(out, capacity, "%s is %.10g, wanted %s (%s)", place, r.found, wanted, r.why);
  } else {
    std::snprintf(out, capacity, "%s is %.10g, wanted %s", place, r.found, wanted);
  }
}

}  // namespace kvrm
