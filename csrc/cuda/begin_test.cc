#include <numeric>

#include "../common/test.h"
#include "step_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Array;
using test::Between;
using test::Random;
using test::SameBytes;

// ---- lists --------------------------------------------------------------------------------------------

struct Sizes {
  uint32_t slots, chunk, group, block_tokens;
  uint32_t active;           // percent of the slots
  bool long_segment = true;  // one may take the rest of the chunk
  bool padded = false;       // a step without segments whose window is padded
};

// A step with random slots: some decode, others have segments, in random order.
struct Descriptor {
  kvrm_header header = {};
  std::vector<kvrm_slot> slots;
  std::vector<kvrm_segment> segments;
  std::vector<int32_t> tokens, targets;
  std::vector<kvrm_group> groups;
  std::vector<kvrm_move> moves;

  Descriptor(Random& random, const Sizes& sizes) : slots(sizes.slots) {
    std::vector<uint32_t> order(sizes.slots);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    for (const uint32_t s : order) {
      if (Between(random, 1, 100) > sizes.active) continue;
      const uint32_t left = sizes.chunk - static_cast<uint32_t>(tokens.size());
      if (left == 0 || sizes.padded || Between(random, 0, 2) == 0) {
        AddSlot(random, sizes, s, KVRM_SLOT_DECODE, Between(random, 0, 3000), 1);
      } else {
        const bool rest = sizes.long_segment && Between(random, 0, 3) == 0;
        const uint32_t count = Between(random, 1, rest ? left : std::min(left, 70u));
        AddSegment(random, sizes, s, count);
      }
    }
    for (uint32_t i = Between(random, 0, 3); i > 0; --i) moves.push_back({i % 2, i, i, Between(random, 1, 9)});
    if (sizes.padded) header.padded_window = 3001 + Between(random, 0, 1000);
    header.num_tokens = static_cast<uint32_t>(tokens.size());
    header.num_segments = static_cast<uint32_t>(segments.size());
    header.num_moves = static_cast<uint32_t>(moves.size());
    header.num_groups = static_cast<uint32_t>(groups.size());
  }

 private:
  // Groups from a random block on, at most the one that the position is in.
  void AddSlot(Random& random, const Sizes& sizes, uint32_t s, uint32_t flags, uint32_t position, uint32_t count) {
    kvrm_slot& slot = slots[s];
    slot.flags = flags;
    slot.token = static_cast<int32_t>(Between(random, 0, 99));
    slot.position = position;
    slot.kv_len = position + count;
    slot.group_first = static_cast<uint32_t>(groups.size());
    slot.logprobs = Between(random, 0, 1) ? Between(random, 0, 21) : 0;
    uint32_t block = Between(random, 0, position / sizes.block_tokens);
    while (block * sizes.block_tokens < slot.kv_len) {
      const kvrm_group group = {s, block, Between(random, 0, 1u << 20), Between(random, 1, 4)};
      const uint32_t mine = position / sizes.block_tokens;
      if (mine >= block && mine < block + group.count) slot.write_block = group.physical_start + mine - block;
      groups.push_back(group);
      block += group.count;
    }
    slot.write_offset = position % sizes.block_tokens;
    slot.group_count = static_cast<uint32_t>(groups.size()) - slot.group_first;
  }

  void AddSegment(Random& random, const Sizes& sizes, uint32_t s, uint32_t count) {
    const uint32_t position = Between(random, 0, 1) * Between(random, 0, 1000);
    AddSlot(random, sizes, s, KVRM_SLOT_PREFILL | Between(random, 0, 1) * KVRM_SLOT_SAMPLE, position, count);
    const uint32_t padding = Between(random, 0, 1) * Between(random, 0, count - 1);
    segments.push_back({s, static_cast<uint32_t>(tokens.size()), count, position,
                        Between(random, 0, 1) * KVRM_SEGMENT_PROMPT_LOGPROBS, Between(random, 0, 20), padding, 0});
    for (uint32_t i = 0; i < count; ++i) {
      tokens.push_back(static_cast<int32_t>(Between(random, 0, 99)));
      targets.push_back(static_cast<int32_t>(Between(random, 0, 100)) - 1);
    }
  }
};

