// A request's logits are the same bits whatever surrounds it: other slots, chunk sizes, where its
// blocks lie, moves, threads.
#include "test_engine.h"

namespace kvrm::test {
namespace {

constexpr uint32_t kPrompt = 300, kDecode = 30;

ModelShape Shape() {
  ModelShape shape;
  shape.heads = 6;
  shape.kv_heads = 2;
  shape.qk_norm = true;
  shape.windows = {0, 270, 33};
  return shape;
}

const TestModel& Model() {
  static const TestModel model(Shape());
  return model;
}

// Everything that a request yields.
struct Trace {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<float>> logits;
};

void CheckSame(const Trace& found, const Trace& wanted) {
  CHECK_EQ(found.tokens.size(), wanted.tokens.size());
  for (size_t i = 0; i < wanted.tokens.size(); ++i) {
    CHECK_EQ(found.tokens[i], wanted.tokens[i]);
    CHECK_EQ(std::memcmp(&found.logprobs[i], &wanted.logprobs[i], sizeof(float)), 0);
    CHECK_EQ(std::memcmp(found.logits[i].data(), wanted.logits[i].data(), wanted.logits[i].size() * sizeof(float)), 0);
  }
}

Sampling RequestSampling() { return {0.9f, 40, 0.95f, 0.01f, 1234567890123u, 4}; }

// How a run differs from the plainest one.
struct Surroundings {
  uint32_t slot = 0;
  uint32_t chunk = 128;
  uint32_t threads = 1;
  uint32_t others = 0;  // slots beside it that prefill and decode
  bool fragmented = false;
  bool moves = false;  // its blocks are relocated now and then
  bool token_last = false;
};

std::vector<uint32_t> Fragmented(uint32_t seed) {
  std::vector<uint32_t> blocks = Contiguous(24, 24);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
  return blocks;
}

// Adds the step of each other sequence: a chunk every third step if there is room, else a token.
void AddOthers(TestEngine& engine, const Surroundings& s, uint32_t step, std::vector<uint32_t>& lengths) {
  for (uint32_t other = 0; other < s.others; ++other) {
    const uint32_t index = (s.slot + 1 + other) % engine.config.slots;
    const std::vector<uint32_t> blocks = Contiguous(48 + 16 * other, 16);
    uint32_t& length = lengths[other];
    if (length > 200) length = 0;
    const bool room =
        engine.header().shape != 0 && engine.header().num_tokens + 5 <= (engine.header().shape == 1 ? 32 : 128);
    if ((step + other) % 3 == 0 && room) {
      engine.Prefill(index, RandomTokens(5, 101, step), length, blocks, step % 2 == 0);
      length += 5;
    } else {
      engine.Decode(index, int32_t((step * 13 + other) % 101), length, blocks, step);
      length += 1;
    }
  }
}

// Moves the block map's first run of two adjacent logical blocks to free blocks.
void Relocate(TestEngine& engine, std::vector<uint32_t>& blocks, uint32_t step) {
  const uint32_t at = step % (blocks.size() - 1);
  const uint32_t to = step % 4 < 2 ? 0 : 4;  // blocks 0..7 are free
  for (uint32_t i = 0; i < 2; ++i) {
    if (std::find(blocks.begin(), blocks.end(), to + i) != blocks.end()) return;
  }
  for (uint32_t i = 0; i < 2; ++i) {
    engine.Move(blocks[at + i], to + i, 1);
    blocks[at + i] = to + i;
  }
}

Trace Run(const Surroundings& s) {
  kvrm_engine_config config = EngineConfig();
  config.threads = s.threads;
  TestEngine engine(Model(), config);
  std::vector<uint32_t> blocks = s.fragmented ? Fragmented(3) : Contiguous(24, 24);
  std::vector<uint32_t> lengths(s.others);
  const std::vector<int32_t> prompt = RandomTokens(kPrompt, 101, 17);
  Trace trace;
  uint32_t step = 0, length = 0;
  auto take = [&] {
    trace.tokens.push_back(engine.sampled(s.slot).token);
    trace.logprobs.push_back(engine.sampled(s.slot).logprob);
    trace.logits.push_back(engine.Logits(s.slot));
  };
  while (length < kPrompt) {
    const uint32_t count = std::min(s.chunk, kPrompt - length);
    engine.Begin(count <= 32 ? 1 : 2);
    if (s.moves) Relocate(engine, blocks, step);
    engine.Prefill(s.slot, {prompt.begin() + length, prompt.begin() + length + count}, length, blocks,
                   length + count == kPrompt, 0, RequestSampling());
    AddOthers(engine, s, step++, lengths);
    engine.Step();
    length += count;
  }
  take();
  for (uint32_t i = 1; i < kDecode; ++i) {
    engine.Begin(i % 3 == 0 && s.others > 0 ? 1 : 0);
    if (s.moves) Relocate(engine, blocks, step);
    engine.Decode(s.slot, s.token_last ? -1 : trace.tokens.back(), length++, blocks, i, RequestSampling());
    AddOthers(engine, s, step++, lengths);
    engine.Step();
    take();
  }
  double counters[KVRM_COUNTER_COUNT];
  CHECK_OK(kvrm_counters(engine.handle, counters, KVRM_COUNTER_COUNT));
  CHECK_EQ(counters[KVRM_COUNT_MOVED_BLOCKS] > 0, s.moves);
  return trace;
}

const Trace& Plain() {
  static const Trace trace = Run({});
  return trace;
}

TEST(ChunkSizesGiveTheSameBits) {
  for (uint32_t chunk : {1u, 7u, 32u, 100u}) CheckSame(Run({.chunk = chunk}), Plain());
}

TEST(ABatchGivesTheSameBits) {
  for (uint32_t others : {1u, 3u}) {
    CheckSame(Run({.slot = 2, .chunk = 27, .others = others}), Plain());
    CheckSame(Run({.slot = 1, .chunk = 101, .others = others}), Plain());
  }
}

TEST(FragmentationAndMovesGiveTheSameBits) {
  CheckSame(Run({.fragmented = true}), Plain());
  CheckSame(Run({.chunk = 20, .fragmented = true, .moves = true}), Plain());
  CheckSame(Run({.chunk = 20, .moves = true}), Plain());
}

TEST(ThreadsGiveTheSameBits) {
  for (uint32_t threads : {2u, 4u}) {
    CheckSame(Run({.threads = threads}), Plain());
    CheckSame(Run({.slot = 3, .chunk = 19, .threads = threads, .others = 3, .fragmented = true, .moves = true}),
              Plain());
  }
}

// Large enough that decode steps, too, are cut into tiles, and long enough for several splits.
TEST(ThreadsGiveTheSameBitsOnALargerModel) {
  ModelShape shape;
  shape.hidden = 192;
  shape.intermediate = 512;
  shape.layers = 2;
  shape.heads = 8;
  shape.kv_heads = 4;
  shape.head_dim = 32;
  shape.vocab = 2000;
  shape.windows = {0, 290};
  const TestModel model(shape);
  std::vector<std::vector<float>> wanted;
  for (uint32_t threads : {1u, 2u, 4u}) {
    kvrm_engine_config config = EngineConfig();
    config.threads = threads;
    TestEngine engine(model, config);
    std::vector<std::vector<float>> found;
    for (uint32_t at = 0; at < 384; at += 128) {
      engine.Begin(2);
      engine.Prefill(1, RandomTokens(128, 2000, at), at, Contiguous(0, 30), true);
      engine.Step();
      found.push_back(engine.Logits(1));
    }
    for (uint32_t at = 384; at < 394; ++at) {
      engine.Begin();
      engine.Decode(1, -1, at, Contiguous(0, 30));
      engine.Step();
      found.push_back(engine.Logits(1));
    }
    if (threads == 1) wanted = found;
    CHECK(found == wanted);
  }
}

TEST(TokenLastGivesTheSameBits) { CheckSame(Run({.token_last = true}), Plain()); }

// Three steps committed at once, each fed by the sample of the one before.
TEST(StepsInFlightGiveTheSameBits) {
  TestEngine engine(Model(), EngineConfig());
  const std::vector<uint32_t> blocks = Contiguous(24, 24);
  engine.Begin(2);
  const std::vector<int32_t> prompt = RandomTokens(kPrompt, 101, 17);
  for (uint32_t at = 0; at < kPrompt; at += 100) {
    engine.Begin(2);
    engine.Prefill(0, {prompt.begin() + at, prompt.begin() + at + 100}, at, blocks, at + 100 == kPrompt, 0,
                   RequestSampling());
    engine.Commit();
  }
  std::vector<int32_t> tokens;
  uint32_t committed = 0;
  for (uint32_t taken = 0; taken < 3 + kDecode - 1; ++taken) {
    engine.Wait();
    CHECK_EQ(engine.result().step, taken + 1);
    if (taken >= 2) tokens.push_back(engine.sampled(0).token);
    if (committed < kDecode - 1) {
      engine.Begin();
      engine.Decode(0, -1, kPrompt + committed, blocks, committed + 1, RequestSampling());
      engine.Commit();
      ++committed;
    }
  }
  CHECK_EQ(tokens.size(), Plain().tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) CHECK_EQ(tokens[i], Plain().tokens[i]);
}

// Block sizes other than 16: other addresses, the same history.
TEST(BlockSizesGiveTheSameBits) {
  for (uint32_t block_tokens : {32u, 64u}) {
    kvrm_engine_config config = EngineConfig();
    config.block_tokens = block_tokens;
    TestEngine engine(Model(), config);
    const std::vector<uint32_t> blocks = Contiguous(5, 12);
    const std::vector<int32_t> prompt = RandomTokens(kPrompt, 101, 17);
    for (uint32_t at = 0; at < kPrompt; at += 100) {
      engine.Begin(2);
      engine.Prefill(0, {prompt.begin() + at, prompt.begin() + at + 100}, at, blocks, at + 100 == kPrompt);
      engine.Step();
    }
    const std::vector<float> logits = engine.Logits(0);
    CHECK_EQ(std::memcmp(logits.data(), Plain().logits[0].data(), logits.size() * sizeof(float)), 0);
  }
}

}  // namespace
}  // namespace kvrm::test
