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
    return Sample(logits.data(), static_cast<uint32_t>(logits.size()), params, scratch, &surprise);
  }
  float surprise = 0;
  void* scratch;
};

constexpr SampleParams kGreedy{0, 0, 1, 0, 0, 0};

// Of tokens, at temperature 1, in their order.
std::vector<double> Probabilities(const std::vector<float>& logits, const std::vector<int32_t>& ids) {
  std::vector<double> p;
  double total = 0;
  for (const int32_t id : ids) total += p.emplace_back(std::exp(double{logits[id]} - logits[ids[0]]));
  for (double& x : p) x /= total;
  return p;
}

double Entropy(const std::vector<double>& p) {
  double entropy = 0;
  for (const double x : p) entropy -= x * std::log(x);
  return entropy;
}

// llama.cpp's samplers one after another, in float64, over ids that are sorted, best first.
void KeepTopSigmas(const std::vector<float>& logits, double n, std::vector<int32_t>& ids) {
  double mean = 0, squares = 0;
  for (const int32_t id : ids) mean += logits[id] / double(ids.size());
  for (const int32_t id : ids) squares += (logits[id] - mean) * (logits[id] - mean) / double(ids.size());
  const double least = logits[ids[0]] - n * std::sqrt(squares);
  std::erase_if(ids, [&](int32_t id) { return logits[id] < least; });
}

void KeepTypical(const std::vector<float>& logits, double p, std::vector<int32_t>& ids) {
  const std::vector<double> probability = Probabilities(logits, ids);
  const double entropy = Entropy(probability);
  std::vector<size_t> order(ids.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto apart = [&](size_t i) { return std::fabs(-std::log(probability[i]) - entropy); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return apart(a) < apart(b); });
  double sum = 0;
  std::set<int32_t> kept;
  for (const size_t i : order) {
    kept.insert(ids[i]);
    if ((sum += probability[i]) > p) break;
  }
  std::erase_if(ids, [&](int32_t id) { return !kept.contains(id); });
}

void DropTopChoices(const std::vector<float>& logits, double threshold, std::vector<int32_t>& ids) {
  const std::vector<double> p = Probabilities(logits, ids);
  size_t last = 0;
  while (last + 1 < ids.size() && p[last + 1] >= threshold) ++last;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(last));
}

double DynamicTemperatureOf(const std::vector<float>& logits, const SampleParams& params,
                            const std::vector<int32_t>& ids) {
  const double range = params.samplers.dynatemp_range;
  if (ids.size() < 2 || range == 0) return params.temperature;
  const double low = std::max(0.0, params.temperature - range), high = params.temperature + range;
  const double share = Entropy(Probabilities(logits, ids)) / std::log(double(ids.size()));
  return low + (high - low) * std::pow(share, params.samplers.dynatemp_exponent);
}

// As llama.cpp's samplers of that name, over ids that are sorted, best first, at least two.
void KeepMirostat(const std::vector<float>& logits, const SampleParams& params, std::vector<int32_t>& ids) {
  const double mu = params.samplers.mirostat_mu, vocab = double(logits.size());
  std::vector<double> p;
  double total = 0;
  for (const int32_t id : ids)
    total += p.emplace_back(std::exp((double{logits[id]} - logits[ids[0]]) / params.temperature));
  for (double& x : p) x /= total;
  size_t kept = 0;
  if (params.samplers.mirostat == 2) {
    while (kept < p.size() && -std::log2(p[kept]) <= mu) ++kept;
  } else {
    double products = 0, squares = 0;
    for (size_t i = 0; i < 99 && i + 1 < p.size(); ++i) {
      const double t = std::log(double(i + 2) / double(i + 1));
      products += t * std::log(p[i] / p[i + 1]);
      squares += t * t;
    }
    const double s = products / squares, epsilon = s - 1;
    const double k = std::pow(epsilon * std::pow(2, mu) / (1 - std::pow(vocab, -epsilon)), 1 / s);
    kept = k >= vocab ? p.size() : static_cast<size_t>(k);
  }
  ids.resize(std::max<size_t>(kept, 1));
}