// What the kernel makes.
struct Lists {
  StepCounts counts = {};
  std::vector<Row> rows;
  std::vector<AttentionUnit> units;
  std::vector<HeadRow> samples, prompt_rows;
  uint32_t moved_blocks = 0, num_rows = 0;
};

constexpr uint32_t kKvHeads = 3, kSplit = 256;

// One after another, as csrc/cpu/batch.cc does it.
Lists BuildSerially(const Descriptor& d, const Sizes& sizes) {
  Lists lists;
  std::vector<uint32_t> last_row(sizes.slots);
  const auto add_unit = [&](uint32_t slot, uint32_t rows, uint32_t position) {
    const uint32_t splits = (position + rows + kSplit - 1) / kSplit;
    lists.units.push_back(
        {slot, static_cast<uint32_t>(lists.rows.size()), rows, position, lists.counts.items, splits, 0});
    return splits;
  };
  for (uint32_t s = 0; s < sizes.slots; ++s) {
    const kvrm_slot& slot = d.slots[s];
    if ((slot.flags & KVRM_SLOT_DECODE) == 0) continue;
    lists.counts.items += kKvHeads * add_unit(s, 1, slot.position);
    last_row[s] = static_cast<uint32_t>(lists.rows.size());
    lists.rows.push_back({slot.token, s, slot.position, slot.write_block, slot.write_offset, kNoChunkRow});
  }
  if (const uint32_t window = d.header.padded_window; window != 0) {
    for (size_t i = 0, rows = lists.units.size(); i < rows; ++i) {
      AttentionUnit unit = lists.units[i];
      unit.padding = unit.position - unit.position % 64 + 64;
      unit.position = window - 1;
      unit.item_first = lists.counts.items;
      unit.splits = 0;
      for (uint32_t split = unit.padding / kSplit; unit.padding < window && split * kSplit < window; ++split)
        ++unit.splits;
      lists.counts.items += kKvHeads * unit.splits;
      lists.units.push_back(unit);
    }
  }
  lists.counts.decode_units = static_cast<uint32_t>(lists.units.size());
  const uint32_t unit_rows = std::max(1u, kUnitRows / sizes.group);
  for (const kvrm_segment& segment : d.segments) {
    const kvrm_group* group = &d.groups[d.slots[segment.slot].group_first];
    for (uint32_t i = 0; i < segment.count; ++i) {
      const uint32_t position = segment.position + i, logical = position / sizes.block_tokens;
      while (logical >= group->logical_start + group->count) ++group;
      if (i % unit_rows == 0) {
        add_unit(segment.slot, std::min(unit_rows, segment.count - i), position);
        lists.counts.items += kKvHeads;
      }
      const uint32_t chunk_row = segment.token_first + i, row = static_cast<uint32_t>(lists.rows.size());
      if (i < segment.count - segment.padding) last_row[segment.slot] = row;
      lists.rows.push_back({d.tokens[chunk_row], segment.slot, position,
                            group->physical_start + logical - group->logical_start, position % sizes.block_tokens,
                            chunk_row});
      if ((segment.flags & KVRM_SEGMENT_PROMPT_LOGPROBS) == 0 || i >= segment.count - segment.padding) continue;
      lists.prompt_rows.push_back({row, chunk_row, d.targets[chunk_row], segment.top_logprobs});
      lists.num_rows = chunk_row + 1;
    }
  }
  for (uint32_t s = 0; s < sizes.slots; ++s) {
    const kvrm_slot& slot = d.slots[s];
    if ((slot.flags & (KVRM_SLOT_DECODE | KVRM_SLOT_SAMPLE)) == 0) continue;
    lists.samples.push_back({last_row[s], s, -1, slot.logprobs == 0 ? 0 : slot.logprobs - 1});
  }
  for (const kvrm_move& move : d.moves) lists.moved_blocks += move.count;
  lists.counts.rows = static_cast<uint32_t>(lists.rows.size());
  lists.counts.units = static_cast<uint32_t>(lists.units.size());
  lists.counts.samples = static_cast<uint32_t>(lists.samples.size());
  lists.counts.prompt_rows = static_cast<uint32_t>(lists.prompt_rows.size());
  return lists;
}

