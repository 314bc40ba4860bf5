// A request's logits and tokens are the same bits whatever surrounds it: other slots, chunk sizes, where
// its blocks lie, moves, threads; also under penalties, biases and masks.
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
  bool padded = false;      // as mode static-padded: buckets of 128 tokens, over a pool full of NaN
  bool poisoned = false;    // NaN in every block and in all of a descriptor that is not used
  bool adjust = false;      // penalties, biases and every third token a mask
  uint32_t preempt_at = 0;  // after so many tokens it starts again in another slot; 0: never
};

std::vector<uint32_t> Fragmented(uint32_t seed) {
  std::vector<uint32_t> blocks = Contiguous(24, 24);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
  return blocks;
}

Sampling RequestSampling(const Surroundings& s) {
  Sampling sampling = RequestSampling();
  if (!s.adjust) return sampling;
  sampling.adjust = true;
  sampling.repetition = 1.3f;
  sampling.presence = 0.2f;
  sampling.frequency = 0.15f;
  return sampling;
}

// The mask of the token at index `counter` of the answer: a third of them have one.
uint32_t RequestMask(TestEngine& engine, uint32_t counter) {
  return counter % 3 == 1 ? engine.Mask(TokenRange(int32_t(counter), int32_t(counter) + 40)) : 0;
}

// Everything that the slot's token state is made of, at the start or after a preemption.
void SendState(TestEngine& engine, uint32_t slot, const std::vector<int32_t>& prompt,
               const std::vector<int32_t>& answer) {
  engine.Edit(slot, KVRM_EDIT_CLEAR);
  std::vector<int32_t> distinct = prompt;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (int32_t token : distinct) engine.Edit(slot, KVRM_EDIT_PROMPT, token);
  for (int32_t token : answer) engine.Edit(slot, KVRM_EDIT_COUNT, token, 1);
  engine.Bias(slot, 20, 1.5f);
  engine.Bias(slot, 60, -3.0f);
}

