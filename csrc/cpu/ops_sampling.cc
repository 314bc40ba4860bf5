// Sampling. The passes over the vocabulary are in sampling-inl.h, which also fixes the order of sums.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "common/philox.h"
#include "dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ops_sampling.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "samplers-inl.h"

#if HWY_ONCE
namespace kvrm::cpu {

KVRM_EXPORT(ChunkMaxima);
KVRM_EXPORT(Weigh);
KVRM_EXPORT(KeepUpTo);
KVRM_EXPORT(Gather);
KVRM_EXPORT(CountTokens);
KVRM_EXPORT(SumGaps);
KVRM_EXPORT(SumSquares);
KVRM_EXPORT(SumWeightedGaps);

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
// Top-p looks for its tokens among so many best ones before it takes the distribution for a broad one.
constexpr size_t kHead = 256;

// The caller's scratch. Chunks cover the vocabulary, rounded up.
struct Scratch {
  Scratch(void* memory, uint32_t vocab) : chunks((vocab + kChunk - 1) / kChunk) {
    weights = static_cast<float*>(memory);
    sums = weights + chunks * kChunk;
    maxima = sums + chunks;
    order = maxima + chunks;
    row = order + chunks;
    candidates = reinterpret_cast<Candidate*>(row + chunks * kChunk);
  }

  size_t chunks;
  float* weights;         // [chunks * kChunk]
  float* sums;            // [chunks]
  float* maxima;          // [chunks]
  float* order;           // [chunks]: maxima, rearranged
  float* row;             // [vocab]: logits that samplers take tokens out of
  Candidate* candidates;  // [vocab]
};

// The best tokens, found without sorting the vocabulary. The n-th largest of the chunks' maxima bounds
// the n-th best logit from below, so the logits at or above it are a complete head of the order, mostly
// hardly longer than n.
class BestFirst {
 public:
  BestFirst(const float* logits, uint32_t vocab, const Scratch& scratch)
      : logits_(logits), vocab_(vocab), scratch_(scratch) {}

  // Makes at least the first min(n, vocab) available.
  void Reach(size_t n) {
    n = std::min<size_t>(n, vocab_);
    if (sorted_ >= n) return;
    if (!complete_ && gathered_ < n) GatherHead(n);
    Candidate* all = scratch_.candidates;
    std::nth_element(all + sorted_, all + (n - 1), all + gathered_, Before);
    std::sort(all + sorted_, all + n, Before);
    sorted_ = n;
  }

  const Candidate& operator[](size_t i) const { return scratch_.candidates[i]; }
  size_t sorted() const { return sorted_; }

 private:
  void GatherHead(size_t n) {
    float bound = kNone;
    if (n <= scratch_.chunks) {
      std::copy(scratch_.maxima, scratch_.maxima + scratch_.chunks, scratch_.order);
      std::nth_element(scratch_.order, scratch_.order + (n - 1), scratch_.order + scratch_.chunks, std::greater<>());
      bound = scratch_.order[n - 1];
    }
    gathered_ = KVRM_CALL(Gather)(logits_, vocab_, bound, scratch_.candidates);
    complete_ = bound == kNone;
    sorted_ = 0;
  }

  const float* logits_;
  uint32_t vocab_;
  const Scratch& scratch_;
  size_t gathered_ = 0;  // candidates in scratch, a complete head of the order
  size_t sorted_ = 0;    // of these, sorted
  bool complete_ = false;
};

int32_t Greedy(const float* logits, uint32_t vocab, float max, const float* maxima) {
  if (max == kNone) return 0;  // all are -inf or NaN: any valid id
  size_t i = 0;
  while (maxima[i / kChunk] != max) i += kChunk;
  while (i + 1 < vocab && logits[i] != max) ++i;
  return static_cast<int32_t>(i);
}

// The order's end: nothing comes after it.
constexpr Candidate Nobody(uint32_t vocab) { return {kNone, vocab}; }

// Weights as top-p sums them: whole multiples of a power of two so small that the units of a whole
// vocabulary fit into 63 bits. Integers have one sum, in whatever order they are added.
class Units {
 public:
  explicit Units(uint32_t vocab) : scale_(std::ldexp(1.0f, 63 - std::bit_width(vocab))) {}
  int64_t operator()(float weight) const { return static_cast<int64_t>(weight * scale_); }  // rounds down
  // The least sum that reaches p of a total that is in weights, or in units.
  int64_t Wanted(float p, double total) const { return static_cast<int64_t>(p * total * scale_); }
  static int64_t Wanted(float p, int64_t total) { return static_cast<int64_t>(p * static_cast<double>(total)); }