void CheckBuild(const Descriptor& d, const Sizes& sizes) {
  constexpr uint32_t kLayers = 5;
  const Lists wanted = BuildSerially(d, sizes);
  const uint32_t max_rows = sizes.slots + sizes.chunk;
  Array<kvrm_header> header(std::vector<kvrm_header>{d.header});
  Array<kvrm_slot> slots(d.slots);
  Array<kvrm_segment> segments(d.segments);
  Array<int32_t> tokens(d.tokens), targets(d.targets);
  Array<kvrm_group> groups(d.groups);
  Array<kvrm_move> moves(d.moves);
  Array<StepCounts> counts(1);
  Array<Row> rows(max_rows);
  Array<AttentionUnit> units(max_rows + sizes.slots);
  Array<HeadRow> samples(sizes.slots), prompt_rows(sizes.chunk);
  Array<kvrm_slot_result> slot_results(sizes.slots);
  Array<kvrm_row_result> row_results(sizes.chunk);
  Array<kvrm_result_header> result_header(1);
  Array<uint32_t> work(kLayers + 2);

  StepView step = {};
  step.slots = sizes.slots;
  step.max_rows = max_rows;
  step.max_chunk = sizes.chunk;
  step.block_tokens = sizes.block_tokens;
  step.layers = kLayers;
  step.heads = kKvHeads * sizes.group;
  step.kv_heads = kKvHeads;
  step.split_tokens = kSplit;
  step.header = header.data();
  step.slot = slots.data();
  step.segments = segments.data();
  step.tokens = tokens.data();
  step.targets = targets.data();
  step.groups = groups.data();
  step.moves = moves.data();
  step.counts = counts.data();
  step.rows = rows.data();
  step.units = units.data();
  step.samples = samples.data();
  step.prompt_rows = prompt_rows.data();
  step.slot_results = slot_results.data();
  step.row_results = row_results.data();
  step.result_header = result_header.data();
  LaunchBuildStep(test::Context(), step, work.data());
  test::Finish();

  const StepCounts found = counts.Read()[0];
  CHECK_EQ(found.rows, wanted.counts.rows);
  CHECK_EQ(found.units, wanted.counts.units);
  CHECK_EQ(found.decode_units, wanted.counts.decode_units);
  CHECK_EQ(found.items, wanted.counts.items);
  CHECK_EQ(found.samples, wanted.counts.samples);
  CHECK_EQ(found.prompt_rows, wanted.counts.prompt_rows);
  CHECK(SameBytes(rows.Read(found.rows), wanted.rows));
  CHECK(SameBytes(units.Read(found.units), wanted.units));
  CHECK(SameBytes(samples.Read(found.samples), wanted.samples));
  CHECK(SameBytes(prompt_rows.Read(found.prompt_rows), wanted.prompt_rows));

  const kvrm_result_header result = result_header.Read()[0];
  CHECK_EQ(result.moved_blocks, wanted.moved_blocks);
  CHECK_EQ(result.rows, wanted.counts.rows);
  CHECK_EQ(result.num_rows, wanted.num_rows);
  CHECK_EQ(result.magic, 0xffffffffu);  // the host's
  CHECK(SameBytes(slot_results.Read(), std::vector<kvrm_slot_result>(sizes.slots)));
  CHECK(SameBytes(row_results.Read(wanted.num_rows), std::vector<kvrm_row_result>(wanted.num_rows)));
  std::vector<uint32_t> zeros(kLayers + 2);
  zeros.back() = 0xffffffffu;
  CHECK(SameBytes(work.Read(), zeros));
}

