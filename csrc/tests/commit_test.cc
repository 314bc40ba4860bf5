// Each rule of a descriptor: what kvrm_commit refuses, how it says it, and that nothing has changed.
#include <algorithm>

#include "test_engine.h"

namespace kvrm::test {
namespace {

const TestModel& Model() {
  static const TestModel model{ModelShape()};
  return model;
}

const std::vector<uint32_t> kLow = Contiguous(0, 8), kHigh = Contiguous(40, 8);

// A step that passes: slot 0 decodes at 20, slot 2 prefills 5 tokens at 30, one move.
void Fill(TestEngine& engine) {
  engine.Begin(1);
  engine.Decode(0, 5, 20, kLow);
  engine.Prefill(2, {1, 2, 3, 4, 5}, 30, kHigh, true);
  engine.Move(60, 70, 2);
}

// Expects that the step is refused with text after change(), and accepted without it.
template <typename Change>
void Refused(TestEngine& engine, const char* text, Change change) {
  Fill(engine);
  change(engine);
  CHECK_REFUSED(engine.TryCommit(), KVRM_INVALID_DESCRIPTOR, text);
  Fill(engine);
  engine.Step();
}

TEST(TheHeaderIsChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "header.magic is 1, wanted 1297241675", [](auto& e) { e.header().magic = 1; });
  Refused(e, "header.abi_version is 9, wanted 5", [](auto& e) { e.header().abi_version = 9; });
  Refused(e, "commit step 3: header.step is 2, wanted 3", [](auto& e) { e.header().step -= 1; });
  Refused(e, "header.shape is 3, wanted at most 2", [](auto& e) { e.header().shape = 3; });
  Refused(e, "header.flags is 1", [](auto& e) { e.header().flags = 1; });
  Refused(e, "header.reserved3 is 8, wanted 0", [](auto& e) { e.header().reserved3 = 8; });
  Refused(e, "header.num_decode is 2, wanted 1", [](auto& e) { e.header().num_decode = 2; });
  Refused(e, "header.num_groups is 3, wanted 2", [](auto& e) { e.header().num_groups = 3; });
  Refused(e, "header.num_groups is 201, wanted at most 200", [](auto& e) { e.header().num_groups = 201; });
  Refused(e, "header.num_segments is 0, wanted 1", [](auto& e) { e.header().num_segments = 0; });
  Refused(e, "header.num_tokens is 6, wanted 5", [](auto& e) { e.header().num_tokens = 6; });
  Refused(e, "header.num_tokens is 5, wanted at most 0", [](auto& e) { e.header().shape = 0; });
  Refused(e, "header.num_moves is 17, wanted at most 16", [](auto& e) { e.header().num_moves = 17; });
  Refused(e, "header.num_edits is 161, wanted at most 160", [](auto& e) { e.header().num_edits = 161; });
  Refused(e, "header.num_masks is 5, wanted at most 4", [](auto& e) { e.header().num_masks = 5; });
}

TEST(SlotsAreChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "slots[3].flags is 0, wanted all other fields 0", [](auto& e) { e.slot(3).top_k = 4; });
  Refused(e, "slots[0].flags is 3", [](auto& e) { e.slot(0).flags = 3; });
  Refused(e, "slots[0].token is -1, wanted within 0..100", [](auto& e) { e.slot(0).token = -1; });
  Refused(e, "slots[0].token is 101, wanted within 0..100", [](auto& e) { e.slot(0).token = 101; });
  Refused(e, "slots[0].kv_len is 769, wanted within 1..768 (max_context)", [](auto& e) { e.slot(0).kv_len = 769; });
  Refused(e, "slots[0].kv_len is 22, wanted 21", [](auto& e) { e.slot(0).kv_len = 22; });
  Refused(e, "slots[0].position is 4294967295", [](auto& e) { e.slot(0).position = 0xffffffff; });
  Refused(e, "slots[0].write_offset is 5, wanted 4", [](auto& e) { e.slot(0).write_offset = 5; });
  Refused(e, "slots[0].write_block is 2, wanted 1 (where its groups", [](auto& e) { e.slot(0).write_block = 2; });
  Refused(e, "slots[0].group_first is 9, wanted at most 2", [](auto& e) { e.slot(0).group_first = 9; });
  Refused(e, "slots[0].group_count is 3, wanted within 1..2", [](auto& e) { e.slot(0).group_count = 3; });
  Refused(e, "slots[2].group_count is 0", [](auto& e) { e.slot(2).group_count = 0; });
}

