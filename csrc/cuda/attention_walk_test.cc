// The arithmetic that attention's kernels share with the host.
#include "attention_walk.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "common/test.h"

namespace kvrm::cuda {
namespace {

TEST(MergePartialIsTheSoftmaxOfBothParts) {
  SoftmaxStat total = EmptyStat();
  float value = 0;
  const SoftmaxStat parts[] = {{1.0f, 2.0f}, {3.0f, 1.5f}, EmptyStat(), {-4.0f, 7.0f}};
  const float values[] = {0.5f, -2.0f, 0.0f, 11.0f};
  double sum = 0, wanted = 0;
  for (int i = 0; i < 4; ++i) {
    const MergeFactors factors = MergePartial(total, parts[i]);
    value = MergeValue(value, values[i], factors);
    if (parts[i].sum != 0) {
      sum += parts[i].sum * std::exp(parts[i].max - 3.0);
      wanted += values[i] * std::exp(parts[i].max - 3.0);
    }
  }
  CHECK_EQ(total.max, 3.0f);
  CHECK_NEAR(total.sum, sum, 1e-6);
  CHECK_NEAR(value, wanted, 1e-6);
}

TEST(MergePartialKeepsTheTotalWhereAPartIsNotSeen) {
  SoftmaxStat total = {2.0f, 5.0f};
  CHECK_EQ(MergeValue(0.75f, 0.0f, MergePartial(total, EmptyStat())), 0.75f);
  CHECK_EQ(total.max, 2.0f);
  CHECK_EQ(total.sum, 5.0f);
  SoftmaxStat empty = EmptyStat();
  CHECK_EQ(MergeValue(0.0f, 0.75f, MergePartial(empty, {2.0f, 5.0f})), 0.75f);
  CHECK_EQ(empty.sum, 5.0f);
}

TEST(FirstVisibleCountsTheRowItself) {
  CHECK_EQ(FirstVisible(10, 0), 0u);
  CHECK_EQ(FirstVisible(10, 1), 10u);
  CHECK_EQ(FirstVisible(10, 11), 0u);
  CHECK_EQ(FirstVisible(10, 10), 1u);
  CHECK_EQ(FirstVisible(10, 0xffffffffu), 0u);
}

TEST(FindGroupFindsEveryBlock) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<kvrm_group> groups;
    std::vector<uint32_t> physical;
    const uint32_t start = random() % 9;
    for (uint32_t i = 0, n = 1 + random() % 40; i < n; ++i) {
      const uint32_t first = random() % 100000, count = 1 + random() % 5;
      groups.push_back({0, start + static_cast<uint32_t>(physical.size()), first, count});
      for (uint32_t b = 0; b < count; ++b) physical.push_back(first + b);
    }
    for (uint32_t i = 0; i < physical.size(); ++i) {
      const uint32_t group = FindGroup(groups.data(), static_cast<uint32_t>(groups.size()), start + i);
      CHECK_EQ(PhysicalBlock(groups[group], start + i), physical[i]);
    }
  }
}

// A step of decoding rows and segments, as BuildStep lays it out.
struct Units {
  Units(std::mt19937& random, uint32_t decode, uint32_t segments) {
    for (uint32_t i = 0; i < decode + segments; ++i) {
      AttentionUnit unit = {i, i, i < decode ? 1u : 4u, static_cast<uint32_t>(random() % 5000), counts.items, 0, 0};
      unit.splits = (unit.position + unit.rows - 1) / 256 + 1;
      if (i < decode && i % 3 == 2) {  // padding behind some row
        unit.padding = static_cast<uint32_t>(random() % 5000) / kTileTokens * kTileTokens + kTileTokens;
        unit.splits = unit.padding > unit.position ? 0 : unit.splits - unit.padding / 256;
      }
      counts.items += 3 * (i < decode ? unit.splits : 1);
      step.max_splits = std::max(step.max_splits, unit.position / 256 + 1);
      units.push_back(unit);
    }
    counts.units = decode + segments;
    counts.decode_units = decode;
    step.kv_heads = 3;
    step.split_tokens = 256;
    step.counts = &counts;
    step.units = units.data();
  }
  StepCounts counts = {};
  std::vector<AttentionUnit> units;
  StepView step = {};
};

TEST(ListWorkNamesEverySplitThatIsSeenOnce) {
  std::mt19937 random(2);
  for (int round = 0; round < 60; ++round) {
    Units units(random, random() % 20, random() % 5);
    const uint32_t window = round % 3 == 0 ? 0 : 1 + random() % 3000;
    const StepView& step = units.step;
    const WorkList list = ListWork(step, window);
    std::vector<uint32_t> found(units.units.size() * 3 * (step.max_splits + 1));
    for (uint32_t n = 0; n < list.total; ++n) {
      if (n < list.prefill) {
        const Work work = PrefillWork(step, list, n);
        CHECK(work.unit >= units.counts.decode_units);
        ++found[(work.unit * 3 + work.kv_head) * (step.max_splits + 1)];
        continue;
      }
      uint32_t place;
      Work work;
      work.unit = DecodeUnit(step, list, n, place);
      CHECK(work.unit < units.counts.decode_units);
      if (!DecodePlace(step, list, UnitOf(step, work.unit, window), window, place, work)) continue;
      ++found[(work.unit * 3 + work.kv_head) * (step.max_splits + 1) + work.split_first];
      CHECK(PartialIndex(step, work, work.split_first) < AttentionPartials(20, 3, step.max_splits));
    }
    for (uint32_t i = 0; i < found.size(); ++i) {
      const uint32_t unit = i / (3 * (step.max_splits + 1)), split = i % (step.max_splits + 1);
      const AttentionUnit u = UnitOf(step, unit, window);
      const bool wanted =
          unit >= units.counts.decode_units
              ? split == 0
              : u.padding <= u.position && split >= FirstSplit(step, u, window) && split <= LastSplit(step, u);
      CHECK_EQ(found[i], wanted ? 1u : 0u);
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda
