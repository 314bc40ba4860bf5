// The whole step against a float64 forward pass, for each kind of model.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "test_engine.h"
#include "test_reference.h"

namespace kvrm::test {
namespace {

double Largest(const Row64& row) {
  double largest = 0;
  for (double value : row) largest = std::max(largest, std::fabs(value));
  return largest;
}

void CheckLogits(const std::vector<float>& found, const Row64& wanted, double tolerance) {
  CHECK_EQ(found.size(), wanted.size());
  const double limit = tolerance * Largest(wanted);
  for (size_t i = 0; i < found.size(); ++i) CHECK_NEAR(found[i], wanted[i], limit);
}

// Feeds tokens by decode steps alone, then by chunks with a last decode step, and compares logits with
// the reference wherever a step samples.
void CheckLoaded(const TestModel& model, uint32_t length, double tolerance, uint32_t kv_dtype = KVRM_F32) {
  const ModelShape& shape = model.data.shape;
  kvrm_engine_config config = EngineConfig();
  config.kv_dtype = kv_dtype;
  const std::vector<int32_t> tokens = RandomTokens(length, shape.vocab, 5);
  const std::vector<Row64> wanted = ReferenceLogits(model.data, tokens);
  const std::vector<uint32_t> blocks = Contiguous(3, 48);

  TestEngine engine(model, config);
  for (uint32_t t = 0; t < length; ++t) {
    engine.Begin();
    engine.Decode(2, tokens[t], t, blocks);
    engine.Step();
    CheckLogits(engine.Logits(2), wanted[t], tolerance);
  }
  for (uint32_t chunk : {1u, 7u, 32u, 128u}) {
    uint32_t done = 0;
    while (done + 1 < length) {
      const uint32_t count = std::min(chunk, length - 1 - done);
      engine.Begin(count <= 32 ? 1 : 2);
      engine.Prefill(1, {tokens.begin() + done, tokens.begin() + done + count}, done, blocks, true);
      engine.Step();
      done += count;
      CheckLogits(engine.Logits(1), wanted[done - 1], tolerance);
    }
    engine.Begin();
    engine.Decode(1, tokens[done], done, blocks);
    engine.Step();
    CheckLogits(engine.Logits(1), wanted[done], tolerance);
  }
}

void CheckModel(const ModelShape& shape, uint32_t length, double tolerance = 1e-4, uint32_t kv_dtype = KVRM_F32) {
  CheckLoaded(TestModel(shape), length, tolerance, kv_dtype);
}

ModelShape Shape(uint32_t heads, uint32_t kv_heads) {
  ModelShape shape;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  return shape;
}

TEST(LlamaMatchesReference) { CheckModel(Shape(4, 4), 70); }

TEST(GroupedQueriesMatchReference) { CheckModel(Shape(6, 2), 70); }

TEST(OneKvHeadTiedEmbeddingsMatchReference) {
  ModelShape shape = Shape(7, 1);
  shape.tied = true;
  shape.head_dim = 8;
  CheckModel(shape, 50);
}

TEST(BiasMatchesReference) {
  ModelShape shape;
  shape.bias = shape.o_bias = true;
  CheckModel(shape, 50);
}

TEST(QkNormMatchesReference) {
  ModelShape shape;
  shape.qk_norm = true;
  shape.head_dim = 24;  // not hidden / heads
  CheckModel(shape, 50);
}

TEST(WindowsMatchReference) {
  ModelShape shape;
  shape.windows = {0, 9, 40};
  CheckModel(shape, 120);
  shape.windows = {24, 24, 24};
  CheckModel(shape, 120);
  shape.windows = {1, 300, 257};
  CheckModel(shape, 60);
}

TEST(SeveralSplitsMatchReference) {
  ModelShape shape = Shape(4, 2);
  shape.layers = 1;
  shape.windows = {0};
  CheckModel(shape, 600);
  shape.windows = {270};
  CheckModel(shape, 600);
}

TEST(KvInBlocksIsNearTheReference) {
  ModelShape shape = Shape(4, 2);
  shape.head_dim = 64;
  if (!OnGpu()) return CheckModel(shape, 300, 2e-2, KVRM_Q8_0);
  kvrm_engine_config config = EngineConfig();
  config.kv_dtype = KVRM_Q8_0;
  kvrm_engine_info info;
  uint32_t engine = 0;
  CHECK_REFUSED(kvrm_engine_create(TestModel(shape).handle, reinterpret_cast<const uint8_t*>(&config),
                                   reinterpret_cast<uint8_t*>(&info), &engine),
                KVRM_UNSUPPORTED, "kv_dtype is Q8_0, wanted F32, F16, BF16 or F8_E4M3 on a GPU");
}

// Of a kind, widths that no kernel for many numbers at once takes, and widths that all do.
TEST(HalfPrecisionWeightsMatchReference) {
  for (const uint32_t hidden : {48u, 128u}) {
    ModelShape shape;
    if (OnGpu() && hidden != 48) break;
    shape.hidden = hidden;
    shape.intermediate = 2 * hidden - 16 * (hidden == 48);
    shape.interleaved = hidden == 128;
    // A GPU multiplies 16-bit matrices with 16-bit activations.
    shape.dtype = KVRM_F16;
    CheckModel(shape, 40, OnGpu() ? 1e-2 : 1e-4);
    shape.dtype = KVRM_BF16;
    CheckModel(shape, 40, OnGpu() ? 1e-1 : 1e-4);
    if (OnGpu()) continue;
    shape.key_dtype = KVRM_F16;  // takes activations in another form than those in BF16 beside it
    CheckModel(shape, 40);
  }
}

TEST(InterleavedQueriesAndKeysMatchReference) {
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16}) {
    ModelShape shape;
    shape.interleaved = shape.bias = shape.qk_norm = true;
    shape.dtype = dtype;
    CheckModel(shape, 40, dtype != KVRM_F32 && OnGpu() ? 1e-2 : 1e-4);
  }
}