// What the filters leave, by sorting everything in float64: id -> probability. XTC acts always, or never.
std::map<int32_t, double> Kept(const std::vector<float>& logits, const SampleParams& params) {
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const Samplers& samplers = params.samplers;
  if (samplers.mirostat != 0) KeepMirostat(logits, params, ids);
  if (samplers.top_n_sigma > 0) KeepTopSigmas(logits, samplers.top_n_sigma, ids);
  if (params.top_k != 0 && params.top_k < ids.size()) ids.resize(params.top_k);
  if (samplers.typical_p > 0) KeepTypical(logits, samplers.typical_p, ids);
  double max = logits[ids[0]], temperature = params.temperature;
  const auto weight = [&](int32_t id) { return std::exp((logits[id] - max) / temperature); };
  double total = 0, sum = 0;
  for (const int32_t id : ids) total += weight(id);
  std::vector<int32_t> left;
  for (const int32_t id : ids) {
    if (weight(id) >= params.min_p) left.push_back(id);
    sum += weight(id);
    if (params.top_p < 1 && sum >= params.top_p * total) break;
  }
  if (samplers.xtc_probability > 0) DropTopChoices(logits, samplers.xtc_threshold, left);
  temperature = DynamicTemperatureOf(logits, params, left);
  max = logits[left[0]];
  std::map<int32_t, double> kept;
  for (const int32_t id : left) kept[id] = weight(id);
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
    if (params.samplers.mirostat != 0) CHECK_NEAR(sample.surprise, -std::log2(kept.at(id)), 1e-3);
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

TEST(SamplersOfLlamaCppMatchAFloat64Reference) {
  Random random(8);
  for (int round = 0; round < 120; ++round) {
    const uint32_t vocab = Between(random, 2, 2500);
    const std::vector<float> logits = Normals(random, vocab, 0.3f + 0.1f * static_cast<float>(Between(random, 0, 40)));
    SampleParams params{0.3f + 0.1f * static_cast<float>(Between(random, 0, 20)), 0, 1, 0, 99, 0};
    Samplers& s = params.samplers;
    const uint32_t which = round < 4 ? 1u << round : Between(random, 1, 15);  // each alone, then any
    if (which & 1) s.top_n_sigma = 0.1f + 0.17f * static_cast<float>(Between(random, 0, 20));
    if (which & 2) s.typical_p = 0.03f + 0.05f * static_cast<float>(Between(random, 0, 19));
    if (which & 4) s.xtc_probability = 1, s.xtc_threshold = 0.011f * static_cast<float>(Between(random, 0, 46));
    if (which & 8) s.dynatemp_range = 0.1f * static_cast<float>(Between(random, 1, 12));
    s.dynatemp_exponent = 0.25f * static_cast<float>(Between(random, 0, 8));
    if (round >= 4 && round % 2 == 0) params.top_k = Between(random, 1, vocab + 10);
    if (round >= 4 && round % 3 == 0) params.top_p = 0.05f + 0.1f * static_cast<float>(Between(random, 0, 9));
    if (round >= 4 && round % 5 == 0) params.min_p = 0.013f * static_cast<float>(Between(random, 0, 20));
    CheckDraws(logits, params, 400);
  }
}

TEST(MirostatMatchesAFloat64Reference) {
  Random random(12);
  for (int round = 0; round < 120; ++round) {
    const uint32_t vocab = Between(random, 2, 2500);
    const std::vector<float> logits = Normals(random, vocab, 0.3f + 0.1f * static_cast<float>(Between(random, 0, 40)));
    SampleParams params{0.3f + 0.1f * static_cast<float>(Between(random, 0, 20)), 0, 1, 0, 99, 0};
    params.samplers.mirostat = 1 + round % 2;
    params.samplers.mirostat_mu = 0.13f * static_cast<float>(Between(random, 0, 130)) - 1.0f;
    CheckDraws(logits, params, 400);
  }
}

TEST(MirostatActsAlone) {
  Random random(13);
  Sampler sample(1000);
  for (uint32_t i = 0; i < 40; ++i) {
    const std::vector<float> logits = Normals(random, 1000, 3.0f);
    const int32_t best = sample(logits, kGreedy);
    const Samplers others = {1, 0.5f, 1, 0.1f, 1, 1};
    for (uint32_t version = 1; version <= 2; ++version) {
      Samplers samplers = {0, 0, 0, 0, 0, 0, version, 4};
      const int32_t alone = sample(logits, {1, 0, 1, 0, i, i, samplers});
      const float surprise = sample.surprise;
      samplers = others, samplers.mirostat = version, samplers.mirostat_mu = 4;
      CHECK_EQ(sample(logits, {1, 1, 0.1f, 0.5f, i, i, samplers}), alone);
      CHECK_EQ(sample.surprise, surprise);
      samplers.mirostat_mu = -3;
      CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, samplers}), best);
      CHECK_EQ(sample.surprise, 0.0f);
      CHECK_EQ(sample(logits, {0, 0, 1, 0, i, i, samplers}), best);
      samplers.mirostat_mu = 1e30f;
      CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, samplers}), sample(logits, {1, 0, 1, 0, i, i}));
    }
  }
  // No token, a flat head, one token.
  Sampler few(300);
  const std::vector<float> flat(300, 1.5f);
  CHECK(few(flat, {1, 0, 1, 0, 1, 1, {0, 0, 0, 0, 0, 0, 2, 9}}) != 0);
  CHECK_NEAR(few.surprise, std::log2(300.0), 1e-4);
  CHECK_EQ(few(flat, {1, 0, 1, 0, 1, 1, {0, 0, 0, 0, 0, 0, 1, 5}}), 0);
  CHECK_EQ(few(std::vector<float>(300, NAN), {1, 0, 1, 0, 1, 1, {0, 0, 0, 0, 0, 0, 1, 5}}), 0);
  for (const float temperature : {1e-45f, 1e-30f, 1e-7f}) {  // an infinite exponent, and steep ones
    const std::vector<float> logits = Normals(random, 1000);
    for (uint32_t version = 1; version <= 2; ++version) {
      CHECK_EQ(sample(logits, {temperature, 0, 1, 0, 1, 1, {0, 0, 0, 0, 0, 0, version, 9}}), sample(logits, kGreedy));
    }
  }
  std::vector<float> one(300, -kInf);
  one[200] = 3;
  for (uint32_t version = 1; version <= 2; ++version) {
    CHECK_EQ(few(one, {1, 0, 1, 0, 1, 1, {0, 0, 0, 0, 0, 0, version, 5}}), 200);
    CHECK_EQ(few.surprise, 0.0f);
  }
}

