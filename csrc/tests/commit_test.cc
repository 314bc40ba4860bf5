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
  Refused(e, "header.abi_version is 9, wanted 2", [](auto& e) { e.header().abi_version = 9; });
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
  e.segment(1).slot = 1u << 31;
  e.Step();
}

}  // namespace
}  // namespace kvrm::test
