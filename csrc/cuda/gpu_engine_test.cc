// What only the GPU's engine promises: graphs captured once, few kernels, no step that waits for the host,
// memory that is asked for before it is taken.
#include <limits>

#include "../tests/test_engine.h"
#include "device.h"
#include "executor.h"

namespace kvrm::test {
namespace {

double Counter(const TestEngine& engine, kvrm_counter which) {
  double counters[KVRM_COUNTER_COUNT] = {};
  CHECK_OK(kvrm_counters(engine.handle, counters, KVRM_COUNTER_COUNT));
  return counters[which];
}

ModelShape Bf16Shape() {
  ModelShape shape;
  shape.hidden = 128;
  shape.intermediate = 192;
  shape.layers = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  shape.vocab = 160;
  shape.dtype = KVRM_BF16;
  shape.windows = {0, 0};
  return shape;
}

TEST(GpuEngineCapturesEachShapeOnceAndAScoredOneWhenItIsMet) {
  const TestModel model{ModelShape()};
  TestEngine engine(model, EngineConfig());
  CHECK_EQ(Counter(engine, KVRM_COUNT_SHAPES_PREPARED), 3.0);
  const std::vector<uint32_t> blocks = Contiguous(3, 20);
  const std::vector<int32_t> prompt = RandomTokens(20, 101, 1);
  uint32_t position = 0;
  for (int round = 0; round < 3; ++round) {
    for (uint32_t shape = 1; shape <= 2; ++shape) {
      engine.Begin(shape);
      engine.Prefill(0, prompt, position, blocks, true);
      engine.Step();
      position += 20;
      engine.Begin();
      engine.Decode(0, -1, position++, blocks, 1);
      engine.Step();
    }
  }
  CHECK_EQ(Counter(engine, KVRM_COUNT_SHAPES_PREPARED), 3.0);
  for (int round = 0; round < 2; ++round) {
    engine.Begin(1);
    engine.Prefill(1, prompt, 0, Contiguous(40, 20), true);
    engine.segment(0).flags = KVRM_SEGMENT_PROMPT_LOGPROBS;
    engine.Step();
    CHECK_EQ(Counter(engine, KVRM_COUNT_SHAPES_PREPARED), 4.0);
  }
}

std::shared_ptr<Model> LoadForExecutor(const ModelData& data) {
  const TemporaryFile file(data.file);
  std::shared_ptr<Model> model;
  CHECK_OK(
      LoadModel(data.config, data.tensors, {file.path()}, data.inv_freq.data(), data.shape.windows.data(), &model));
  return model;
}

TEST(GraphsHaveSevenKernelsALayer) {
  size_t nodes[2][3] = {};
  for (uint32_t variant = 0; variant < 2; ++variant) {
    ModelShape shape = Bf16Shape();
    shape.layers = 1 + 3 * variant;
    shape.windows.assign(shape.layers, 0);
    const std::shared_ptr<Model> model = LoadForExecutor(ModelData(shape));
    std::unique_ptr<cuda::Executor> executor;
    kvrm_engine_config config = EngineConfig();
    config.kv_dtype = KVRM_BF16;
    CHECK_OK(cuda::Executor::Create(model, config, &executor));
    for (uint32_t i = 0; i < 3; ++i) nodes[variant][i] = executor->nodes(i);
  }
  for (uint32_t i = 0; i < 3; ++i) {
    CHECK(nodes[0][i] > 7);
    CHECK_EQ(nodes[1][i] - nodes[0][i], size_t{3 * 7});
  }
}

// Greedy answer of 12 tokens; ahead: steps that are committed before the first is waited for.
std::vector<int32_t> Answer(const TestModel& model, uint32_t ahead) {
  kvrm_engine_config config = EngineConfig();
  config.kv_dtype = KVRM_BF16;
  TestEngine engine(model, config);
  const std::vector<uint32_t> blocks = {7, 3, 4, 50, 51};
  engine.Begin(1);
  engine.Prefill(2, RandomTokens(30, 160, 5), 0, blocks, true);
  engine.Commit();
  std::vector<int32_t> tokens;
  uint32_t waiting = 1;
  for (uint32_t i = 0; i < 12; ++i) {
    for (; waiting < ahead && i + waiting < 12; ++waiting) {
      engine.Begin();
      engine.Decode(2, -1, 29 + i + waiting, blocks, i + waiting);
      engine.Commit();
    }
    engine.Wait();
    tokens.push_back(engine.sampled(2).token);
    if (--waiting == 0 && i + 1 < 12) {
      engine.Begin();
      engine.Decode(2, -1, 30 + i, blocks, i + 1);
      engine.Commit();
      waiting = 1;
    }
  }
  return tokens;
}

TEST(StepsInFlightFeedEachOtherOnTheDevice) {
  const TestModel model{Bf16Shape()};
  const std::vector<int32_t> one_by_one = Answer(model, 1);
  CHECK(Answer(model, 2) == one_by_one);
  CHECK(Answer(model, 3) == one_by_one);
}

TEST(BlocksFullOfNanNextDoorDoNotShow) {
  const TestModel model{Bf16Shape()};
  kvrm_engine_config config = EngineConfig();
  config.kv_dtype = KVRM_BF16;
  std::vector<float> logits[2];
  for (int poisoned = 0; poisoned < 2; ++poisoned) {
    TestEngine engine(model, config);
    std::vector<uint8_t> pool(size_t{config.num_blocks} * engine.info.block_bytes, poisoned ? 0xff : 0);
    CHECK_OK(kvrm_import_blocks(engine.handle, 0, config.num_blocks, pool.data(), uint32_t(pool.size())));
    const std::vector<uint32_t> blocks = {9, 20, 21, 5};
    engine.Begin(1);
    engine.Prefill(1, RandomTokens(31, 160, 9), 0, blocks, false);
    engine.Step();
    engine.Begin();
    engine.Decode(1, 3, 31, blocks);
    engine.Decode(3, 4, 0, {40});
    engine.Step();
    logits[poisoned] = engine.Logits(1);
    for (float logit : logits[poisoned]) CHECK(std::isfinite(logit));
  }
  CHECK(logits[0] == logits[1]);
}

// Rows of padding and a padded window, over a pool full of NaN.
TEST(PaddingDoesNotShow) {
  ModelShape windowed;  // F32
  windowed.windows = {0, 40, 300};
  for (const ModelShape& shape : {Bf16Shape(), windowed}) {
    const TestModel model{shape};
    kvrm_engine_config config = EngineConfig();
    config.kv_dtype = shape.dtype;
    std::vector<std::vector<float>> logits[2];
    for (int padded = 0; padded < 2; ++padded) {
      TestEngine engine(model, config);
      const std::vector<uint8_t> pool(size_t{config.num_blocks} * engine.info.block_bytes, 0xff);
      CHECK_OK(kvrm_import_blocks(engine.handle, 0, config.num_blocks, pool.data(), uint32_t(pool.size())));
      const std::vector<uint32_t> blocks = Contiguous(20, 32), others = Contiguous(60, 32);
      engine.Begin(2);
      engine.Prefill(1, RandomTokens(50, 100, 9), 0, blocks, true, 0, {}, 0, padded * 14);
      engine.Step();
      logits[padded].push_back(engine.Logits(1));
      for (uint32_t i = 0; i < 2; ++i) {
        engine.Begin();
        if (padded) engine.PadWindow(i == 0 ? 64 : 301);
        engine.Decode(1, -1, 50 + i, blocks, 1 + i);
        engine.Decode(3, 4, i, others);
        engine.Step();
        logits[padded].push_back(engine.Logits(1));
        logits[padded].push_back(engine.Logits(3));
      }
      for (const std::vector<float>& row : logits[padded]) CHECK(std::isfinite(row[0]));
    }
    CHECK(logits[0] == logits[1]);
  }
}

TEST(TheHostTierKeepsBlocksAndGivesThemBack) {
  const TestModel model{Bf16Shape()};
  kvrm_engine_config config = EngineConfig();
  config.host_blocks = 8;
  TestEngine engine(model, config);
  std::vector<uint8_t> pool(size_t{config.num_blocks} * engine.info.block_bytes);
  for (size_t i = 0; i < pool.size(); ++i) pool[i] = uint8_t(i * 131 + i / 4099);
  CHECK_OK(kvrm_import_blocks(engine.handle, 0, config.num_blocks, pool.data(), uint32_t(pool.size())));
  engine.Begin();
  engine.Move(10, 2, 3);
  engine.move(0).tiers = KVRM_TIER_POOL | KVRM_TIER_HOST << 16;
  engine.Commit();
  engine.Begin();
  engine.Move(2, 60, 3);
  engine.move(0).tiers = KVRM_TIER_HOST | KVRM_TIER_POOL << 16;
  engine.Move(0, 70, 2);
  engine.Commit();
  engine.Wait();
  CHECK_EQ(engine.result().moved_blocks, 3u);
  engine.Wait();
  CHECK_EQ(engine.result().moved_blocks, 5u);
  const std::vector<uint8_t> after = engine.Pool();
  const size_t block = engine.info.block_bytes;
  CHECK(std::equal(after.begin() + 60 * block, after.begin() + 63 * block, pool.begin() + 10 * block));
  CHECK(std::equal(after.begin() + 70 * block, after.begin() + 72 * block, pool.begin()));
  CHECK_EQ(Counter(engine, KVRM_COUNT_HOST_BLOCKS), 6.0);
}

TEST(CreateRefusesWhatTheDeviceHasNoMemoryFor) {
  const TestModel model{Bf16Shape()};
  double memory[2];
  CHECK_OK(kvrm_memory(model.handle, memory));
  CHECK(memory[0] > 0 && memory[0] <= memory[1]);
  kvrm_engine_config config = EngineConfig();
  TestEngine small(model, config);
  config.num_blocks = uint32_t(memory[1] / small.info.block_bytes) + 100;
  kvrm_engine_info info;
  uint32_t engine = 0;
  CHECK_REFUSED(kvrm_engine_create(model.handle, reinterpret_cast<const uint8_t*>(&config),
                                   reinterpret_cast<uint8_t*>(&info), &engine),
                KVRM_OUT_OF_MEMORY, "MiB needed on the GPU");
  for (const char* part : {" MiB free of ", "lower --kv-memory, or --slots"}) {
    CHECK(LastErrorText().find(part) != std::string::npos);
  }
}

}  // namespace
}  // namespace kvrm::test