// Activations have 8 bits beside such weights on the CPU, a GPU multiplies with BF16 ones.
TEST(WeightsInBlocksMatchReference) {
  for (const uint32_t dtype : {KVRM_Q8_0, KVRM_Q4_0, KVRM_Q4_K, KVRM_Q5_K, KVRM_Q6_K}) {
    ModelShape shape;
    shape.hidden = 256;
    shape.intermediate = 512;
    shape.heads = 8;
    shape.head_dim = 32;
    shape.dtype = dtype;
    shape.interleaved = shape.bias = dtype == KVRM_Q4_K || dtype == KVRM_Q8_0;
    shape.tied = dtype == KVRM_Q6_K;
    CheckModel(shape, OnGpu() ? 6 : 20, 1e-1);  // short where the GPU is emulated
  }
}

// Logits [positions][vocab] of tokens fed one by one, from time to time with a pause.
std::vector<float> LogitsOf(const TestModel& model, const std::vector<int32_t>& tokens,
                            std::chrono::milliseconds pause) {
  TestEngine engine(model, EngineConfig());
  const std::vector<uint32_t> blocks = Contiguous(3, 48);
  std::vector<float> all;
  for (uint32_t t = 0; t < tokens.size(); ++t) {
    if (t % 8 == 0) std::this_thread::sleep_for(pause);
    engine.Begin();
    engine.Decode(2, tokens[t], t, blocks);
    engine.Step();
    const std::vector<float> logits = engine.Logits(2);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

// On the CPU blocks are packed in the background: before, meanwhile and afterwards the bits are the same.
TEST(BlocksGiveTheSameBitsPackedOrNot) {
  if (OnGpu()) return;
  for (const uint32_t dtype : {KVRM_Q8_0, KVRM_Q4_0, KVRM_Q4_K, KVRM_Q5_K, KVRM_Q6_K}) {
    ModelShape shape;
    shape.hidden = 256;
    shape.intermediate = 512;
    shape.heads = 8;
    shape.head_dim = 32;
    shape.dtype = dtype;
    shape.interleaved = true;
    const std::vector<int32_t> tokens = RandomTokens(40, shape.vocab, 5);
    const std::vector<float> meanwhile = LogitsOf(TestModel(shape), tokens, std::chrono::milliseconds(60));
    setenv("KVRM_PACK", "now", 1);
    const std::vector<float> packed = LogitsOf(TestModel(shape), tokens, std::chrono::milliseconds(0));
    unsetenv("KVRM_PACK");
    CHECK_EQ(meanwhile.size(), packed.size());
    CHECK(std::memcmp(meanwhile.data(), packed.data(), packed.size() * sizeof(float)) == 0);
  }
}

// The head and the layers become blocks when they are loaded; the numbers those hold are the reference's.
TEST(WeightsQuantisedAtLoadMatchReference) {
  if (OnGpu()) return;  // csrc/cuda/weights_test.cc has a GPU's
  for (const auto& [quantize, dtype] : {std::pair{KVRM_QUANTIZE_INT8, KVRM_Q8_0}, {KVRM_QUANTIZE_INT4, KVRM_Q4_0}}) {
    ModelShape shape;
    shape.hidden = 128;
    shape.intermediate = 96;
    shape.heads = 4;
    shape.head_dim = 32;
    shape.dtype = KVRM_BF16;
    shape.interleaved = true;
    ModelData data(shape);
    data.config.quantize = quantize;
    for (auto& [key, values] : data.weights) {
      if (key.first == KVRM_EMBED || values.size() <= 128) continue;
      std::vector<uint8_t> blocks(RowBytes(dtype, values.size()));
      Quantize(dtype, values.data(), values.size(), blocks.data());
      Dequantize(dtype, blocks.data(), values.size(), values.data());
    }
    const TestModel model(std::move(data));
    CheckLoaded(model, 20, 5e-2);
  }
}

// Numbers that become BF16 when they are loaded; activations are rounded to it where they meet them, as on a GPU.
TEST(WeightsThatBecomeBf16MatchReference) {
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    ModelShape shape;
    shape.hidden = 128;
    shape.intermediate = 96;
    shape.heads = 4;
    shape.head_dim = 32;
    shape.dtype = dtype;
    shape.interleaved = dtype != KVRM_F16;
    ModelData data(shape);
    data.config.quantize = KVRM_QUANTIZE_BF16;
    for (auto& [key, values] : data.weights) {
      if (key.first == KVRM_EMBED || values.size() <= 128) continue;
      std::vector<uint16_t> narrow(values.size());
      Narrow(values.data(), values.size(), KVRM_BF16, narrow.data());
      Widen(narrow.data(), values.size(), KVRM_BF16, values.data());
    }
    const TemporaryFile file(data.file);
    uint32_t handle = 0;
    if (data.Load(file.path(), &handle) != KVRM_OK) {
      CHECK_REFUSED(data.Load(file.path(), &handle), KVRM_UNSUPPORTED,
                    OnGpu() ? "wanted NONE, FP8, INT8 or INT4 on a GPU"
                            : "wanted NONE, INT8 or INT4 on a processor without AVX512_BF16");
      continue;
    }
    kvrm_model_free(handle);
    const TestModel model(std::move(data));
    CheckLoaded(model, 40, 1e-1);
  }
}

TEST(HalfPrecisionKvIsClose) {
  CheckModel(ModelShape(), 40, 2e-2, KVRM_F16);
  CheckModel(ModelShape(), 40, 1e-1, KVRM_BF16);
}

// What cannot be seen any more need not be in the groups.
TEST(WindowedGroupsMayStartLate) {
  ModelShape shape;
  shape.windows = {24, 20, 24};
  const TestModel model(shape);
  TestEngine engine(model, EngineConfig());
  const std::vector<int32_t> tokens = RandomTokens(300, shape.vocab, 5);
  const std::vector<Row64> wanted = ReferenceLogits(model.data, tokens);
  // A ring of four blocks: each is reused as soon as nothing sees it.
  std::vector<uint32_t> blocks;
  for (uint32_t l = 0; l < 20; ++l) blocks.push_back(10 + l % 4);
  for (uint32_t t = 0; t < 300; ++t) {
    engine.Begin();
    engine.Decode(0, tokens[t], t, blocks, 0, {}, t < 24 ? 0 : (t - 23) / 16);
    engine.Step();
    CheckLogits(engine.Logits(0), wanted[t], 1e-4);
  }
}

TEST(LogprobsMatchReference) {
  const TestModel model{ModelShape()};
  TestEngine engine(model, EngineConfig());
  const std::vector<int32_t> tokens = RandomTokens(20, 101, 5);
  const std::vector<Row64> wanted = ReferenceLogits(model.data, tokens);
  auto log_softmax = [&](size_t t, int32_t token) {
    double sum = 0;
    for (double logit : wanted[t]) sum += std::exp(logit);
    return wanted[t][size_t(token)] - std::log(sum);
  };
  engine.Begin(1);
  Sampling sampling;
  sampling.logprobs = 1 + 5;
  engine.Prefill(3, {tokens.begin(), tokens.begin() + 8}, 0, Contiguous(0, 2), false);
  engine.Prefill(1, tokens, 0, Contiguous(8, 2), true, 0, sampling);
  engine.segment(1).flags = KVRM_SEGMENT_PROMPT_LOGPROBS;
  engine.segment(1).top_logprobs = 3;
  for (uint32_t t = 0; t + 1 < 20; ++t) engine.targets()[8 + t] = tokens[t + 1];
  engine.Step();

  CHECK_EQ(engine.result().rows, 28u);
  CHECK_EQ(engine.result().num_rows, 28u);
  for (uint32_t t = 0; t < 8; ++t) CHECK_EQ(engine.row(t).flags, 0u);
  for (uint32_t t = 0; t < 20; ++t) {
    const kvrm_row_result& row = engine.row(8 + t);
    CHECK_EQ(row.flags, t + 1 < 20 ? KVRM_RESULT_SAMPLED : 0u);
    if (t + 1 < 20) CHECK_NEAR(row.logprob, log_softmax(t, tokens[t + 1]), 1e-3);
    CHECK_EQ(row.num_tops, 3u);
    const kvrm_top* tops = engine.row_tops(8 + t);
    const Row64& logits = wanted[t];
    CHECK_EQ(tops[0].token, int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    for (uint32_t i = 0; i < 3; ++i) CHECK_NEAR(tops[i].logprob, log_softmax(t, tops[i].token), 1e-3);
    CHECK(tops[0].logprob >= tops[1].logprob && tops[1].logprob >= tops[2].logprob);
  }
  const kvrm_slot_result& sampled = engine.sampled(1);
  CHECK_EQ(sampled.flags, KVRM_RESULT_SAMPLED);
  CHECK_EQ(sampled.num_tops, 5u);
  CHECK_EQ(sampled.token, engine.tops(1)[0].token);
  CHECK_NEAR(sampled.logprob, log_softmax(19, sampled.token), 1e-3);
  CHECK_EQ(engine.sampled(3).flags, 0u);
}

}  // namespace
}  // namespace kvrm::test