 private:
  float scale_;
};

// The token where the units, best first from `before` on, reach `wanted`. all [count] must reach it.
Candidate Crossing(Candidate* all, size_t count, const float* weights, const Units& units, int64_t before,
                   int64_t wanted) {
  size_t low = 0, high = count;
  while (high - low > 32) {
    const size_t middle = low + (high - low) / 2;
    std::nth_element(all + low, all + middle, all + high, Before);
    int64_t half = before;
    for (size_t i = low; i < middle; ++i) half += units(weights[all[i].id]);
    if (half >= wanted) {
      high = middle;
    } else {
      before = half;
      low = middle;
    }
  }
  std::sort(all + low, all + high, Before);
  for (size_t i = low; i < high; ++i) {
    before += units(weights[all[i].id]);
    if (before >= wanted) return all[i];
  }
  return all[high - 1];
}

// Top-p of a broad distribution, in linear time: units are summed by the weight's magnitude (exponent and
// five bits of mantissa), and only the tokens of the magnitude where the sum is reached are put in order.
// A higher logit never has a lower magnitude: where Exp steps back by a bit, it is not at such an edge.
Candidate BroadNucleus(const float* logits, uint32_t vocab, const Scratch& scratch, const Units& units,
                       int64_t wanted) {
  const auto magnitude = [](float weight) { return std::bit_cast<uint32_t>(weight) >> 18; };
  constexpr uint32_t kTop = std::bit_cast<uint32_t>(1.0f) >> 18;  // no weight exceeds 1
  int64_t sums[kTop + 1] = {};
  for (uint32_t i = 0; i < vocab; ++i) sums[magnitude(scratch.weights[i])] += units(scratch.weights[i]);
  int64_t before = 0;
  uint32_t at = kTop;
  while (at > 0 && before + sums[at] < wanted) before += sums[at--];
  if (at == 0) return Nobody(vocab);
  size_t count = 0;
  for (uint32_t i = 0; i < vocab; ++i) {
    if (magnitude(scratch.weights[i]) == at) scratch.candidates[count++] = {logits[i], i};
  }
  return Crossing(scratch.candidates, count, scratch.weights, units, before, wanted);
}

// The last token that top-k and top-p leave, in the order best first; Nobody when they are off.
// total: of all weights.
Candidate LastKept(const float* logits, uint32_t vocab, const Scratch& scratch, const SampleParams& params,
                   double total) {
  BestFirst best(logits, vocab, scratch);
  const Units units(vocab);
  const bool by_k = params.top_k != 0 && params.top_k < vocab;
  if (by_k) best.Reach(params.top_k);
  if (!(params.top_p < 1.0f)) return by_k ? best[params.top_k - 1] : Nobody(vocab);

  int64_t wanted = units.Wanted(params.top_p, total);
  if (by_k) {
    int64_t kept = 0;
    for (size_t i = 0; i < params.top_k; ++i) kept += units(scratch.weights[best[i].id]);
    wanted = Units::Wanted(params.top_p, kept);
  }
  const size_t limit = by_k ? params.top_k : std::min<size_t>(vocab, kHead);
  int64_t sum = 0;
  for (size_t i = 0; i < limit; ++i) {
    if (i >= best.sorted()) best.Reach(std::min(limit, std::max<size_t>(32, 8 * i)));
    sum += units(scratch.weights[best[i].id]);
    if (sum >= wanted) return best[i];
  }
  if (by_k) return best[limit - 1];
  return limit < vocab ? BroadNucleus(logits, vocab, scratch, units, wanted) : Nobody(vocab);
}

// The first token whose cumulative weight, ids ascending, exceeds u * total.
int32_t Draw(const Scratch& scratch, uint32_t vocab, double total, double u) {
  const double target = u * total;
  double before = 0;
  size_t chunk = 0;
  while (chunk + 1 < scratch.chunks && before + scratch.sums[chunk] <= target) before += scratch.sums[chunk++];
  int32_t last = 0;  // the last token with weight: the chunk's sum, rounded otherwise, may exceed theirs
  const size_t end = std::min<size_t>((chunk + 1) * kChunk, vocab);
  for (size_t i = chunk * kChunk; i < end; ++i) {
    if (scratch.weights[i] <= 0) continue;
    last = static_cast<int32_t>(i);
    before += scratch.weights[i];
    if (before > target) break;
  }
  return last;
}

double Random(const SampleParams& params, uint32_t stream) {
  const uint32_t counter[4] = {params.counter, stream, 0, 0};
  uint32_t random[4];
  Philox4x32(params.seed, counter, random);
  return random[0] * 0x1p-32;
}

// What llama.cpp's samplers leave of a row: they take tokens out of a copy of it, by making logits -inf.
class Shrinking {
 public:
  Shrinking(const float* logits, uint32_t vocab, const SampleParams& params, float max, const Scratch& scratch)
      : row_(scratch.row), vocab_(vocab), params_(params), max_(max), scratch_(scratch) {
    std::copy(logits, logits + vocab, row_);
  }