// XTC's number is another than the draw's: it acts as often as it should, whatever is drawn.
TEST(XtcActsInItsShareOfDraws) {
  Sampler sample(300);
  std::vector<float> logits(300, -2.0f);
  logits[7] = 3.5f;
  logits[9] = 3.4f;
  SampleParams params{1, 0, 1, 0, 5, 0, {0, 0, 0.3f, 0.1f, 0, 0}};
  int tops = 0, acted = 0;
  for (int i = 0; i < 4000; ++i) {
    params.counter = static_cast<uint32_t>(i);
    const uint32_t counter[4] = {params.counter, kXtcStream, 0, 0};
    uint32_t random[4];
    Philox4x32(params.seed, counter, random);
    const bool acts = random[0] * 0x1p-32 <= double{0.3f};
    const int32_t token = sample(logits, params);
    CHECK(!acts || token != 7);
    acted += acts;
    tops += token == 7;
    params.samplers.xtc_threshold = 0.51f;  // off
    const int32_t without = sample(logits, params);
    CHECK(acts || token == without);
    params.samplers.xtc_threshold = 0.1f;
  }
  CHECK(acted > 1100 && acted < 1300);
  CHECK(tops > 800 && tops < 1000);  // p(7) is near 0.32, in 0.7 of the draws
}

TEST(SamplersAtTheirEdgesLeaveAToken) {
  Random random(9);
  Sampler sample(1000);
  for (uint32_t i = 0; i < 60; ++i) {
    std::vector<float> logits = Normals(random, 1000, 3.0f);
    const int32_t best = sample(logits, kGreedy);
    CHECK_EQ(sample(logits, {0, 0, 1, 0, i, i, {0.1f, 0.1f, 1, 0.01f, 1, 1}}), best);  // temperature 0 is greedy
    CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, {1e-30f, 0, 0, 0, 0, 0}}), best);
    CHECK_EQ(sample(logits, {1, 1, 1, 0, i, i, {0, 0.5f, 1, 0, 0.5f, 1}}), best);
    const auto worst = std::min_element(logits.begin(), logits.end()) - logits.begin();
    CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, {0, 0, 1, 0, 0, 0}}), worst);  // every token is above 0
    const int32_t free = sample(logits, {1, 0, 1, 0, i, i});
    CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, {1e30f, 0, 0, 0, 0, 0}}), free);
    CHECK_EQ(sample(logits, {1, 0, 1, 0, i, i, {0, 1, 0, 0, 0, 0}}), free);
    // Where one token has all the weight the temperature is the lowest.
    std::vector<float> sure(1000, -100.0f);
    sure[i] = 0;
    CHECK_EQ(sample(sure, {2, 0, 1, 0, i, i, {0, 0, 0, 0, 2, 1}}), static_cast<int32_t>(i));
    for (size_t j = 0; j < logits.size(); j += 3) logits[j] = NAN;
    CHECK(sample(logits, {1, 0, 1, 0, i, i, {1, 0.5f, 1, 0.1f, 1, 1}}) % 3 != 0);
  }
}

TEST(SharedLogAndExpAreThoseOfTheLibrary) {
  Random random(10);
  for (int i = 0; i < 3000; ++i) {
    const double x = std::exp(0.1 * (Between(random, 0, 400) - 200.0)) + 1e-9 * Between(random, 0, 1000);
    CHECK_NEAR(SharedLog(x), std::log(x), 1e-14 * (1 + std::fabs(std::log(x))));
    const double y = -0.01 * Between(random, 0, 5000);
    CHECK_NEAR(SharedExp(y) / std::exp(y), 1.0, 1e-12);
  }
  CHECK_EQ(SharedLog(1), 0.0);
  CHECK_EQ(SharedExp(0), 1.0);
  CHECK_EQ(SharedExp(-1e9), 0.0);
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