TEST(SamplingIsChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "slots[0].temperature is -1, wanted a finite", [](auto& e) { e.slot(0).temperature = -1; });
  Refused(e, "slots[0].temperature is nan", [](auto& e) { e.slot(0).temperature = NAN; });
  Refused(e, "slots[2].temperature is inf", [](auto& e) { e.slot(2).temperature = INFINITY; });
  Refused(e, "slots[0].top_p is 0, wanted more than 0", [](auto& e) { e.slot(0).top_p = 0; });
  Refused(e, "slots[0].top_p is", [](auto& e) { e.slot(0).top_p = 1.01f; });
  Refused(e, "slots[0].min_p is nan", [](auto& e) { e.slot(0).min_p = NAN; });
  Refused(e, "slots[0].logprobs is 22, wanted at most 21", [](auto& e) { e.slot(0).logprobs = 22; });
  Refused(e, "slots[0].top_n_sigma is -1, wanted a finite number", [](auto& e) { e.slot(0).top_n_sigma = -1; });
  Refused(e, "slots[2].top_n_sigma is inf", [](auto& e) { e.slot(2).top_n_sigma = INFINITY; });
  Refused(e, "slots[0].typical_p is 1.5, wanted within 0..1", [](auto& e) { e.slot(0).typical_p = 1.5f; });
  Refused(e, "slots[0].xtc_probability is nan", [](auto& e) { e.slot(0).xtc_probability = NAN; });
  Refused(e, "slots[0].xtc_threshold is -1, wanted within 0..1", [](auto& e) { e.slot(0).xtc_threshold = -1; });
  Refused(e, "slots[0].dynatemp_range is nan", [](auto& e) { e.slot(0).dynatemp_range = NAN; });
  Refused(e, "slots[0].dynatemp_exponent is inf", [](auto& e) { e.slot(0).dynatemp_exponent = INFINITY; });
  Refused(e, "slots[0].mirostat is 3, wanted at most 2", [](auto& e) { e.slot(0).mirostat = 3; });
  Refused(e, "slots[0].mirostat_mu is 1, wanted 0 without mirostat", [](auto& e) { e.slot(0).mirostat_mu = 1; });
  Refused(e, "slots[0].mirostat_mu is nan", [](auto& e) { e.slot(0).mirostat = 2, e.slot(0).mirostat_mu = NAN; });
  Refused(e, "slots[1].flags is 0, wanted all other fields 0", [](auto& e) { e.slot(1).dynatemp_range = 1; });
  // A row that does not sample needs no parameters.
  e.Begin(1);
  e.Prefill(2, {1}, 0, kHigh, false);
  e.slot(2).temperature = NAN;
  e.Step();
  // From the vocabulary's size on top_k filters nothing.
  e.Begin();
  e.Decode(2, 1, 1, kHigh, 0, {1.0f, 0xffffffff, 1, 0, 1, 0});
  e.Step();
}

TEST(GroupsAreChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "groups[0].slot_kind is 1, wanted 0", [](auto& e) { e.group(0).slot_kind = 1; });
  Refused(e, "groups[1].slot_kind is 65538, wanted 2", [](auto& e) { e.group(1).slot_kind |= 1 << 16; });
  Refused(e, "groups[0].logical_start is 1, wanted at most 0", [](auto& e) { e.group(0).logical_start = 1; });
  Refused(e, "groups[0].count is 0, wanted within 1..48", [](auto& e) { e.group(0).count = 0; });
  Refused(e, "groups[0].count is 49", [](auto& e) { e.group(0).count = 49; });
  Refused(e, "groups[0].physical_start is 95, wanted at most 94", [](auto& e) { e.group(0).physical_start = 95; });
  Refused(e, "groups[0].physical_start is 4294967295", [](auto& e) { e.group(0).physical_start = 0xffffffff; });
  Refused(e, "slots[0].group_count is 1, wanted 2 (logical blocks up to", [](auto& e) { e.group(0).count = 1; });

  std::vector<uint32_t> blocks = {3, 9};
  e.Begin();
  e.Decode(0, 5, 20, blocks);
  e.group(1).logical_start = 2;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "groups[1].logical_start is 2, wanted 1 (the end of the group");
  // Groups may reach beyond kv_len.
  Fill(e);
  e.group(0).count = 30;
  e.Step();
}