  int32_t Draw() {
    const Samplers& samplers = params_.samplers;
    if (samplers.top_n_sigma > 0) KeepTopSigmas();
    if (samplers.typical_p > 0) {
      if (params_.top_k != 0 && params_.top_k < vocab_) {
        SampleParams only_k = params_;
        only_k.top_p = 1;
        DropAfter(LastKept(row_, vocab_, scratch_, only_k, 0));
      }
      KeepTypical();
    }
    float temperature = params_.temperature;
    Weigh(temperature);
    const Candidate last = LastKept(row_, vocab_, scratch_, params_, total_);
    const float* weights = scratch_.weights;
    const float least = std::min(params_.min_p, 1.0f);
    Drop([&](float logit, uint32_t i) { return weights[i] < least || Before(last, {logit, i}); });
    if (HasXtc(samplers) && Random(params_, kXtcStream) <= double{samplers.xtc_probability}) DropTopChoices();
    if (samplers.dynatemp_range > 0) {
      Weigh(1);
      const double left = KVRM_CALL(CountTokens)(row_, vocab_);
      temperature = DynamicTemperature(temperature, samplers, total_, MeanGap(), left);
    }
    Weigh(temperature);
    return cpu::Draw(scratch_, vocab_, total_, Random(params_, kDrawStream));
  }

 private:
  // Weights and their total. The best logit is above -inf.
  void Weigh(float temperature) {
    total_ = KVRM_CALL(Weigh)(row_, vocab_, max_, 1.0f / temperature, scratch_.weights, scratch_.sums);
  }

  // Of the weights.
  float MeanGap() const {
    return static_cast<float>(KVRM_CALL(SumWeightedGaps)(row_, vocab_, max_, scratch_.weights) / total_);
  }

  // Takes the tokens out for which drop(logit, id) holds; at least one has to stay.
  template <class Test>
  void Drop(const Test& drop) {
    for (uint32_t i = 0; i < vocab_; ++i) {
      if (!(row_[i] > kNone) || drop(row_[i], i)) row_[i] = kNone;  // also NaN
    }
    max_ = KVRM_CALL(ChunkMaxima)(row_, vocab_, scratch_.maxima);
  }
  void DropAfter(const Candidate& last) {
    Drop([&](float logit, uint32_t i) { return Before(last, {logit, i}); });
  }

  void KeepTopSigmas() {
    const double count = KVRM_CALL(CountTokens)(row_, vocab_);
    const float mean = static_cast<float>(KVRM_CALL(SumGaps)(row_, vocab_, max_) / count);
    const double variance = KVRM_CALL(SumSquares)(row_, vocab_, max_, mean) / count;
    const float least = -(params_.samplers.top_n_sigma * static_cast<float>(std::sqrt(variance)));
    Drop([&](float logit, uint32_t) { return Gap(logit, max_) < least; });
  }

  // C. Meister, T. Pimentel, G. Wiher, R. Cotterell, "Locally typical sampling", 2022.
  void KeepTypical() {
    Weigh(1);
    const Units units(vocab_);
    const float mean = MeanGap();
    int64_t all = 0;
    Candidate* candidates = scratch_.candidates;
    for (uint32_t i = 0; i < vocab_; ++i) {
      const float logit = row_[i] > kNone ? row_[i] : kNone;
      candidates[i] = {-Atypicality(Gap(logit, max_), mean), i};  // best first is most typical first
      all += units(scratch_.weights[i]);
    }
    const int64_t wanted = TypicalUnits(params_.samplers.typical_p, all);
    const Candidate last = Crossing(candidates, vocab_, scratch_.weights, units, 0, wanted);
    Drop([&](float logit, uint32_t i) { return Before(last, {-Atypicality(Gap(logit, max_), mean), i}); });
  }

  void DropTopChoices() {
    Weigh(1);
    const float least = static_cast<float>(double{params_.samplers.xtc_threshold} * total_);
    Candidate last = {std::numeric_limits<float>::infinity(), 0};
    for (uint32_t i = 0; i < vocab_; ++i) {
      const Candidate token = {row_[i], i};
      if (row_[i] > kNone && scratch_.weights[i] >= least && Before(last, token)) last = token;
    }
    Drop([&](float logit, uint32_t i) { return Before({logit, i}, last); });
  }

  float* row_;
  uint32_t vocab_;
  const SampleParams& params_;
  float max_;
  const Scratch& scratch_;
  double total_ = 0;
};

// Draws among what mirostat leaves.
int32_t DrawMirostat(const float* logits, uint32_t vocab, const SampleParams& params, float max, const Scratch& scratch,
                     float& surprise) {
  const float inverse = 1.0f / params.temperature, mu = params.samplers.mirostat_mu;
  double total = KVRM_CALL(Weigh)(logits, vocab, max, inverse, scratch.weights, scratch.sums);
  Candidate last = Nobody(vocab);
  float least = 0;
  if (params.samplers.mirostat == 2) {
    least = LeastWeight(mu, total);
  } else {
    BestFirst best(logits, vocab, scratch);
    best.Reach(kZipfTokens);
    ZipfFit fit;
    for (uint32_t i = 1; i < std::min(kZipfTokens, vocab) && best[i].logit > kNone; ++i) {
      fit.Add(i, Gap(best[i - 1].logit, best[i].logit), inverse);
    }
    const uint32_t count = MirostatCount(fit, mu, vocab);
    best.Reach(count);
    if (count < vocab) last = best[count - 1];
  }
  total = KVRM_CALL(KeepUpTo)(logits, vocab, last, least, scratch.weights, scratch.sums);
  const int32_t token = Draw(scratch, vocab, total, Random(params, kDrawStream));
  surprise = SurpriseOf(total, scratch.weights[token]);
  return token;
}

}  // namespace

size_t SampleScratchBytes(uint32_t vocab) {
  const size_t chunks = (vocab + kChunk - 1) / kChunk;
  const size_t bytes = chunks * (2 * kChunk + 3) * sizeof(float) + vocab * sizeof(Candidate);
  return (bytes + 63) / 64 * 64;
}

float LogSumExp(const float* logits, uint32_t vocab) {
  const float max = KVRM_CALL(ChunkMaxima)(logits, vocab, nullptr);
  if (max == kNone) return kNone;
  const double sum = KVRM_CALL(Weigh)(logits, vocab, max, 1.0f, nullptr, nullptr);
  return static_cast<float>(max + std::log(sum));
}

int32_t Sample(const float* logits, uint32_t vocab, const SampleParams& params, void* memory, float* surprise) {
  const Scratch scratch(memory, vocab);
  const float max = KVRM_CALL(ChunkMaxima)(logits, vocab, scratch.maxima);
  if (!(params.temperature > 0) || max == kNone) return Greedy(logits, vocab, max, scratch.maxima);

  float unheard;
  if (params.samplers.mirostat != 0) {
    return DrawMirostat(logits, vocab, params, max, scratch, surprise == nullptr ? unheard : *surprise);
  }
  if (AnySampler(params.samplers)) return Shrinking(logits, vocab, params, max, scratch).Draw();

  double total = KVRM_CALL(Weigh)(logits, vocab, max, 1.0f / params.temperature, scratch.weights, scratch.sums);
  const Candidate last = LastKept(logits, vocab, scratch, params, total);
  if (last.id < vocab || params.min_p > 0) {
    // The heaviest token weighs 1, so min-p is a bound on the weight, and 1 the most that it may be.
    total = KVRM_CALL(KeepUpTo)(logits, vocab, last, std::min(params.min_p, 1.0f), scratch.weights, scratch.sums);
  }
  return Draw(scratch, vocab, total, Random(params, kDrawStream));
}

void TopLogprobs(const float* logits, uint32_t vocab, float log_sum_exp, uint32_t n, kvrm_top* out, void* memory) {
  const Scratch scratch(memory, vocab);
  KVRM_CALL(ChunkMaxima)(logits, vocab, scratch.maxima);
  BestFirst best(logits, vocab, scratch);
  if (n == 0) return;
  best.Reach(n);
  for (uint32_t i = 0; i < n; ++i) {
    if (i < vocab) {
      out[i] = {static_cast<int32_t>(best[i].id), best[i].logit - log_sum_exp};
    } else {
      out[i] = {-1, kNone};
    }
  }
}

void Philox4x32(uint64_t seed, const uint32_t counter[4], uint32_t out[4]) { PhiloxRounds(seed, counter, out); }

}  // namespace kvrm::cpu
#endif  // HWY_ONCE
