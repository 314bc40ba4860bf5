// The ABI's behaviour around the arithmetic: the queue, handles, refusals, blocks in and out.
#include <algorithm>

#include "test_engine.h"

namespace kvrm::test {
namespace {

const TestModel& Model() {
  static const TestModel model{ModelShape()};
  return model;
}

kvrm_engine_config Noop() {
  kvrm_engine_config config = EngineConfig();
  config.flags = KVRM_ENGINE_NOOP;
  return config;
}

int32_t TryCreate(const kvrm_engine_config& config) {
  kvrm_engine_info info;
  uint32_t engine = 0;
  const int32_t status = kvrm_engine_create(Model().handle, reinterpret_cast<const uint8_t*>(&config),
                                            reinterpret_cast<uint8_t*>(&info), &engine);
  if (status == KVRM_OK) kvrm_engine_destroy(engine);
  return status;
}

TEST(CommitIsBusyAndWaitIsEmptyAtTheEndsOfTheRing) {
  TestEngine engine(Model(), EngineConfig());
  const std::vector<uint32_t> blocks = Contiguous(0, 8);
  CHECK_REFUSED(kvrm_wait(engine.handle, 0, engine.result_bytes(), engine.info.result_bytes), KVRM_EMPTY,
                "no step is in flight");
  for (uint32_t round = 0; round < 5; ++round) {
    for (uint32_t i = 0; i < KVRM_MAX_IN_FLIGHT; ++i) {
      engine.Begin();
      engine.Decode(0, 5, i, blocks);
      engine.Commit();
    }
    engine.Begin();
    engine.Decode(0, 5, 3, blocks);
    CHECK_REFUSED(engine.TryCommit(), KVRM_BUSY, "3 steps are in flight");
    for (uint32_t i = 0; i < KVRM_MAX_IN_FLIGHT; ++i) {
      engine.Wait();
      CHECK_EQ(engine.result().magic, KVRM_RESULT_MAGIC);
      CHECK_EQ(engine.result().step, round * KVRM_MAX_IN_FLIGHT + i + 1);
      CHECK_EQ(engine.result().status, uint32_t(KVRM_OK));
      CHECK_EQ(engine.result().rows, 1u);
    }
    CHECK_EQ(kvrm_wait(engine.handle, 0, engine.result_bytes(), engine.info.result_bytes), int32_t(KVRM_EMPTY));
  }
}

TEST(WaitTimesOutWhileAStepRuns) {
  ModelShape shape;
  shape.hidden = 512;
  shape.intermediate = 2048;
  const TestModel model(shape);
  kvrm_engine_config config = EngineConfig();
  TestEngine engine(model, config);
  engine.Begin(2);
  engine.Prefill(0, RandomTokens(128, 101, 1), 0, Contiguous(0, 8), true);
  engine.Commit();
  CHECK_REFUSED(kvrm_wait(engine.handle, 0, engine.result_bytes(), engine.info.result_bytes), KVRM_TIMEOUT,
                "still running");
  engine.Wait();
  CHECK_EQ(engine.result().rows, 128u);
  CHECK(engine.result().exec_us > 0);
}

TEST(HandlesThatNameNothingAreRefused) {
  uint32_t stale;
  {
    TestEngine engine(Model(), Noop());
    stale = engine.handle;
  }
  TestEngine engine(Model(), Noop());  // takes the same place in the table
  CHECK(engine.handle != stale);
  uint8_t buffer[64];
  double counters[KVRM_COUNTER_COUNT];
  for (uint32_t handle : {stale, 0u, 0xffffffffu, 12345u, Model().handle}) {
    CHECK_REFUSED(kvrm_commit(handle, buffer, 64), KVRM_INVALID_ARGUMENT, "is no engine");
    CHECK_EQ(kvrm_wait(handle, 0, buffer, 64), int32_t(KVRM_INVALID_ARGUMENT));
    CHECK_EQ(kvrm_export_blocks(handle, 0, 1, buffer, 64), int32_t(KVRM_INVALID_ARGUMENT));
    CHECK_EQ(kvrm_import_blocks(handle, 0, 1, buffer, 64), int32_t(KVRM_INVALID_ARGUMENT));
    CHECK_EQ(kvrm_read_logits(handle, 0, nullptr, 0), int32_t(KVRM_INVALID_ARGUMENT));
    CHECK_EQ(kvrm_counters(handle, counters, 1), int32_t(KVRM_INVALID_ARGUMENT));
    CHECK_EQ(kvrm_engine_destroy(handle), int32_t(KVRM_INVALID_ARGUMENT));
  }
  CHECK_REFUSED(kvrm_model_free(engine.handle), KVRM_INVALID_ARGUMENT, "is no model");
  CHECK_REFUSED(kvrm_model_free(Model().handle), KVRM_BUSY, "an engine uses it");
}

TEST(NullBuffersAreRefused) {
  TestEngine engine(Model(), Noop());
  CHECK_REFUSED(kvrm_commit(engine.handle, nullptr, engine.info.descriptor_bytes), KVRM_INVALID_ARGUMENT,
                "descriptor is null");
  CHECK_EQ(kvrm_wait(engine.handle, 0, nullptr, 1 << 20), int32_t(KVRM_INVALID_ARGUMENT));
  CHECK_EQ(kvrm_model_load(nullptr, nullptr, 0, nullptr, 0, nullptr, nullptr, nullptr), int32_t(KVRM_INVALID_ARGUMENT));
  CHECK_EQ(kvrm_engine_create(Model().handle, nullptr, nullptr, nullptr), int32_t(KVRM_INVALID_ARGUMENT));
  CHECK_EQ(kvrm_measure_bandwidth(1, 1, 1, nullptr), int32_t(KVRM_INVALID_ARGUMENT));
}

TEST(AnEngineMayBeDestroyedWithStepsInFlight) {
  for (int i = 0; i < 20; ++i) {
    TestEngine engine(Model(), EngineConfig());
    for (uint32_t step = 0; step < uint32_t(i % 4); ++step) {
      engine.Begin(2);
      engine.Prefill(0, RandomTokens(64, 101, 1), 0, Contiguous(0, 8), true);
      engine.Commit();
    }
  }
}

TEST(ConfigurationsOutOfRangeAreRefused) {
  auto with = [](auto change) {
    kvrm_engine_config config = EngineConfig();
    change(config);
    return config;
  };
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.abi_version = 9; })), KVRM_INVALID_ARGUMENT,
                "abi_version is 9, wanted 5");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.slots = 0; })), KVRM_INVALID_ARGUMENT, "slots is 0, wanted 1 to");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.block_tokens = 24; })), KVRM_INVALID_ARGUMENT, "wanted 16, 32 or 64");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.max_context = 4096; })), KVRM_INVALID_ARGUMENT,
                "max_context is 4096, wanted 1 to 2048 (the model's max_position)");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.chunk1 = 32; })), KVRM_INVALID_ARGUMENT, "chunk1 is 32, wanted 33");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.num_chunks = 8; })), KVRM_INVALID_ARGUMENT, "num_chunks is 8");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.kv_dtype = 4; })), KVRM_INVALID_ARGUMENT, "kv_dtype is 4");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.mask_rows = 5; })), KVRM_INVALID_ARGUMENT,
                "mask_rows is 5, wanted 0 to 4 (slots)");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.max_edits = 1 << 24; })), KVRM_INVALID_ARGUMENT,
                "max_edits is 16777216");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.max_edits = 1 << 20; })), KVRM_INVALID_ARGUMENT, "descriptor has");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.host_blocks = 1 << 25; })), KVRM_INVALID_ARGUMENT, "host_blocks is");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.max_groups = 1 << 20; })), KVRM_INVALID_ARGUMENT, "descriptor has");
  CHECK_REFUSED(TryCreate(with([](auto& c) { c.num_blocks = 1 << 24; })), KVRM_OUT_OF_MEMORY, "MiB needed");
  CHECK_EQ(TryCreate(EngineConfig()), int32_t(KVRM_OK));
}

