// Far history through the ABI, on the CPU (a GPU's library refuses it): rows of single tokens are the exact tokens,
// merging is recomputing, the order within a step, what is refused.
#include "test_engine.h"

namespace kvrm::test {
namespace {

const TestModel& Model() {
  static const TestModel model{ModelShape()};
  return model;
}

kvrm_engine_config Config(uint32_t rows = 8) {
  kvrm_engine_config config = EngineConfig();
  config.max_summaries = 300;
  config.far_rows = rows;
  return config;
}

const std::vector<uint32_t> kBlocks = Contiguous(24, 24);

// Tokens [0, count) of the request, exactly, by slot `index` into blocks.
void Prefill(TestEngine& engine, uint32_t count, uint32_t index = 0, const std::vector<uint32_t>& blocks = kBlocks) {
  const std::vector<int32_t> prompt = RandomTokens(count, 101, 17);
  for (uint32_t at = 0; at < count; at += 100) {
    const uint32_t end = std::min(count, at + 100);
    engine.Begin(2);
    engine.Prefill(index, {prompt.begin() + at, prompt.begin() + end}, at, blocks, end == count);
    engine.Step();
  }
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double(a[i]) - b[i]));
  return most;
}

// A split of 256 tokens, each of them a row of its own, in place of the split: no bit differs, in this step or in
// any after it.
TEST(RowsOfSingleTokensGiveTheExactBits) {
  if (OnGpu()) return;
  TestEngine exact(Model(), EngineConfig()), far(Model(), Config(256));
  for (TestEngine* engine : {&exact, &far}) Prefill(*engine, 300);
  for (uint32_t position = 300; position < 310; ++position) {
    exact.Begin();
    exact.Decode(0, -1, position, kBlocks);
    exact.Step();
    far.Begin();
    if (position == 300) {
      far.ClearSummaries(0);
      for (uint32_t t = 0; t < 256; ++t) far.SummariseBlock(0, t, kBlocks[t / 16], t % 16, 1);
    }
    far.Decode(0, -1, position, kBlocks);
    far.Far(0, 0, 16, 256);
    CHECK_EQ(far.slot(0).group_count, 2u);
    far.Step();
    CHECK(far.Logits(0) == exact.Logits(0));
  }
  double counters[KVRM_COUNTER_COUNT];
  CHECK_OK(kvrm_counters(far.handle, counters, KVRM_COUNTER_COUNT));
  CHECK_EQ(counters[KVRM_COUNT_SUMMARIES], 257.0);
}

// The same in a prefill chunk, between sinks and a near part.
TEST(AChunkSeesTheRowsThatADecodingRowSees) {
  if (OnGpu()) return;
  const std::vector<int32_t> more = RandomTokens(20, 101, 5);
  std::vector<std::vector<float>> wanted;
  for (const uint32_t chunk : {1u, 3u, 20u}) {
    TestEngine engine(Model(), Config());
    Prefill(engine, 300);
    engine.Begin();
    engine.ClearSummaries(0);
    for (uint32_t row = 0; row < 4; ++row) engine.SummariseBlock(0, row, kBlocks[2 + row], 0, 16);
    engine.Step();
    for (uint32_t at = 0; at < 20; at += chunk) {
      const uint32_t count = std::min(chunk, 20 - at);
      engine.Begin(1);
      engine.Prefill(0, {more.begin() + at, more.begin() + at + count}, 300 + at, kBlocks, at + count == 20);
      engine.Far(0, 2, 6, 4);
      engine.Step();
    }
    std::vector<float> logits = engine.Logits(0);
    if (!wanted.empty()) CHECK(logits == wanted[0]);
    wanted.push_back(logits);
  }
  // Without the rows it is another answer, and with all tokens too.
  for (const uint32_t gap : {0u, 1u}) {
    TestEngine engine(Model(), Config());
    Prefill(engine, 300);
    engine.Begin(1);
    engine.Prefill(0, more, 300, kBlocks, true);
    if (gap) engine.Far(0, 2, 6, 0);
    engine.Step();
    CHECK(engine.Logits(0) != wanted[0]);
    CHECK(Distance(engine.Logits(0), wanted[0]) < 5);
  }
}

