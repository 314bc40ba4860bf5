// How long sampling takes by what a row asks for, as lines of JSON. gb_per_s counts each logit once: it is to
// be held against the bandwidth of the memory.
//
//   sampling_bench [substring of a line's name]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "../common/samplers.h"
#include "step_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Array;
using test::Succeed;

#ifdef KVRM_EMULATOR  // shows that it runs
constexpr int kRepeats = 1;
constexpr uint32_t kVocabs[] = {3000}, kRows[] = {1, 3};
#else
constexpr int kRepeats = 15;
constexpr uint32_t kVocabs[] = {32000, 128256, 262144}, kRows[] = {1, 32, 256};
#endif

struct Request {
  const char* name;
  float temperature;
  uint32_t top_k;
  float top_p, min_p;
  uint32_t logprobs;
  bool adjusts;
  Samplers samplers = {};
};
constexpr Request kRequests[] = {{"greedy", 0, 0, 1, 0, 0, false},
                                 {"free", 1, 0, 1, 0, 0, false},
                                 {"top-k 50", 1, 50, 1, 0, 0, false},
                                 {"top-p 0.95", 1, 0, 0.95f, 0, 0, false},
                                 {"top-k 20, top-p 0.95", 0.6f, 20, 0.95f, 0, 0, false},
                                 {"top-k 5000", 1, 5000, 1, 0, 0, false},
                                 {"min-p 0.05", 1, 0, 1, 0.05f, 0, false},
                                 {"typical 0.9", 1, 0, 1, 0, 0, false, {0, 0.9f, 0, 0, 0, 0}},
                                 {"XTC", 1, 0, 1, 0, 0, false, {0, 0, 1, 0.1f, 0, 0}},
                                 {"greedy, penalties", 0, 0, 1, 0, 0, true},
                                 {"greedy, 20 log-probabilities", 0, 0, 1, 0, 21, false}};

// Rows of logits; sd: 8 for a model that is sure of itself, 2 for one that is not.
std::vector<float> Logits(uint32_t rows, uint32_t vocab, float sd) {
  test::Random random(rows + vocab);
  std::normal_distribution<float> normal(0, sd);
  std::vector<float> few(100003);
  for (float& x : few) x = normal(random);
  std::vector<float> logits(size_t{rows} * vocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = few[i * 7919 % few.size()];
  return logits;
}

// The median time of the work, in us, after one that warms up.
double Median(const std::function<void()>& work) {
  cudaEvent_t start = nullptr, end = nullptr;
  Succeed(cudaEventCreateWithFlags(&start, cudaEventDefault), "create an event");
  Succeed(cudaEventCreateWithFlags(&end, cudaEventDefault), "create an event");
  std::vector<float> times;
  for (int i = 0; i <= kRepeats; ++i) {
    Succeed(cudaEventRecord(start), "record");
    work();
    Succeed(cudaEventRecord(end), "record");
    test::Finish();
    float ms = 0;
    Succeed(cudaEventElapsedTime(&ms, start, end), "elapsed time");
    if (i != 0) times.push_back(1e3f * ms);
  }
  Succeed(cudaEventDestroy(start), "destroy an event");
  Succeed(cudaEventDestroy(end), "destroy an event");
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void Measure(const Request& request, uint32_t rows, uint32_t vocab, float sd) {
  kvrm_slot slot = {};
  slot.flags = KVRM_SLOT_DECODE | (request.adjusts ? KVRM_SLOT_ADJUST : 0);
  slot.temperature = request.temperature;
  slot.top_k = request.top_k;
  slot.top_p = request.top_p;
  slot.min_p = request.min_p;
  slot.typical_p = request.samplers.typical_p;
  slot.xtc_probability = request.samplers.xtc_probability;
  slot.xtc_threshold = request.samplers.xtc_threshold;
  slot.logprobs = request.logprobs;
  slot.repetition_penalty = 1.1f;
  std::vector<kvrm_slot> slots(rows, slot);
  std::vector<HeadRow> heads;
  for (uint32_t i = 0; i < rows; ++i) {
    slots[i].seed_lo = i;
    heads.push_back({i, i, -1, request.logprobs == 0 ? 0 : request.logprobs - 1});
  }
  StepCounts counts = {};
  counts.samples = rows;
  Array<float> logits(Logits(rows, vocab, sd));
  Array<kvrm_slot> slot_array(slots);
  Array<HeadRow> samples(heads);
  Array<StepCounts> step_counts(std::vector<StepCounts>{counts});
  Array<int32_t> last_token(rows);
  Array<uint16_t> token_counts(size_t{rows} * vocab, 0);
  Array<uint32_t> bias_count(rows, 0);
  Array<kvrm_slot_result> results(rows);
  Array<kvrm_top> tops(size_t{rows} * KVRM_MAX_TOP_LOGPROBS);
  Array<uint8_t> scratch(SampleScratchBytes(rows, vocab));
  StepView step = {};
  step.slots = rows;
  step.vocab = vocab;
  step.mask_words = (vocab + 31) / 32;
  step.slot = slot_array.data();
  step.counts = step_counts.data();
  step.samples = samples.data();
  step.last_token = last_token.data();
  step.token_counts = token_counts.data();
  step.bias_count = bias_count.data();
  step.slot_results = results.data();
  step.slot_tops = tops.data();
  const LaunchContext context = test::Context();
  const double us = Median([&] { LaunchSample(context, step, logits.data(), scratch.data()); });
  std::printf(
      "{\"name\": \"sample\", \"request\": \"%s\", \"rows\": %u, \"vocab\": %u, \"sd\": %g, \"us\": %.1f, "
      "\"gb_per_s\": %.1f}\n",
      request.name, rows, vocab, sd, us, 4.0 * rows * vocab / us / 1e3);
}

}  // namespace
}  // namespace kvrm::cuda

int main(int argc, char** argv) {
  using namespace kvrm::cuda;
  for (const Request& request : kRequests) {
    if (argc > 1 && !std::strstr(request.name, argv[1])) continue;
    for (const uint32_t vocab : kVocabs) {
      for (const uint32_t rows : kRows) {
        for (const float sd : {2.0f, 8.0f}) Measure(request, rows, vocab, sd);
      }
    }
  }
  return 0;
}