TEST(BuildStepMatchesASerialBuild) {
  Random random(1);
  const Sizes all[] = {{1, 0, 1, 16, 100},    {7, 40, 8, 16, 80},     {33, 200, 5, 32, 50},   {64, 1, 64, 64, 100},
                       {20, 3000, 7, 16, 90}, {40, 300, 100, 16, 60}, {1500, 2500, 8, 16, 70}};
  for (const Sizes& sizes : all) {
    for (int round = 0; round < 6; ++round) CheckBuild(Descriptor(random, sizes), sizes);
  }
}

TEST(BuildStepWithMoreSegmentsThanThreads) {
  Random random(2);
  const Sizes sizes = {2600, 65536, 4, 16, 100, false};
  const Descriptor d(random, sizes);
  CHECK(d.segments.size() > 1024);
  CheckBuild(d, sizes);
}

TEST(BuildStepPadsTheWindowOfEveryDecodingRow) {
  Random random(4);
  for (const uint32_t slots : {1u, 7u, 64u, 1500u}) {
    const Sizes sizes = {slots, 0, 8, 16, 80, true, true};
    for (int round = 0; round < 6; ++round) CheckBuild(Descriptor(random, sizes), sizes);
  }
}

TEST(BuildStepOfAnIdleStep) {
  Random random(3);
  const Sizes sizes = {9, 32, 4, 16, 0};
  CheckBuild(Descriptor(random, sizes), sizes);
}

// ---- moves --------------------------------------------------------------------------------------------

void CheckMoves(Random& random, uint32_t blocks, uint32_t block_bytes, uint32_t num_moves) {
  std::vector<uint8_t> pool(size_t{blocks} * block_bytes);
  for (uint8_t& byte : pool) byte = static_cast<uint8_t>(random());
  std::vector<kvrm_move> moves;
  std::vector<uint8_t> wanted = pool;
  // Sources in the lower half, destinations in the upper one, each taken at most once.
  uint32_t to = blocks / 2;
  for (uint32_t i = 0; i < num_moves && to < blocks; ++i) {
    const uint32_t count = Between(random, 1, std::min(3u, blocks - to));
    const uint32_t host = Between(random, 0, 3);  // 1: from the host, 2: to the host
    moves.push_back({host == 1   ? KVRM_TIER_HOST
                     : host == 2 ? KVRM_TIER_HOST << 16
                                 : 0,
                     Between(random, 0, blocks / 2 - count), to, count});
    if (host != 1 && host != 2) {
      std::copy_n(pool.begin() + size_t{moves.back().from} * block_bytes, size_t{count} * block_bytes,
                  wanted.begin() + size_t{to} * block_bytes);
    }
    to += count;
  }
  kvrm_header header = {};
  header.num_moves = static_cast<uint32_t>(moves.size());
  Array<kvrm_header> headers(std::vector<kvrm_header>{header});
  Array<kvrm_move> list(moves);
  Array<uint8_t> memory(pool);
  StepView step = {};
  step.header = headers.data();
  step.moves = list.data();
  step.pool = memory.data();
  step.block_bytes = block_bytes;
  LaunchMoves(test::Context(), step, 4000);
  test::Finish();
  CHECK(SameBytes(memory.Read(), wanted));
}

TEST(MovesCopyWithinThePool) {
  Random random(4);
  CheckMoves(random, 40, 256, 0);
  CheckMoves(random, 40, 256, 1);
  CheckMoves(random, 40, 65536, 10);
  CheckMoves(random, 12, 32768 * 3 + 4096, 2);
  CheckMoves(random, 4000, 80, 1800);
}

}  // namespace
}  // namespace kvrm::cuda