TEST(ThreadsOtherSlotsAndPlacementGiveTheSameBits) {
  if (OnGpu()) return;
  std::vector<float> wanted;
  for (const uint32_t threads : {1u, 4u}) {
    for (const uint32_t others : {0u, 2u}) {
      kvrm_engine_config config = Config();
      config.threads = threads;
      TestEngine engine(Model(), config);
      std::vector<uint32_t> blocks = Contiguous(24, 24);
      if (others) std::reverse(blocks.begin(), blocks.end());
      Prefill(engine, 300, 2, blocks);
      if (others) Prefill(engine, 40, 3, Contiguous(60, 3));
      engine.Begin();
      for (const uint32_t slot : {2u, 3u}) engine.ClearSummaries(slot);
      if (others) engine.SummariseBlock(3, 0, 60, 0, 16);
      for (uint32_t row = 0; row < 8; ++row) {
        engine.SummariseBlock(2, row, blocks[1 + row], 0, 16);
        if (others) engine.SummariseBlock(3, 0, 61, row, 1);
      }
      engine.MergeSummaries(2, 0, 1);
      engine.SummariseBlock(2, 1, blocks[9], 0, 16);
      if (others) engine.Decode(3, 7, 40, Contiguous(60, 3));
      engine.Decode(2, 9, 300, blocks);
      engine.Far(2, 1, 10, 8);
      engine.Step();
      const std::vector<float> logits = engine.Logits(2);
      if (wanted.empty()) wanted = logits;
      CHECK(logits == wanted);
    }
  }
}

TEST(MergingIsRecomputing) {
  if (OnGpu()) return;
  std::vector<std::vector<float>> logits;
  for (const bool merged : {false, true}) {
    TestEngine engine(Model(), Config());
    Prefill(engine, 200);
    engine.Begin();
    engine.ClearSummaries(0);
    if (merged) {
      engine.SummariseBlock(0, 0, kBlocks[1], 0, 5);
      engine.SummariseBlock(0, 1, kBlocks[1], 5, 11);
      engine.MergeSummaries(0, 0, 1);
    } else {
      engine.SummariseBlock(0, 0, kBlocks[1], 0, 16);
    }
    engine.Decode(0, 3, 200, kBlocks);
    engine.Far(0, 1, 2, 1);
    engine.Step();
    logits.push_back(engine.Logits(0));
  }
  CHECK(Distance(logits[0], logits[1]) < 1e-4);
}

// Moves come before summaries, and summaries before what the step writes.
TEST(SummariesComeAfterMovesAndBeforeWrites) {
  if (OnGpu()) return;
  std::vector<std::vector<float>> logits;
  for (const bool moved : {false, true}) {
    TestEngine engine(Model(), Config());
    Prefill(engine, 200);
    Prefill(engine, 16, 1, {0, 1});
    engine.Begin(1);
    engine.ClearSummaries(0);
    if (moved) engine.Move(kBlocks[1], 0, 1);  // over what slot 1 has written there
    engine.SummariseBlock(0, 0, moved ? 0 : kBlocks[1], 0, 16);
    engine.Prefill(1, RandomTokens(16, 101, 3), 0, {kBlocks[1]}, false);  // into the block that was given up
    engine.Decode(0, 3, 200, kBlocks);
    engine.Far(0, 1, 2, 1);
    engine.Step();
    logits.push_back(engine.Logits(0));
  }
  CHECK(logits[0] == logits[1]);
}