TEST(BlocksGoOutAndInUnchanged) {
  TestEngine engine(Model(), EngineConfig());
  const std::vector<int32_t> tokens = RandomTokens(40, 101, 9);
  engine.Begin(2);
  engine.Prefill(0, tokens, 0, Contiguous(0, 4), false);
  engine.Step();
  engine.Begin();
  engine.Decode(0, 1, 40, Contiguous(0, 4));
  engine.Step();
  const std::vector<float> wanted = engine.Logits(0);

  const uint32_t bytes = 3 * engine.info.block_bytes;
  std::vector<uint8_t> blocks(bytes);
  CHECK_OK(kvrm_export_blocks(engine.handle, 0, 3, blocks.data(), bytes));
  TestEngine other(Model(), EngineConfig());
  CHECK_OK(kvrm_import_blocks(other.handle, 50, 3, blocks.data(), bytes));
  other.Begin();
  other.Decode(2, 1, 40, Contiguous(50, 4));
  other.Step();
  CHECK(other.Logits(2) == wanted);

  CHECK_REFUSED(kvrm_export_blocks(engine.handle, 94, 3, blocks.data(), bytes), KVRM_INVALID_ARGUMENT,
                "3 blocks from 94, wanted within 96");
  CHECK_REFUSED(kvrm_export_blocks(engine.handle, 0, 2, blocks.data(), bytes), KVRM_INVALID_ARGUMENT, "wanted");
  engine.Begin();
  engine.Decode(0, 1, 41, Contiguous(0, 4));
  engine.Commit();
  CHECK_REFUSED(kvrm_export_blocks(engine.handle, 0, 3, blocks.data(), bytes), KVRM_BUSY, "1 steps are in flight");
  CHECK_REFUSED(kvrm_import_blocks(engine.handle, 0, 3, blocks.data(), bytes), KVRM_BUSY, "in flight");
  engine.Wait();
}

