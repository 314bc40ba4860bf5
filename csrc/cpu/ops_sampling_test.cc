#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Sampler {
  explicit Sampler(uint32_t vocab) : scratch(std::aligned_alloc(64, SampleScratchBytes(vocab))) {}
  ~Sampler() { std::free(scratch); }
  int32_t operator()(const std::vector<float>& logits, const SampleParams& params) {
    return Sample(logits.data(), static_cast<uint32_t>(logits.size()), params, scratch);
  }
  void* scratch;
};

constexpr SampleParams kGreedy{0, 0, 1, 0, 0, 0};

// What the filters leave, by sorting everything in float64: id -> probability.
std::map<int32_t, double> Kept(const std::vector<float>& logits, const SampleParams& params) {
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (params.top_k != 0 && params.top_k < ids.size()) ids.resize(params.top_k);
  const double max = logits[ids[0]];
  const auto weight = [&](int32_t id) { return std::exp((logits[id] - max) / params.temperature); };
  double total = 0, sum = 0;
  for (const int32_t id : ids) total += weight(id);
  std::map<int32_t, double> kept;
  for (const int32_t id : ids) {
    if (weight(id) >= params.min_p) kept[id] = weight(id);
    sum += weight(id);
    if (params.top_p < 1 && sum >= params.top_p * total) break;
  }
  total = 0;
  for (const auto& [id, w] : kept) total += w;
  for (auto& [id, w] : kept) w /= total;
  return kept;
}

// Draws many times: nothing outside of the reference set, and the frequencies fit (chi-square).
void CheckDraws(const std::vector<float>& logits, SampleParams params, int draws) {
  Sampler sample(static_cast<uint32_t>(logits.size()));
  const std::map<int32_t, double> kept = Kept(logits, params);
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    params.counter = static_cast<uint32_t>(i);
    const int32_t id = sample(logits, params);
    CHECK(kept.contains(id));
    ++counts[id];
  }
  double chi = 0, rest = 0;
  int cells = 0, rest_count = 0;
  for (const auto& [id, p] : kept) {
    if (p * draws < 8) {
      rest += p * draws;
      rest_count += counts[id];
      continue;
    }
    chi += std::pow(counts[id] - p * draws, 2) / (p * draws);
    ++cells;
  }
  if (rest > 8) {
    chi += std::pow(rest_count - rest, 2) / rest;
    ++cells;
  }
  // Mean cells - 1, variance 2 (cells - 1): five sigmas and some for few cells.
  CHECK(chi < cells - 1 + 5 * std::sqrt(2.0 * cells) + 5);
}