// A step that is refused leaves the rows as they were.
TEST(SummariesAreChecked) {
  if (OnGpu()) return;
  TestEngine e(Model(), Config());
  auto fill = [&e] {
    e.Begin(1);
    e.ClearSummaries(0);
    for (uint32_t row = 0; row < 3; ++row) e.SummariseBlock(0, row, 40 + row, 0, 16);
    e.Decode(0, 5, 120, Contiguous(0, 8));
    e.Far(0, 1, 5, 3);
    e.Prefill(2, {1, 2, 3}, 60, Contiguous(50, 4), false);
  };
  auto refused = [&](const char* text, auto change) {
    fill();
    change();
    CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, text);
    fill();
    e.Step();
  };
  refused("header.num_summaries is 301, wanted at most 300", [&] { e.header().num_summaries = 301; });
  refused("summaries[1].slot_kind is 4, wanted at most 3 (the slot)", [&] { e.summary(1).slot_kind += 4; });
  refused("summaries[1].slot_kind is 196608, wanted slot | kind << 16 with a kind of at most 2",
          [&] { e.summary(1).slot_kind = 3 << 16; });
  refused("summaries[0].row is 1, wanted 0", [&] { e.summary(0).row = 1; });
  refused("summaries[0].source is 1, wanted 0", [&] { e.summary(0).source = 1; });
  refused("summaries[0].tokens is 1, wanted 0", [&] { e.summary(0).tokens = 1; });
  refused("summaries[2].row is 2, wanted at most 1 (the rows that the slot has)", [&] { e.summary(2).row = 2; });
  refused("summaries[1].source is 96, wanted at most 95", [&] { e.summary(1).source = 96; });
  refused("summaries[1].tokens is 0, wanted within 1..16", [&] { e.summary(1).tokens = 0; });
  refused("summaries[1].tokens is 16, wanted within 1..15", [&] { e.summary(1).tokens = 1 | 16 << 16; });
  refused("summaries[1].tokens is 16, wanted at most 15", [&] { e.summary(1).tokens = 16 | 1 << 16; });
  refused("summaries[4].row is 3, wanted within 0..2", [&] { e.MergeSummaries(0, 3, 1); });
  refused("summaries[4].source is 3, wanted within 0..2", [&] { e.MergeSummaries(0, 1, 3); });
  refused("summaries[4].source is 1, wanted another row", [&] { e.MergeSummaries(0, 1, 1); });
  refused("summaries[4].row is 0, wanted within 0..-1", [&] { e.MergeSummaries(1, 0, 1); });
  refused("summaries[5].row is 0, wanted within 0..-1", [&] {
    e.ClearSummaries(0);
    e.MergeSummaries(0, 0, 1);
  });
  e.Begin();
  for (uint32_t row = 0; row < 9; ++row) e.SummariseBlock(1, row, 0, 0, 1);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "summaries[8].row is 8, wanted within 0..7 (far_rows)");
}

