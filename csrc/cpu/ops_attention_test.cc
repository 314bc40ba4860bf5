#include <algorithm>
#include <limits>
#include <numeric>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

constexpr uint32_t kLayers = 2, kLayer = 1, kKvHeads = 2, kKvHead = 1;

// One history [tokens] of one kv head, in f32; the pools below hold it in various shapes.
struct History {
  History(Random& random, uint32_t tokens, uint32_t dim, uint32_t dtype)
      : tokens(tokens), dim(dim), keys(random, dtype, tokens, dim), values(random, dtype, tokens, dim) {}
  uint32_t tokens, dim;
  Tensor keys, values;
};

// The history in a pool of its own, NaN everywhere else. runs: the most blocks in one group.
struct Pool {
  Pool(Random& random, const History& history, uint32_t block_tokens, uint32_t runs) {
    const uint32_t dtype = history.keys.weight.dtype;
    const uint32_t blocks = (history.tokens + block_tokens - 1) / block_tokens;
    const uint32_t spread = 2 * blocks + 3;
    const size_t row_bytes = RowBytes(dtype, history.dim);
    bytes.assign(size_t{spread} * kLayers * 2 * kKvHeads * block_tokens * row_bytes, 0xff);  // NaN in each dtype
    view = {bytes.data(), dtype, block_tokens, history.dim, kKvHeads, kLayers, kLayer, nullptr, 0};
    PlaceGroups(random, blocks, runs);
    view.groups = groups.data();
    view.group_count = static_cast<uint32_t>(groups.size());
    for (const kvrm_group& group : groups) {
      for (uint32_t t = 0; t < group.count * block_tokens; ++t) {
        const uint32_t token = group.logical_start * block_tokens + t;
        if (token >= history.tokens) break;
        const uint32_t block = group.physical_start + t / block_tokens;
        const uint8_t* key = history.keys.bytes.data() + token * row_bytes;
        const uint8_t* value = history.values.bytes.data() + token * row_bytes;
        std::memcpy(KvRow(view, block, false, kKvHead, t % block_tokens), key, row_bytes);
        std::memcpy(KvRow(view, block, true, kKvHead, t % block_tokens), value, row_bytes);
      }
    }
  }