TEST(NoBlockIsWrittenTwice) {
  TestEngine e(Model(), EngineConfig());
  e.Begin();
  e.Decode(0, 5, 20, {3, 4});
  e.Decode(1, 5, 22, {7, 4});
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "slots[1].write_block is 4, wanted a block that nothing else");
  e.Begin();
  e.Decode(0, 5, 20, {3, 4});
  e.Decode(1, 5, 22, {3, 5});  // reading the same block is sharing
  e.Step();
  e.Begin(1);
  e.Prefill(1, RandomTokens(32, 101, 1), 0, {3, 3}, false);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "slots[1].write_block is 3");
}

TEST(SegmentsAreChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "segments[0].slot is 4, wanted at most 3", [](auto& e) { e.segment(0).slot = 4; });
  Refused(e, "segments[0].slot is 0, wanted a slot with PREFILL", [](auto& e) { e.segment(0).slot = 0; });
  Refused(e, "segments[0].token_first is 1, wanted 0", [](auto& e) { e.segment(0).token_first = 1; });
  Refused(e, "segments[0].count is 6, wanted within 1..5", [](auto& e) { e.segment(0).count = 6; });
  Refused(e, "segments[0].count is 4, wanted 5", [](auto& e) { e.segment(0).count = 4; });
  Refused(e, "segments[0].position is 31, wanted 30", [](auto& e) { e.segment(0).position = 31; });
  Refused(e, "segments[0].flags is 2, wanted at most 1", [](auto& e) { e.segment(0).flags = 2; });
  Refused(e, "segments[0].top_logprobs is 21", [](auto& e) { e.segment(0).top_logprobs = 21; });
  Refused(e, "segments[0].padding is 5, wanted at most 4", [](auto& e) { e.segment(0).padding = 5; });
  Refused(e, "segments[0].count is 5, wanted 6", [](auto& e) { e.segment(0).padding = 1; });
  Refused(e, "segments[0].reserved1 is 1", [](auto& e) { e.segment(0).reserved1 = 1; });
  Refused(e, "tokens[4].id is 101, wanted within 0..100", [](auto& e) { e.tokens()[4] = 101; });
  Refused(e, "targets[3].id is -2, wanted within -1..100", [](auto& e) {
    e.segment(0).flags = 1;
    e.targets()[3] = -2;
  });
  // Two segments of one slot; a prefilling slot without a segment.
  e.Begin(1);
  e.Prefill(1, {1, 2}, 0, kLow, false);
  e.Prefill(2, {1, 2}, 0, kHigh, false);
  e.segment(1).slot = 1;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "segments[1].slot is 1, wanted a slot without another");
}

// Slot 2 prefills 5 tokens at 30, with padding.
void FillPadded(TestEngine& engine, uint32_t padding, const std::vector<uint32_t>& blocks = kHigh) {
  engine.Begin(1);
  engine.Decode(0, 5, 20, kLow);
  engine.Prefill(2, {1, 2, 3, 4, 5}, 30, blocks, true, 0, {}, 0, padding);
}

TEST(PaddingOfASegmentIsChecked) {
  TestEngine e(Model(), EngineConfig());
  FillPadded(e, 27);
  e.Step();
  CHECK_EQ(e.result().rows, 33u);  // the padding counts: it was computed
  // Into the block of another slot; one block too few; beyond the context.
  FillPadded(e, 14, {40, 41, 42, 1});
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "slots[2].write_block is 1, wanted a block that nothing else");
  FillPadded(e, 14);
  e.group(1).count -= 1;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "segments[0].padding is 14, wanted at most 13 (what its slot");
  e.Begin(2);
  e.Prefill(2, TokenRange(0, 20), 700, Contiguous(40, 48), false, 0, {}, 0, 48);
  ++e.segment(0).padding;
  ++e.segment(0).count;
  ++e.header().num_tokens;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "segments[0].padding is 49, wanted at most 48 (max_context");
}