// Adds the step of each other sequence: a chunk every third step if there is room, else a token.
void AddOthers(TestEngine& engine, const Surroundings& s, uint32_t step, std::vector<uint32_t>& lengths) {
  for (uint32_t other = 0; other < s.others; ++other) {
    const uint32_t index = (s.slot + 1 + other) % engine.config.slots;
    const std::vector<uint32_t> blocks = Contiguous(48 + 16 * other, s.padded ? 24 : 16);
    uint32_t& length = lengths[other];
    if (length > 200) length = 0;
    const bool room =
        engine.header().shape != 0 && engine.header().num_tokens + 5 <= (engine.header().shape == 1 ? 32 : 128);
    if ((step + other) % 3 == 0 && room) {
      engine.Prefill(index, RandomTokens(5, 101, step), length, blocks, step % 2 == 0);
      length += 5;
    } else {
      Sampling sampling;
      sampling.adjust = s.adjust;
      sampling.presence = 0.5f;
      if (s.adjust && engine.header().num_masks == 0) sampling.mask = engine.Mask(TokenRange(50, 90));
      engine.Decode(index, int32_t((step * 13 + other) % 101), length, blocks, step, sampling);
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

// All bits set behind what the step uses of each section.
void PoisonTails(TestEngine& engine) {
  const kvrm_header& header = engine.header();
  const auto poison = [](auto* first, uint32_t used, uint32_t capacity) {
    std::memset(static_cast<void*>(first + used), 0xff, (capacity - used) * sizeof(*first));
  };
  poison(&engine.segment(0), header.num_segments, engine.config.max_segments);
  poison(engine.tokens(), header.num_tokens, engine.config.chunk1);
  poison(engine.targets(), header.num_tokens, engine.config.chunk1);
  poison(&engine.group(0), header.num_groups, engine.config.max_groups);
  poison(&engine.move(0), header.num_moves, engine.config.max_moves);
  poison(&engine.edit(0), header.num_edits, engine.config.max_edits);
  poison(engine.mask(0), header.num_masks * engine.info.mask_words, engine.config.mask_rows * engine.info.mask_words);
}

// One request in one engine.
class Request {
 public:
  explicit Request(const Surroundings& s)
      : s_(s),
        engine_(Model(), Config(s)),
        blocks_(s.fragmented ? Fragmented(3) : Contiguous(24, 24)),
        lengths_(s.others),
        tokens_(RandomTokens(kPrompt, 101, 17)) {}

  Trace Run() {
    if (s_.padded || s_.poisoned) {
      const std::vector<uint8_t> nan(size_t{engine_.config.num_blocks} * engine_.info.block_bytes, 0xff);
      CHECK_OK(kvrm_import_blocks(engine_.handle, 0, engine_.config.num_blocks, nan.data(), uint32_t(nan.size())));
    }
    Prefill();
    for (uint32_t i = 1; i < kDecode; ++i) {
      if (i == s_.preempt_at) {
        s_.slot = (s_.slot + 2) % engine_.config.slots;
        Prefill();
        continue;
      }
      Begin(i % 3 == 0 && s_.others > 0 && !s_.padded ? 1 : 0);
      if (s_.padded) engine_.PadWindow((kPrompt + i + 127) / 128 * 128 - (i == kDecode - 1 ? 37 : 0));
      Sampling sampling = RequestSampling(s_);
      if (s_.adjust) sampling.mask = RequestMask(engine_, i);
      engine_.Decode(s_.slot, s_.token_last ? -1 : trace_.tokens.back(), kPrompt + i - 1, blocks_, i, sampling);
      Step();
      Take();
    }
    double counters[KVRM_COUNTER_COUNT];
    CHECK_OK(kvrm_counters(engine_.handle, counters, KVRM_COUNTER_COUNT));
    CHECK_EQ(counters[KVRM_COUNT_MOVED_BLOCKS] > 0, s_.moves);
    return trace_;
  }

 private:
  static kvrm_engine_config Config(const Surroundings& s) {
    kvrm_engine_config config = EngineConfig();
    config.threads = s.threads;
    return config;
  }

  // The prompt, and what has been generated, in chunks; the last chunk samples.
  void Prefill() {
    const uint32_t all = uint32_t(tokens_.size()), counter = uint32_t(trace_.tokens.size());
    for (uint32_t length = 0; length < all;) {
      const uint32_t count = std::min(s_.chunk, all - length);
      const uint32_t padding = s_.padded ? std::min(s_.chunk, kPrompt + 84 - length) - count : 0;
      Begin(count + padding <= 32 ? 1 : 2);
      Sampling sampling = RequestSampling(s_);
      if (s_.adjust && length == 0) {
        SendState(engine_, s_.slot, {tokens_.begin(), tokens_.begin() + kPrompt}, trace_.tokens);
      }
      if (s_.adjust && length + count == all) sampling.mask = RequestMask(engine_, counter);
      engine_.Prefill(s_.slot, {tokens_.begin() + length, tokens_.begin() + length + count}, length, blocks_,
                      length + count == all, counter, sampling, 0, padding);
      Step();
      length += count;
    }
    Take();
  }

  void Begin(uint32_t shape) {
    engine_.Begin(shape);
    if (s_.moves) Relocate(engine_, blocks_, step_);
  }
  void Step() {
    AddOthers(engine_, s_, step_++, lengths_);
    if (s_.poisoned) PoisonTails(engine_);
    engine_.Step();
  }
  void Take() {
    trace_.tokens.push_back(engine_.sampled(s_.slot).token);
    trace_.logprobs.push_back(engine_.sampled(s_.slot).logprob);
    trace_.logits.push_back(engine_.Logits(s_.slot));
    tokens_.push_back(trace_.tokens.back());
  }

  Surroundings s_;
  TestEngine engine_;
  std::vector<uint32_t> blocks_, lengths_;
  std::vector<int32_t> tokens_;
  Trace trace_;
  uint32_t step_ = 0;
};

Trace Run(const Surroundings& s) { return Request(s).Run(); }

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

TEST(WhatIsNotUsedDoesNotShow) {
  CheckSame(Run({.poisoned = true}), Plain());
  CheckSame(Run({.chunk = 20, .threads = 2, .others = 2, .fragmented = true, .moves = true, .poisoned = true}),
            Plain());
}

// Rows of padding, and attention over whole windows whose unused tokens are NaN.
TEST(PaddingGivesTheSameBits) {
  CheckSame(Run({.padded = true}), Plain());
  CheckSame(Run({.chunk = 100, .threads = 2, .fragmented = true, .padded = true}), Plain());
  CheckSame(Run({.slot = 2, .chunk = 70, .others = 2, .token_last = true, .padded = true}), Plain());
  CheckSame(Run({.padded = true, .adjust = true, .preempt_at = 13}), Run({.adjust = true}));
}

TEST(AdjustedTokensAreTheSame) {
  const Trace adjusted = Run({.adjust = true});
  CHECK(adjusted.tokens != Plain().tokens);
  for (size_t i = 1; i < adjusted.tokens.size(); i += 3) {
    CHECK(int32_t(i) <= adjusted.tokens[i] && adjusted.tokens[i] < int32_t(i) + 40);
  }
  CheckSame(Run({.chunk = 7, .adjust = true}), adjusted);
  CheckSame(Run({.slot = 2, .chunk = 27, .others = 3, .adjust = true}), adjusted);
  CheckSame(Run({.threads = 4, .others = 2, .fragmented = true, .moves = true, .adjust = true}), adjusted);
  CheckSame(Run({.token_last = true, .adjust = true}), adjusted);
}

// The tokens so far come back as a part of the prompt's rows, and as counts.
TEST(PreemptionGivesTheSameTokens) {
  for (const bool adjust : {false, true}) {
    const Trace wanted = Run({.adjust = adjust});
    CheckSame(Run({.chunk = 100, .adjust = adjust, .preempt_at = 1}), wanted);
    CheckSame(Run({.slot = 1, .chunk = 50, .others = 1, .adjust = adjust, .preempt_at = 13}), wanted);
  }
}

// Three steps committed at once, each fed by the sample of the one before.
void CheckStepsInFlight(const Surroundings& s, const Trace& wanted) {
  TestEngine engine(Model(), EngineConfig());
  const std::vector<uint32_t> blocks = Contiguous(24, 24);
  engine.Begin(2);
  const std::vector<int32_t> prompt = RandomTokens(kPrompt, 101, 17);
  for (uint32_t at = 0; at < kPrompt; at += 100) {
    engine.Begin(2);
    if (s.adjust && at == 0) SendState(engine, 0, prompt, {});
    engine.Prefill(0, {prompt.begin() + at, prompt.begin() + at + 100}, at, blocks, at + 100 == kPrompt, 0,
                   RequestSampling(s));
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
      Sampling sampling = RequestSampling(s);
      if (s.adjust) sampling.mask = RequestMask(engine, committed + 1);
      engine.Decode(0, -1, kPrompt + committed, blocks, committed + 1, sampling);
      engine.Commit();
      ++committed;
    }
  }
  CHECK_EQ(tokens.size(), wanted.tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) CHECK_EQ(tokens[i], wanted.tokens[i]);
}

TEST(StepsInFlightGiveTheSameBits) {
  CheckStepsInFlight({}, Plain());
  CheckStepsInFlight({.adjust = true}, Run({.adjust = true}));
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