  // Runs of blocks, in random order over the pool, with gaps.
  void PlaceGroups(Random& random, uint32_t blocks, uint32_t runs) {
    for (uint32_t logical = 0; logical < blocks;) {
      const uint32_t count = std::min(blocks - logical, Between(random, 1, runs));
      groups.push_back({0, logical, 0, count});
      logical += count;
    }
    std::vector<size_t> order(groups.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    uint32_t physical = 1;
    for (const size_t i : order) {
      groups[i].physical_start = physical;
      physical += groups[i].count + (groups.size() <= blocks / 2 ? 1 : 0);
    }
  }

  std::vector<uint8_t> bytes;
  std::vector<kvrm_group> groups;
  KvView view;
};

struct Queries {
  Queries(Random& random, uint32_t count, uint32_t dim) : dim(dim), q(Normals(random, size_t{count} * dim)) {}
  uint32_t dim;
  std::vector<float> q;  // [count][dim]
  std::vector<uint32_t> positions;
};

// All splits of all queries, merged: [count][dim].
std::vector<float> Attend(const KvView& kv, const Queries& queries, uint32_t window, uint32_t batch) {
  const uint32_t dim = queries.dim, count = static_cast<uint32_t>(queries.positions.size());
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  const uint32_t last = *std::max_element(queries.positions.begin(), queries.positions.end());
  const uint32_t splits = last / kSplitTokens + 1;
  std::vector<Partial> partials(splits * count);
  std::vector<float> acc(size_t{splits} * count * dim), out(size_t{count} * dim);
  for (uint32_t split = 0; split < splits; ++split) {
    for (uint32_t i = 0; i < count; i += batch) {
      AttendSplit(kv, kKvHead, scale, window, split, &queries.q[i * dim], dim, &queries.positions[i],
                  std::min(batch, count - i), &partials[split * count + i], &acc[(size_t{split} * count + i) * dim],
                  dim);
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    MergeSplits(&partials[i], count, &acc[i * dim], count * dim, splits, dim, &out[i * dim]);
  }
  return out;
}

std::vector<double> Reference(const History& history, const float* q, uint32_t position, uint32_t window) {
  const uint32_t dim = history.dim;
  const uint32_t first = window != 0 && position + 1 > window ? position + 1 - window : 0;
  std::vector<double> scores, out(dim);
  for (uint32_t t = first; t <= position; ++t) {
    double score = 0;
    for (uint32_t n = 0; n < dim; ++n) score += q[n] * history.keys.At(t, n);
    scores.push_back(score / std::sqrt(static_cast<double>(dim)));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (uint32_t t = first; t <= position; ++t) {
    for (uint32_t n = 0; n < dim; ++n) out[n] += scores[t - first] / sum * history.values.At(t, n);
  }
  return out;
}

TEST(AttendSplitMatchesFloat64) {
  Random random(1);
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16, KVRM_Q8_0}) {
    for (const uint32_t dim : {8u, 48u, 64u, 100u, 128u, 256u}) {
      if (dtype == KVRM_Q8_0 && dim % 32 != 0) continue;
      for (const uint32_t tokens : {1u, 17u, 54u, 256u, 257u, 700u}) {
        const History history(random, tokens, dim, dtype);
        const Pool pool(random, history, 16u << Between(random, 0, 2), 4);
        for (const uint32_t window : {0u, 1u, 40u, 300u}) {
          Queries queries(random, 5, dim);
          for (int i = 0; i < 5; ++i) queries.positions.push_back(Between(random, 0, tokens - 1));
          const std::vector<float> out = Attend(pool.view, queries, window, 5);
          for (uint32_t i = 0; i < 5; ++i) {
            const auto wanted = Reference(history, &queries.q[i * dim], queries.positions[i], window);
            for (uint32_t n = 0; n < dim; ++n) CHECK_NEAR(out[i * dim + n], wanted[n], 3e-6);
          }
        }
      }
    }
  }
}

TEST(AttendSplitGivesTheSameBitsForEveryBlockSizeFragmentationAndBatch) {
  Random random(2);
  for (int round = 0; round < 60; ++round) {
    const uint32_t dtype = round % 4 == 3 ? uint32_t{KVRM_Q8_0} : Between(random, 0, 2),
                   tokens = Between(random, 1, 900);
    const uint32_t dim = dtype == KVRM_Q8_0 ? 32 * Between(random, 1, 5) : 4 * Between(random, 1, 40);
    const uint32_t window = Between(random, 0, 1) == 0 ? 0 : Between(random, 1, tokens + 20);
    const uint32_t count = Between(random, 1, 75);
    const History history(random, tokens, dim, dtype);
    Queries queries(random, count, dim);
    for (uint32_t i = 0; i < count; ++i) queries.positions.push_back(Between(random, 0, tokens - 1));
    if (round % 2 == 0) std::sort(queries.positions.begin(), queries.positions.end());

    const Pool contiguous(random, history, 16, 1000);
    const std::vector<float> wanted = Attend(contiguous.view, queries, window, 1);
    for (const uint32_t block_tokens : {16u, 32u, 64u}) {
      for (const uint32_t runs : {1u, 3u, 1000u}) {
        const Pool pool(random, history, block_tokens, runs);
        const std::vector<float> found = Attend(pool.view, queries, window, Between(random, 1, count));
        CHECK(SameBits(found.data(), wanted.data(), wanted.size()));
      }
    }
  }
}

TEST(ConvertToBlocksRoundsAndKeepsWhatIsNotFinite) {
  Random random(7);
  std::vector<float> x = Normals(random, 96, 3.0f);
  std::fill(x.begin() + 32, x.begin() + 64, 0.0f);
  std::vector<uint8_t> bytes(RowBytes(KVRM_Q8_0, 96));
  Convert(x.data(), 96, KVRM_Q8_0, bytes.data());
  for (size_t b = 0; b < 96; b += 32) {
    float largest = 0;
    for (size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    // Half a step of 1 / 127 of the largest, and what the scale loses in f16.
    for (size_t i = b; i < b + 32; ++i) CHECK_NEAR(ValueAt(bytes.data(), KVRM_Q8_0, i), x[i], largest * 0.0045f);
  }
  x[5] = NAN;
  x[40] = -INFINITY;
  Convert(x.data(), 96, KVRM_Q8_0, bytes.data());
  CHECK(std::isnan(ValueAt(bytes.data(), KVRM_Q8_0, 0)) && std::isnan(ValueAt(bytes.data(), KVRM_Q8_0, 63)));
  CHECK_NEAR(ValueAt(bytes.data(), KVRM_Q8_0, 64), x[64], 0.1);
}

TEST(AttendSplitNeverMultipliesWhatAQueryDoesNotSee) {
  // Query 0 sees tokens up to 20, query 1 up to 40; token 30 is poisoned: only query 1 may notice.
  Random random(3);
  const uint32_t dim = 64;
  History history(random, 41, dim, KVRM_F32);
  Queries queries(random, 2, dim);
  queries.positions = {20, 40};
  const Pool clean(random, history, 16, 1);
  const std::vector<float> wanted = Attend(clean.view, queries, 0, 2);
  for (Tensor* tensor : {&history.keys, &history.values}) {
    std::fill(tensor->bytes.begin() + 30 * dim * 4, tensor->bytes.begin() + 31 * dim * 4, 0xff);
  }
  const Pool poisoned(random, history, 16, 1);
  const std::vector<float> found = Attend(poisoned.view, queries, 0, 2);
  CHECK(SameBits(found.data(), wanted.data(), dim));
  CHECK(std::isnan(found[dim]));
}

TEST(AttendSplitOfASplitThatIsNotSeenIsEmpty) {
  Random random(4);
  const History history(random, 600, 32, KVRM_BF16);
  const Pool pool(random, history, 32, 2);
  const Queries queries(random, 2, 32);
  const uint32_t positions[2] = {100, 599};
  std::vector<float> acc(2 * 32, 7.0f);
  Partial partials[2];
  AttendSplit(pool.view, kKvHead, 1.0f, 50, 1, queries.q.data(), 32, positions, 2, partials, acc.data(), 32);
  for (int i = 0; i < 2; ++i) {
    CHECK_EQ(partials[i].max, -std::numeric_limits<float>::infinity());
    CHECK_EQ(partials[i].sum, 0.0f);
  }
  for (const float x : acc) CHECK_EQ(x, 0.0f);
}

TEST(AttendSplitAcceptsGroupsThatStartBehindTheWindow) {
  Random random(5);
  const uint32_t dim = 32;
  const History history(random, 700, dim, KVRM_F32);
  const Pool pool(random, history, 16, 3);
  Queries queries(random, 1, dim);
  queries.positions = {699};
  const std::vector<float> wanted = Attend(pool.view, queries, 200, 1);
  KvView cut = pool.view;
  while (cut.groups[1].logical_start * 16 <= 499) {
    ++cut.groups;
    --cut.group_count;
  }
  const std::vector<float> found = Attend(cut, queries, 200, 1);
  CHECK(SameBits(found.data(), wanted.data(), dim));
}

TEST(MergeSplitsSkipsEmptySplitsWithoutReadingThem) {
  const float kNone = -std::numeric_limits<float>::infinity();
  const Partial partials[3] = {{kNone, 0}, {2.0f, 3.0f}, {kNone, 0}};
  const float acc[3][2] = {{NAN, NAN}, {6.0f, 9.0f}, {NAN, NAN}};
  float out[2];
  MergeSplits(partials, 1, acc[0], 2, 3, 2, out);
  CHECK_NEAR(out[0], 2.0, 1e-6);
  CHECK_NEAR(out[1], 3.0, 1e-6);
  MergeSplits(partials, 1, acc[0], 2, 1, 2, out);
  CHECK_EQ(out[0], 0.0f);
}

}  // namespace
}  // namespace kvrm::cpu