TEST(APaddedWindowIsChecked) {
  TestEngine e(Model(), EngineConfig());
  const auto fill = [&] {
    e.Begin();
    e.PadWindow(64);
    e.Decode(0, 5, 20, kLow);
    e.Decode(2, 5, 63, kHigh);
  };
  fill();
  e.Step();
  fill();
  e.header().padded_window = 63;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "slots[2].kv_len is 64, wanted at most 63 (padded_window");
  fill();
  e.header().padded_window = 65;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR,
                "slots[0].group_count is 4, wanted 5 (logical blocks up to the one of padded_window - 1");
  fill();
  e.header().padded_window = 769;
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "header.padded_window is 769, wanted at most 768");
  Refused(e, "header.num_segments is 1, wanted 0 (with padded_window", [](auto& e) { e.header().padded_window = 64; });
}

TEST(MovesAreChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "moves[0].tiers is 65537, wanted 0, HOST", [](auto& e) { e.move(0).tiers = 0x10001; });
  Refused(e, "moves[0].count is 0, wanted within 1..96", [](auto& e) { e.move(0).count = 0; });
  Refused(e, "moves[0].from is 95, wanted at most 94", [](auto& e) { e.move(0).from = 95; });
  Refused(e, "moves[0].to is 4294967295, wanted at most 94", [](auto& e) { e.move(0).to = 0xffffffff; });
  Refused(e, "moves[0].from is 60, wanted blocks that are no move's destination", [](auto& e) { e.move(0).to = 61; });
  Refused(e, "moves.to is 71", [](auto& e) { e.Move(0, 71, 1); });
  Refused(e, "moves[1].from is 68, wanted blocks", [](auto& e) { e.Move(68, 80, 3); });
}

TEST(MovesBetweenTiersAreChecked) {
  TestEngine e(Model(), EngineConfig());
  const uint32_t out = KVRM_TIER_HOST << 16, in = KVRM_TIER_HOST;
  Refused(e, "moves[0].tiers is 2, wanted 0, HOST", [](auto& e) { e.move(0).tiers = 2; });
  Refused(e, "moves[0].to is 15, wanted at most 14 (host_blocks", [&](auto& e) { e.move(0) = {out, 60, 15, 2}; });
  Refused(e, "moves[0].from is 15, wanted at most 14 (host_blocks", [&](auto& e) { e.move(0) = {in, 15, 60, 2}; });
  Refused(e, "moves[0].count is 17, wanted within 1..16", [&](auto& e) { e.move(0) = {in, 0, 60, 17}; });
  Refused(e, "moves[0].from is 95, wanted at most 94 (num_blocks", [&](auto& e) { e.move(0) = {out, 95, 0, 2}; });
  // Within the host tier the same rules hold; the same numbers in the other tier are other blocks.
  Refused(e, "moves.to is", [&](auto& e) {
    e.move(0) = {out, 60, 3, 2};
    e.Move(80, 4, 1, KVRM_TIER_POOL, KVRM_TIER_HOST);
  });
  Refused(e, "moves[1].from is 4, wanted blocks that are no move's destination", [&](auto& e) {
    e.move(0) = {out, 60, 3, 2};
    e.Move(4, 70, 1, KVRM_TIER_HOST, KVRM_TIER_POOL);
  });
  Fill(e);
  e.move(0) = {out, 60, 3, 2};
  e.Move(5, 61 + 9, 1, KVRM_TIER_HOST, KVRM_TIER_POOL);
  e.Move(3, 80, 2);
  e.Step();
  // Without a host tier there is nothing to move to.
  kvrm_engine_config config = EngineConfig();
  config.host_blocks = 0;
  TestEngine poor(Model(), config);
  Refused(poor, "moves[0].count is 1, wanted within 1..0 (host_blocks)", [&](auto& e) { e.move(0) = {out, 60, 0, 1}; });
}

TEST(PenaltiesAreChecked) {
  TestEngine e(Model(), EngineConfig());
  auto adjusted = [](float repetition, float presence, float frequency) {
    return [=](TestEngine& e) {
      e.slot(0).flags |= KVRM_SLOT_ADJUST;
      e.slot(0).repetition_penalty = repetition;
      e.slot(0).presence_penalty = presence;
      e.slot(0).frequency_penalty = frequency;
    };
  };
  Refused(e, "slots[0].repetition_penalty is 0, wanted a finite number of more than 0", adjusted(0, 0, 0));
  Refused(e, "slots[0].repetition_penalty is nan", adjusted(NAN, 0, 0));
  Refused(e, "slots[0].repetition_penalty is inf", adjusted(INFINITY, 0, 0));
  Refused(e, "slots[0].presence_penalty is nan, wanted a finite", adjusted(1, NAN, 0));
  Refused(e, "slots[0].frequency_penalty is -inf, wanted a finite", adjusted(1, 0, -INFINITY));
  Refused(e, "slots[0].flags is 1, wanted ADJUST", [](auto& e) { e.slot(0).repetition_penalty = 1; });
  Refused(e, "slots[0].flags is 1, wanted ADJUST", [](auto& e) { e.slot(0).presence_penalty = NAN; });
  Refused(e, "slots[2].flags is 18, wanted no ADJUST: the slot does not sample",
          [](auto& e) { e.slot(2).flags = KVRM_SLOT_PREFILL | KVRM_SLOT_ADJUST; });
  Refused(e, "slots[3].flags is 16, wanted 0, DECODE", [](auto& e) { e.slot(3).flags = KVRM_SLOT_ADJUST; });
  Refused(e, "slots[3].flags is 0, wanted all other fields 0", [](auto& e) { e.slot(3).frequency_penalty = 1; });
  Fill(e);
  adjusted(0.5f, -2, 2)(e);
  e.Step();
  kvrm_engine_config config = EngineConfig();
  config.max_edits = 0;
  TestEngine plain(Model(), config);
  Refused(plain, "slots[0].flags is 17, wanted no ADJUST: the engine has no edits", adjusted(1, 0, 0));
}

TEST(MasksAreChecked) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "slots[0].mask is 1, wanted at most 0 (num_masks)", [](auto& e) { e.slot(0).mask = 1; });
  Refused(e, "slots[2].mask is 3, wanted at most 2", [](auto& e) {
    e.Mask({1});
    e.Mask({2});
    e.slot(2).mask = 3;
  });
  Refused(e, "slots[2].mask is 1, wanted 0, since the slot does not sample", [](auto& e) {
    e.Mask({1});
    e.slot(2).flags = KVRM_SLOT_PREFILL;
    e.slot(2).mask = 1;
  });
  Refused(e, "slots[3].flags is 0, wanted all other fields 0", [](auto& e) { e.slot(3).mask = 1; });
  Fill(e);
  e.slot(0).mask = e.slot(2).mask = e.Mask({1});
  std::fill_n(e.mask(1), e.info.mask_words, 0xffffffffu);  // of no row in use
  e.Step();
  CHECK_EQ(e.sampled(0).token, 1);
  CHECK_EQ(e.sampled(2).token, 1);
}

TEST(EditsAreChecked) {
  TestEngine e(Model(), EngineConfig());
  auto one = [](uint32_t slot, uint32_t kind, int32_t token, uint32_t value) {
    return [=](TestEngine& e) { e.Edit(slot, kind, token, value); };
  };
  Refused(e, "edits[0].slot_kind is 4, wanted within 0..3", one(4, KVRM_EDIT_PROMPT, 1, 0));
  Refused(e, "edits[0].slot_kind is 262145, wanted slot | kind << 16 with a kind of at most 3", one(1, 4, 0, 0));
  Refused(e, "edits[0].token is 1, wanted 0", one(1, KVRM_EDIT_CLEAR, 1, 0));
  Refused(e, "edits[0].value is 2, wanted at most 1", one(1, KVRM_EDIT_CLEAR, 0, 2));
  Refused(e, "edits[0].value is 7, wanted 0", one(1, KVRM_EDIT_PROMPT, 1, 7));
  Refused(e, "edits[0].token is -1, wanted within 0..100", one(1, KVRM_EDIT_PROMPT, -1, 0));
  Refused(e, "edits[0].token is 101, wanted within 0..100", one(1, KVRM_EDIT_COUNT, 101, 1));
  Refused(e, "edits[0].value is 0, wanted within 1..32767", one(1, KVRM_EDIT_COUNT, 1, 0));
  Refused(e, "edits[0].value is 32768, wanted within 1..32767", one(1, KVRM_EDIT_COUNT, 1, 32768));
  Refused(e, "edits[0].value is nan, wanted the bits of a finite number or of", one(1, KVRM_EDIT_BIAS, 1, 0x7fc00000));
  Refused(e, "edits[0].value is inf", one(1, KVRM_EDIT_BIAS, 1, 0x7f800000));
  Refused(e, "edits[0].reserved0 is 5", [](auto& e) {
    e.Edit(1, KVRM_EDIT_PROMPT, 1);
    e.edit(0).reserved0 = 5;
  });
  Refused(e, "edits[1].slot_kind is 0, wanted within 1..3 (the slot; edits are sorted by it)", [](auto& e) {
    e.Edit(1, KVRM_EDIT_PROMPT, 1);
    e.Edit(0, KVRM_EDIT_PROMPT, 1);
  });
  Refused(e, "edits[2].slot_kind is 1, wanted no CLEAR after other edits", [](auto& e) {
    e.Edit(0, KVRM_EDIT_PROMPT, 1);
    e.Edit(1, KVRM_EDIT_PROMPT, 1);
    e.Edit(1, KVRM_EDIT_CLEAR);
  });
}