TEST(LogitsAreOfSlotsThatSampled) {
  TestEngine engine(Model(), EngineConfig());
  engine.Begin(1);
  engine.Prefill(0, {1, 2, 3}, 0, Contiguous(0, 1), false);
  engine.Decode(2, 1, 0, Contiguous(4, 1));
  engine.Step();
  std::vector<float> logits(101);
  CHECK_EQ(engine.Logits(2).size(), 101u);
  CHECK_REFUSED(kvrm_read_logits(engine.handle, 0, logits.data(), 101), KVRM_INVALID_ARGUMENT, "slot 0 did not sample");
  CHECK_REFUSED(kvrm_read_logits(engine.handle, 99, logits.data(), 101), KVRM_INVALID_ARGUMENT, "slot 99");
  CHECK_REFUSED(kvrm_read_logits(engine.handle, 2, logits.data(), 100), KVRM_INVALID_ARGUMENT,
                "100 numbers, wanted 101");
}

TEST(MovesCopyBlocks) {
  TestEngine engine(Model(), EngineConfig());
  engine.Begin(2);
  engine.Prefill(0, RandomTokens(64, 101, 9), 0, Contiguous(0, 4), false);
  engine.Step();
  engine.Begin();
  engine.Move(0, 40, 3);
  engine.Move(0, 60, 1);  // sources may be read twice
  engine.Step();
  CHECK_EQ(engine.result().moved_blocks, 4u);
  CHECK_EQ(engine.result().rows, 0u);
  const std::vector<uint8_t> pool = engine.Pool();
  const size_t block = engine.info.block_bytes;
  CHECK_EQ(std::memcmp(&pool[0], &pool[40 * block], 3 * block), 0);
  CHECK_EQ(std::memcmp(&pool[0], &pool[60 * block], block), 0);
  CHECK(std::any_of(pool.begin(), pool.begin() + block, [](uint8_t b) { return b != 0; }));
}

TEST(BlocksGoToTheHostTierAndBack) {
  TestEngine engine(Model(), EngineConfig());
  engine.Begin(2);
  engine.Prefill(0, RandomTokens(64, 101, 9), 0, Contiguous(0, 4), false);
  engine.Step();
  const std::vector<uint8_t> wanted = engine.Pool();
  engine.Begin();
  engine.Move(0, 12, 4, KVRM_TIER_POOL, KVRM_TIER_HOST);
  engine.Step();
  CHECK(engine.Pool() == wanted);
  // What lies in the pool meanwhile does not matter.
  std::vector<uint8_t> zeros(4 * engine.info.block_bytes);
  CHECK_OK(kvrm_import_blocks(engine.handle, 0, 4, zeros.data(), uint32_t(zeros.size())));
  engine.Begin();
  engine.Move(12, 70, 3, KVRM_TIER_HOST, KVRM_TIER_POOL);
  engine.Move(15, 80, 1, KVRM_TIER_HOST, KVRM_TIER_POOL);
  engine.Move(70 + 5, 0, 2);
  engine.Step();
  CHECK_EQ(engine.result().moved_blocks, 6u);
  const std::vector<uint8_t> pool = engine.Pool();
  const size_t block = engine.info.block_bytes;
  CHECK_EQ(std::memcmp(&wanted[0], &pool[70 * block], 3 * block), 0);
  CHECK_EQ(std::memcmp(&wanted[3 * block], &pool[80 * block], block), 0);
  double counters[KVRM_COUNTER_COUNT];
  CHECK_OK(kvrm_counters(engine.handle, counters, KVRM_COUNTER_COUNT));
  CHECK_EQ(counters[KVRM_COUNT_MOVED_BLOCKS], 10.0);
  CHECK_EQ(counters[KVRM_COUNT_HOST_BLOCKS], 8.0);
}