TEST(Philox4x32KnownAnswers) {
  struct Case {
    uint64_t key;
    uint32_t counter[4], out[4];
  };
  const Case cases[] = {
      {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {0xffffffffffffffff,
       {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Case& known : cases) {
    uint32_t out[4];
    Philox4x32(known.key, known.counter, out);
    for (int i = 0; i < 4; ++i) CHECK_EQ(out[i], known.out[i]);
  }
}

TEST(SampleGreedyTakesTheLowestIdAmongEquals) {
  Random random(1);
  for (const uint32_t vocab : {1u, 5u, 255u, 256u, 257u, 1000u, 5000u}) {
    Sampler sample(vocab);
    for (int i = 0; i < 50; ++i) {
      std::vector<float> logits(vocab);
      for (float& x : logits) x = static_cast<float>(Between(random, 0, 30));
      const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      CHECK_EQ(sample(logits, kGreedy), best);
      SampleParams cold{1e-30f, 1, 1, 0, 7, 7};  // top-k of one keeps the lowest id, too
      CHECK_EQ(sample(logits, cold), best);
    }
  }
}

TEST(SampleOfBadLogitsGivesAValidId) {
  Sampler sample(300);
  for (const SampleParams& params : {kGreedy, SampleParams{1, 0, 1, 0, 3, 4}, SampleParams{1, 5, 0.5f, 0.1f, 3, 4}}) {
    CHECK_EQ(sample(std::vector<float>(300, NAN), params), 0);
    CHECK_EQ(sample(std::vector<float>(300, -kInf), params), 0);
    std::vector<float> one(300, NAN);
    one[290] = -1e30f;
    CHECK_EQ(sample(one, params), 290);
    one[291] = kInf;
    CHECK_EQ(sample(one, params), 291);
  }
}

TEST(SampleWithExtremeParametersStaysGreedy) {
  Random random(2);
  Sampler sample(1000);
  for (uint32_t i = 0; i < 100; ++i) {
    const std::vector<float> logits = Normals(random, 1000, 3.0f);
    const int32_t best = sample(logits, kGreedy);
    CHECK_EQ(sample(logits, {1e-45f, 0, 1, 0, i, i}), best);  // 1 / temperature overflows
    CHECK_EQ(sample(logits, {1e-6f, 0, 1, 0, i, i}), best);
    CHECK_EQ(sample(logits, {1, 0, 1e-30f, 0, i, i}), best);
    CHECK_EQ(sample(logits, {1, 0, 0, 0, i, i}), best);
    CHECK_EQ(sample(logits, {1, 0, 1, 1, i, i}), best);
    CHECK_EQ(sample(logits, {1, 0, 1, 7, i, i}), best);
    CHECK_EQ(sample(logits, {-1, 0, 1, 0, i, i}), best);
    CHECK_EQ(sample(logits, {NAN, 0, 1, 0, i, i}), best);
    const int32_t free = sample(logits, {1, 0, 1, 0, i, i});
    CHECK_EQ(sample(logits, {1, 5000, 1, 0, i, i}), free);  // top-k beyond the vocabulary is off
  }
}

TEST(SampleFollowsTheDistribution) {
  Random random(3);
  for (const uint32_t vocab : {2u, 17u, 256u, 700u}) {
    const std::vector<float> logits = Normals(random, vocab, 1.5f);
    CheckDraws(logits, {1.0f, 0, 1, 0, 11, 0}, 10000);
    CheckDraws(logits, {0.5f, 0, 1, 0, 12, 0}, 10000);
    CheckDraws(logits, {2.0f, 0, 1, 0, 13, 0}, 10000);
  }
}

TEST(SampleFiltersMatchAFloat64Reference) {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    const uint32_t vocab = Between(random, 2, 3000);
    std::vector<float> logits = Normals(random, vocab, 0.3f + 0.1f * static_cast<float>(Between(random, 0, 40)));
    if (round % 3 == 0) {  // ties
      for (float& x : logits) x = std::round(x);
    }
    SampleParams params{0.3f + 0.1f * static_cast<float>(Between(random, 0, 20)), 0, 1, 0, 99, 0};
    if (round % 2 == 0) params.top_k = Between(random, 1, vocab + 10);
    if (round % 5 != 0) params.top_p = 0.05f + 0.1f * static_cast<float>(Between(random, 0, 9));
    if (round % 4 == 1) params.min_p = 0.013f * static_cast<float>(Between(random, 0, 20));
    CheckDraws(logits, params, 1000);
  }
}

TEST(SampleDependsOnSeedAndCounterAlone) {
  Random random(5);
  const std::vector<float> logits = Normals(random, 5000);
  Sampler sample(5000);
  std::set<int32_t> drawn;
  for (uint32_t i = 0; i < 50; ++i) {
    const SampleParams params{1, 0, 0.9f, 0, 1234567890123ull, i};
    const int32_t first = sample(logits, params);
    Sampler other(5000);
    CHECK_EQ(other(logits, params), first);
    drawn.insert(first);
  }
  CHECK(drawn.size() > 10);
}

TEST(SampleTopPOfAFlatDistributionGrowsToAllItNeeds) {
  Sampler sample(40000);
  const std::vector<float> logits(40000, 1.0f);
  int32_t highest = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    const int32_t id = sample(logits, {1, 0, 0.25f, 0, 5, i});
    CHECK(id >= 0 && id < 10001);  // ties go to the lower id
    highest = std::max(highest, id);
  }
  CHECK(highest > 9000);
}

TEST(LogSumExpMatchesFloat64) {
  Random random(6);
  for (const uint32_t vocab : {1u, 15u, 256u, 1000u, 50001u}) {
    const std::vector<float> logits = Normals(random, vocab, 4.0f);
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    CHECK_NEAR(LogSumExp(logits.data(), vocab), std::log(sum), 2e-6 * (1 + std::fabs(std::log(sum))));
  }
  const std::vector<float> none(40, -kInf);
  CHECK_EQ(LogSumExp(none.data(), 40), -kInf);
  const float large[3] = {3e38f, NAN, 0};
  CHECK_EQ(LogSumExp(large, 3), 3e38f);
}

TEST(TopLogprobsAreTheBestInOrder) {
  Random random(7);
  for (int round = 0; round < 100; ++round) {
    const uint32_t vocab = Between(random, 1, 9000), n = Between(random, 0, KVRM_MAX_TOP_LOGPROBS);
    std::vector<float> logits = Normals(random, vocab);
    if (round % 2 == 0) {
      for (float& x : logits) x = std::round(2 * x);
    }
    if (round % 5 == 0) logits[vocab / 2] = NAN;
    Sampler sampler(vocab);
    std::vector<kvrm_top> tops(n);
    TopLogprobs(logits.data(), vocab, 0.5f, n, tops.data(), sampler.scratch);
    for (float& x : logits) x = std::isnan(x) ? -kInf : x;
    std::vector<int32_t> ids(vocab);
    for (uint32_t i = 0; i < vocab; ++i) ids[i] = static_cast<int32_t>(i);
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    for (uint32_t i = 0; i < n; ++i) {
      CHECK_EQ(tops[i].token, i < vocab ? ids[i] : -1);
      CHECK_EQ(tops[i].logprob, i < vocab ? logits[ids[i]] - 0.5f : -kInf);
    }
  }
}

}  // namespace
}  // namespace kvrm::cpu