TEST(ATokenIsBiasedOnceBetweenTwoClears) {
  TestEngine e(Model(), EngineConfig());
  Refused(e, "edits[1].token is 8, wanted a token that its slot does not bias yet", [](auto& e) {
    e.Bias(1, 8, 1);
    e.Bias(1, 8, 2);
  });
  Fill(e);
  e.Bias(0, 8, 1);
  e.Bias(1, 8, 1);  // of another slot
  e.Step();
  Refused(e, "edits[0].token is 8, wanted a token that its slot does not bias yet", [](auto& e) { e.Bias(1, 8, 3); });
  Fill(e);
  e.Edit(1, KVRM_EDIT_CLEAR);
  e.Bias(1, 8, 3);
  e.Step();
  Refused(e, "edits[0].token is 8", [](auto& e) { e.Bias(0, 8, 3); });  // the other slot's is still there
}

TEST(BiasesOfASlotAreCounted) {
  ModelShape shape;
  shape.vocab = 1500;
  const TestModel model(shape);
  kvrm_engine_config config = EngineConfig();
  config.max_edits = 2000;
  TestEngine e(model, config);
  auto bias = [&e](int32_t first, int32_t count) {
    e.Begin();
    for (int32_t i = 0; i < count; ++i) e.Bias(2, first + i, 1);
  };
  bias(0, KVRM_MAX_BIASES + 1);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "edits[1024].slot_kind is 196610, wanted at most 1024 biases");
  bias(0, 1000);
  e.Step();
  bias(1000, 25);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "edits[24].slot_kind");
  bias(1000, 24);
  e.Step();
  bias(1024, 1);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "edits[0].slot_kind");
  e.Begin();
  e.Edit(2, KVRM_EDIT_CLEAR);
  for (int32_t i = 0; i < int32_t(KVRM_MAX_BIASES); ++i) e.Bias(2, i, 1);
  e.Step();
}

TEST(TokenLastNeedsASample) {
  TestEngine e(Model(), EngineConfig());
  e.Begin(1);
  e.Prefill(1, {1, 2}, 0, kLow, false);
  e.Step();
  e.Begin();
  e.Decode(1, -1, 2, kLow);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "did not sample");
  e.Begin();
  e.Decode(1, 7, 2, kLow);
  e.Commit();  // in flight: the shadow of what will have happened counts
  e.Begin();
  e.Decode(1, -1, 3, kLow);
  e.Commit();
  e.Begin();  // an idle step keeps the sample
  e.Commit();
  for (int i = 0; i < 3; ++i) e.Wait();
  e.Begin();
  e.Decode(1, -1, 4, kLow);
  e.Step();
}

TEST(TheSizeIsChecked) {
  TestEngine e(Model(), EngineConfig());
  Fill(e);
  CHECK_REFUSED(kvrm_commit(e.handle, e.bytes(), e.info.descriptor_bytes - 1), KVRM_INVALID_ARGUMENT,
                "wanted " + std::to_string(e.info.descriptor_bytes));
  CHECK_REFUSED(kvrm_wait(e.handle, 0, e.result_bytes(), e.info.result_bytes - 1), KVRM_INVALID_ARGUMENT,
                "result buffer");
}

// Unused tails are nobody's business.
TEST(UnusedTailsAreIgnored) {
  TestEngine e(Model(), EngineConfig());
  Fill(e);
  std::fill_n(&e.tokens()[5], 100, -7);
  e.group(2) = {77, 1u << 31, 1u << 31, 0};
  e.move(1) = {1, 2, 3, 0};
  e.edit(0) = {~0u, -9, 7, 7};
  e.segment(1).slot = 1u << 31;
  e.Step();
}

}  // namespace
}  // namespace kvrm::test