TEST(MemoryIsOfALoadedModel) {
  double memory[2] = {-1, -1};
  CHECK_OK(kvrm_memory(Model().handle, memory));
  CHECK(memory[1] > 1 << 20);
  CHECK(0 <= memory[0] && memory[0] <= memory[1]);
  CHECK_REFUSED(kvrm_memory(12345, memory), KVRM_INVALID_ARGUMENT, "is no model");
  CHECK_REFUSED(kvrm_memory(Model().handle, nullptr), KVRM_INVALID_ARGUMENT, "out is null");
}

TEST(NoProgressWhenNothingLoads) {
  Model();
  double progress[2] = {-1, -1};
  CHECK_OK(kvrm_load_progress(progress));
  CHECK_EQ(progress[0], 0.0);
  CHECK_EQ(progress[1], 0.0);
  CHECK_EQ(kvrm_load_progress(nullptr), int32_t(KVRM_INVALID_ARGUMENT));
}

TEST(NoopSamplesMadeUpTokens) {
  TestEngine engine(Model(), Noop());
  engine.Begin(1);
  engine.Decode(3, 5, 0, Contiguous(0, 1), 11);
  engine.Prefill(1, {1, 2, 3}, 0, Contiguous(4, 1), true, 6);
  engine.Step();
  CHECK_EQ(engine.sampled(3).token, 3 + (3 * 7 + 11) % 98);
  CHECK_EQ(engine.sampled(1).token, 3 + (1 * 7 + 6) % 98);
  CHECK_EQ(engine.sampled(1).logprob, 0.0f);
  CHECK_EQ(engine.sampled(0).flags, 0u);
  CHECK_EQ(engine.result().rows, 4u);
  CHECK_REFUSED(kvrm_read_logits(engine.handle, 3, nullptr, 0), KVRM_INVALID_ARGUMENT, "null");
}

TEST(CountersCount) {
  TestEngine engine(Model(), EngineConfig());
  engine.Begin(1);
  engine.Prefill(1, {1, 2, 3}, 0, Contiguous(4, 1), true);
  engine.Move(0, 40, 2);
  engine.Step();
  engine.Begin();
  engine.Decode(1, -1, 3, Contiguous(4, 1));
  engine.Step();
  double counters[KVRM_COUNTER_COUNT];
  CHECK_OK(kvrm_counters(engine.handle, counters, KVRM_COUNTER_COUNT));
  CHECK_EQ(counters[KVRM_COUNT_STEPS], 2.0);
  CHECK_EQ(counters[KVRM_COUNT_ROWS], 4.0);
  CHECK_EQ(counters[KVRM_COUNT_MOVED_BLOCKS], 2.0);
  CHECK_EQ(counters[KVRM_COUNT_GROUPS], 2.0);
  CHECK_EQ(counters[KVRM_COUNT_SHAPES_PREPARED], 3.0);
  CHECK(counters[KVRM_COUNT_BUSY_US] > 0);
}

TEST(LayoutNamesEveryRecord) {
  std::vector<uint8_t> bytes(1 << 16, 0xee);
  const uint32_t length = kvrm_layout(bytes.data(), 10);  // too small: says what it needs, writes nothing
  CHECK_EQ(bytes[0], 0xee);
  CHECK_EQ(kvrm_layout(bytes.data(), uint32_t(bytes.size())), length);
  const std::string text(bytes.begin(), bytes.begin() + length);
  for (const char* line : {"model_config.attention_scale 40 f32\n", "slot size 112\n", "slot.token 4 i32\n",
                           "KVRM_MAX_IN_FLIGHT = 3\n", "KVRM_DESCRIPTOR_MAGIC = 1297241675\n", "top size 8\n"}) {
    CHECK(text.find(line) != std::string::npos);
  }
}

TEST(BackendAndBandwidth) {
  uint8_t name[64];
  const uint32_t length = kvrm_backend(name, sizeof(name));
  const std::string text(reinterpret_cast<char*>(name), length);
  CHECK(text.find('/') != std::string::npos);
  CHECK(text.find('/') + 1 < length);
  CHECK_EQ(kvrm_abi_version(), KVRM_ABI_VERSION);
  double rate = 0;
  CHECK_OK(kvrm_measure_bandwidth(2, 16, 3, &rate));
  CHECK(rate > 0.1);
  CHECK_EQ(kvrm_measure_bandwidth(2, 0, 3, &rate), int32_t(KVRM_INVALID_ARGUMENT));
}

}  // namespace
}  // namespace kvrm::test