TEST(GroupsOfFarHistoryAreChecked) {
  if (OnGpu()) return;
  TestEngine e(Model(), Config());
  e.Begin();
  e.ClearSummaries(0);
  for (uint32_t row = 0; row < 3; ++row) e.SummariseBlock(0, row, 40 + row, 0, 16);
  e.Step();
  auto fill = [&e] {  // groups: block 0; rows for 1 to 5; blocks 5 to 8
    e.Begin();
    e.Decode(0, 5, 120, Contiguous(0, 8));
    e.Far(0, 1, 5, 3);
  };
  auto refused = [&](const char* text, auto change) {
    fill();
    change();
    CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, text);
    fill();
    e.Step();
  };
  refused("groups[1].count is 4, wanted at most 3 (the summary rows that the slot has)", [&] { e.group(1).count = 4; });
  refused("groups[1].physical_start is 1, wanted 0", [&] { e.group(1).physical_start = 1; });
  refused("groups[1].logical_start is 2, wanted 1 (the end", [&] { e.group(1).logical_start = 2; });
  refused("groups[1].slot_kind is 131072, wanted 0", [&] { e.group(1).slot_kind = 2 << 16; });
  refused("groups[1].slot_kind is 65537, wanted 0", [&] { e.group(1).slot_kind |= 1; });
  refused("groups[2].logical_start is 1, wanted within 2..7", [&] { e.group(2).logical_start = 1; });
  refused("groups[2].logical_start is 8, wanted within 2..7", [&] { e.group(2).logical_start = 8; });
  refused("groups[2].slot_kind is 65536, wanted 0", [&] { e.group(2) = {KVRM_GROUP_FAR << 16, 5, 0, 0}; });
  refused("slots[0].group_count is 2, wanted a group after the one of kind FAR",
          [&] { e.slot(0).group_count = e.header().num_groups = 2; });
  // Of another slot, which has no rows; a gap without rows; from the first block on; after a CLEAR.
  e.Begin();
  e.Decode(1, 5, 120, Contiguous(0, 8));
  e.Far(1, 1, 5, 1);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "groups[1].count is 1, wanted at most 0");
  e.group(1).count = 0;
  e.Step();
  e.Begin();
  e.Decode(0, 5, 120, Contiguous(0, 8));
  e.Far(0, 0, 7, 2);
  e.Step();
  e.Begin();
  e.ClearSummaries(0);
  e.Decode(0, 5, 120, Contiguous(0, 8));
  e.Far(0, 0, 7, 2);
  CHECK_REFUSED(e.TryCommit(), KVRM_INVALID_DESCRIPTOR, "groups[0].count is 2, wanted at most 0");

  TestEngine plain(Model(), EngineConfig());
  plain.Begin();
  plain.Decode(0, 5, 120, Contiguous(0, 8));
  plain.Far(0, 1, 5, 0);
  CHECK_REFUSED(plain.TryCommit(), KVRM_INVALID_DESCRIPTOR, "groups[1].slot_kind is 65536, wanted 0");
}

int32_t TryCreate(const TestModel& model, const kvrm_engine_config& config) {
  kvrm_engine_info info;
  uint32_t handle = 0;
  return kvrm_engine_create(model.handle, reinterpret_cast<const uint8_t*>(&config), reinterpret_cast<uint8_t*>(&info),
                            &handle);
}

TEST(FarHistoryOfAnEngineIsChecked) {
  CHECK_REFUSED(TryCreate(Model(), Config(257)), KVRM_INVALID_ARGUMENT, "far_rows is 257, wanted 0 to 256");
  kvrm_engine_config config = Config();
  config.max_summaries = 0;
  CHECK_REFUSED(TryCreate(Model(), config), KVRM_INVALID_ARGUMENT, "far_rows is 8, wanted 0 to 0");
  if (OnGpu()) {
    CHECK_REFUSED(TryCreate(Model(), Config()), KVRM_UNSUPPORTED, "max_summaries is 300, wanted 0 on a GPU");
    return;
  }
  ModelShape shape;
  shape.windows = {0, 64, 0};
  const TestModel windowed(shape);
  CHECK_REFUSED(TryCreate(windowed, Config()), KVRM_UNSUPPORTED, "layer 1 has a sliding window of 64 tokens");
}

// The descriptor of an engine without far history is what it was; with it there is a section more at its end.
TEST(WithoutFarHistoryNothingIsLarger) {
  if (OnGpu()) return;
  TestEngine plain(Model(), EngineConfig()), far(Model(), Config());
  CHECK_EQ(plain.info.summaries_offset, plain.info.descriptor_bytes);
  CHECK_EQ(far.info.masks_offset, plain.info.masks_offset);
  CHECK_EQ(far.info.descriptor_bytes, plain.info.descriptor_bytes + 300 * uint32_t(sizeof(kvrm_summary)));
  CHECK_EQ(plain.info.far_row_bytes, 0u);
  CHECK_EQ(far.info.far_row_bytes, 3 * 2 * (5 * 16 + 2) * 4u);
}

}  // namespace
}  // namespace kvrm::test
