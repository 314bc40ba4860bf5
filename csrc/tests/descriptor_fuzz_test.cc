// Random and mutated descriptors: whatever kvrm_commit is given, it neither crashes nor changes state
// unless it accepts; what it accepts must run (under AddressSanitizer, without touching anything
// else). Deterministic; KVRM_FUZZ_ROUNDS makes it longer.
#include <algorithm>

#include "test_engine.h"

namespace kvrm::test {
namespace {

uint32_t Rounds() {
  const char* rounds = std::getenv("KVRM_FUZZ_ROUNDS");
  return rounds ? uint32_t(std::atoi(rounds)) : 10000;
}

ModelShape Shape() {
  ModelShape shape;
  shape.hidden = 16;
  shape.intermediate = 24;
  shape.layers = 2;
  shape.heads = 2;
  shape.kv_heads = 1;
  shape.head_dim = 8;
  shape.vocab = 37;
  return shape;
}

const TestModel& Full() {
  static ModelShape shape = Shape();
  shape.windows = {0, 20};
  static const TestModel model(shape);
  return model;
}

const TestModel& Windowed() {
  static ModelShape shape = Shape();
  shape.windows = {20, 20};
  static const TestModel model(shape);
  return model;
}

const TestModel& FullAttention() {
  static ModelShape shape = Shape();
  shape.windows = {0, 0};
  static const TestModel model(shape);
  return model;
}

constexpr uint32_t kFarRows = 5, kMaxSummaries = 12;

kvrm_engine_config Config(bool far = false) {
  kvrm_engine_config config = EngineConfig();
  config.num_blocks = 40;
  config.max_context = 300;
  config.max_groups = 40;
  config.max_moves = 6;
  config.max_edits = 24;
  config.mask_rows = 3;
  config.host_blocks = 5;
  config.threads = 1;
  if (far) {
    config.max_summaries = kMaxSummaries;
    config.far_rows = kFarRows;
  }
  return config;
}

// A valid step drawn from random: slots with disjoint blocks at random lengths.
class Steps {
 public:
  explicit Steps(uint32_t seed) : random_(seed) {}

  void Fill(TestEngine& engine) {
    const uint32_t shape = random_() % 3;
    engine.Begin(shape);
    if (shape == 0 && random_() % 2) engine.PadWindow(100 + random_() % 29);
    FillMasks(engine);
    const uint32_t room = shape == 0 ? 0 : shape == 1 ? 32 : 128;
    std::vector<uint32_t> free = Contiguous(0, engine.config.num_blocks - 6);
    if (random_() % 2) std::shuffle(free.begin(), free.end(), random_);
    for (uint32_t slot = 0; slot < engine.config.slots; ++slot) {
      const std::vector<uint32_t> blocks(free.end() - 8, free.end());
      free.resize(free.size() - 8);
      const uint32_t position = random_() % 100;
      FillEdits(engine, slot);
      if (engine.config.max_summaries != 0) FillSummaries(engine, slot);
      Sampling sampling = {float(random_() % 3),    uint32_t(random_() % 40), 0.9f, 0.1f, random_(),
                           uint32_t(random_() % 22)};
      sampling.adjust = random_() % 2;
      sampling.repetition = 0.5f + float(random_() % 8) / 4;
      sampling.presence = float(random_() % 9) / 2 - 2;
      sampling.frequency = float(random_() % 9) / 8 - 0.5f;
      sampling.mask = random_() % (engine.header().num_masks + 1);
      const uint32_t left = room - std::min(room, engine.header().num_tokens);
      switch (random_() % 3) {
        case 0:
          engine.Decode(slot, int32_t(random_() % 37), position, blocks, random_() % 100, sampling);
          break;
        case 1:
          if (left == 0) break;
          {
            const std::vector<int32_t> tokens = RandomTokens(1 + random_() % std::min(left, 20u), 37, random_());
            const uint32_t padding = std::min(uint32_t(random_() % 9), left - uint32_t(tokens.size()));
            engine.Prefill(slot, tokens, position, blocks, random_() % 2, 0, sampling, 0, padding);
          }
          if (random_() % 2) {
            kvrm_segment& segment = engine.segment(engine.header().num_segments - 1);
            segment.flags = KVRM_SEGMENT_PROMPT_LOGPROBS;
            segment.top_logprobs = random_() % 21;
            for (uint32_t t = 0; t < segment.count; ++t) {
              engine.targets()[segment.token_first + t] = int32_t(random_() % 38) - 1;
            }
          }
          break;
        default:
          break;
      }
      if (engine.config.max_summaries != 0 && engine.slot(slot).flags != 0 && position >= 48 && random_() % 2) {
        const uint32_t first = random_() % 2;
        engine.Far(slot, first, first + 1 + random_() % 2, random_() % (rows_[slot] + 1));
      }
    }
    const uint32_t spare = engine.config.num_blocks - 6;
    if (random_() % 2) engine.Move(spare, spare + 3, 1 + random_() % 3);
    if (random_() % 2) {
      engine.Move(random_() % spare, random_() % 3, 1, KVRM_TIER_POOL, KVRM_TIER_HOST);
      engine.Move(3, spare + 2, random_() % 2 + 1, KVRM_TIER_HOST, KVRM_TIER_POOL);
      engine.header().num_moves -= engine.header().num_moves == 3;  // two into the same block
    }
  }

 private:
  void FillMasks(TestEngine& engine) {
    for (uint32_t i = random_() % 4; i > 0; --i) {
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < 37; ++token) {
        if (random_() % 3) allowed.push_back(token);
      }
      engine.Mask(allowed);
    }
  }

  // A few edits of one slot; biases only after a CLEAR, each of another token.
  void FillEdits(TestEngine& engine, uint32_t slot) {
    const uint32_t count = random_() % 6;
    const bool clear = random_() % 4 == 0;
    if (clear) engine.Edit(slot, KVRM_EDIT_CLEAR);
    for (uint32_t i = 0; i < count; ++i) {
      switch (random_() % 3) {
        case 0:
          engine.Edit(slot, KVRM_EDIT_PROMPT, int32_t(random_() % 37));
          break;
        case 1:
          engine.Edit(slot, KVRM_EDIT_COUNT, int32_t(random_() % 37), 1 + random_() % KVRM_MAX_COUNT);
          break;
        default:
          if (clear) engine.Bias(slot, int32_t(random_() % 7 + 7 * i), float(random_() % 9) / 2 - 2);
      }
    }
  }

  // A CLEAR and the rows after it: what an engine that refuses some of these steps has before is not known here.
  void FillSummaries(TestEngine& engine, uint32_t slot) {
    rows_[slot] = 0;
    if (random_() % 2 || engine.header().num_summaries + 3 > kMaxSummaries) return;
    engine.ClearSummaries(slot);
    const uint32_t block = random_() % engine.config.num_blocks, first = random_() % 16;
    engine.SummariseBlock(slot, 0, block, first, 1 + random_() % (16 - first));
    rows_[slot] = 1;
    if (random_() % 2 || engine.header().num_summaries + 2 > kMaxSummaries) return;
    engine.SummariseBlock(slot, 1, block ^ 1, 0, 16);
    engine.MergeSummaries(slot, random_() % 2, 0);
    if (engine.summary(engine.header().num_summaries - 1).row == 0) --engine.header().num_summaries;
    rows_[slot] = 2;
  }

  std::mt19937 random_;
  uint32_t rows_[4] = {};
};

// Changes a descriptor that would pass.
class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  void Mutate(TestEngine& engine) {
    const uint32_t times = 1 + random_() % 3;
    for (uint32_t i = 0; i < times; ++i) {
      switch (random_() % 4) {
        case 0:
          FlipBit(engine);
          break;
        case 1:
        case 2:
          SetField(engine);
          break;
        default:
          CopyRecord(engine);
      }
    }
  }

  // All bytes random, or all but a header that passes.
  void Randomise(TestEngine& engine) {
    const kvrm_header header = engine.header();
    for (uint32_t i = 0; i < engine.info.descriptor_bytes; ++i) engine.bytes()[i] = uint8_t(random_());
    if (random_() % 4 != 0) engine.header() = header;
  }

 private:
  // A word of a part that is in use, mostly.
  uint32_t* Word(TestEngine& engine) {
    const kvrm_header& h = engine.header();
    auto within = [&](void* section, size_t bytes) {
      return reinterpret_cast<uint32_t*>(section) + random_() % std::max<size_t>(1, bytes / 4);
    };
    auto count = [](uint32_t used, uint32_t capacity) { return std::min(used + 1, capacity); };
    switch (random_() % (engine.config.max_summaries != 0 ? 12 : 10)) {
      case 0:
        return within(&engine.header(), sizeof(kvrm_header));
      case 1:
        return within(&engine.segment(0), count(h.num_segments, 4) * sizeof(kvrm_segment));
      case 2:
        return within(engine.tokens(), count(h.num_tokens, 128) * 4);
      case 3:
        return within(&engine.group(0), count(h.num_groups, 40) * sizeof(kvrm_group));
      case 4:
        return within(&engine.move(0), count(h.num_moves, 6) * sizeof(kvrm_move));
      case 5:
        return within(engine.targets(), count(h.num_tokens, 128) * 4);
      case 6:
        return within(&engine.edit(0), count(h.num_edits, 24) * sizeof(kvrm_edit));
      case 10:
      case 11:
        return within(&engine.summary(0), count(h.num_summaries, kMaxSummaries) * sizeof(kvrm_summary));
      case 7:
        return within(engine.mask(0), count(h.num_masks, 3) * engine.info.mask_words * 4);
      default:
        return within(&engine.slot(0), 4 * sizeof(kvrm_slot));
    }
  }

  void FlipBit(TestEngine& engine) { *Word(engine) ^= 1u << random_() % 32; }

  void SetField(TestEngine& engine) {
    constexpr uint32_t kExtremes[] = {0,          1,          2,          15,         16,         17,        36,
                                      37,         39,         40,         127,        128,        129,       299,
                                      300,        301,        0xffff,     0x10000,    0x7fffffff, 1u << 31,  0xffffffff,
                                      0xfffffff0, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800000, 0x00000001};
    uint32_t* word = Word(engine);
    if (random_() % 2) {
      *word = kExtremes[random_() % std::size(kExtremes)];
    } else {
      *word += uint32_t(random_() % 7) - 3;
    }
  }

  void CopyRecord(TestEngine& engine) {
    const uint32_t from = random_() % 4, to = random_() % 4;
    switch (random_() % 5) {
      case 0:
        engine.slot(to) = engine.slot(from);
        break;
      case 1:
        engine.group(to) = engine.group(from);
        break;
      case 2:
        engine.move(to) = engine.move(from);
        break;
      case 3:
        engine.edit(to) = engine.edit(from);
        break;
      default:
        engine.segment(to) = engine.segment(from);
    }
  }

  std::mt19937 random_;
};

// Has each slot of the step see as many summary rows as it has, by asking for fewer until nothing is refused.
void ReadAllRows(TestEngine& engine) {
  for (uint32_t slot = 0; slot < 4; ++slot) {
    kvrm_group& far = engine.group(engine.slot(slot).group_first);
    const std::string place = "groups[" + std::to_string(engine.slot(slot).group_first) + "].count";
    while (far.count > 0) {
      engine.header().num_decode = 0;  // never accepted here
      CHECK(engine.TryCommit() != KVRM_OK);
      engine.header().num_decode = 4;
      if (LastErrorText().find(place) == std::string::npos) break;
      --far.count;
    }
  }
}

// A decoding step whose outcome shows the state it started from: the pool, and the token states, by the
// least penalised of a few tokens.
void ProbeStep(TestEngine& engine, uint32_t which) {
  engine.Begin();
  engine.Move(0, engine.config.num_blocks - 6, 5, KVRM_TIER_HOST, KVRM_TIER_POOL);
  Sampling sampling = {0, 0, 1, 0, 5, 3, true, 3, 2, 2};
  sampling.mask = engine.Mask(TokenRange(int32_t(which % 6) * 6, int32_t(which % 6) * 6 + 7));
  for (uint32_t slot = 0; slot < 4; ++slot) {
    engine.Decode(slot, 3, 60, {36 - slot * 8, 37 - slot * 8, 38 - slot * 8, 39 - slot * 8}, 0, sampling);
    if (engine.config.max_summaries != 0) engine.Far(slot, 0, 2, kFarRows);
  }
  if (engine.config.max_summaries != 0) ReadAllRows(engine);
  engine.Step();
}

void CheckSameState(TestEngine& found, TestEngine& wanted) {
  CHECK_EQ(found.next_step(), wanted.next_step());
  for (uint32_t which = 0; which < 6; ++which) {
    ProbeStep(found, which);
    ProbeStep(wanted, which);
    for (uint32_t slot = 0; slot < 4; ++slot) {
      CHECK_EQ(found.sampled(slot).token, wanted.sampled(slot).token);
      CHECK_EQ(std::memcmp(&found.sampled(slot).logprob, &wanted.sampled(slot).logprob, 4), 0);
    }
  }
  CHECK(found.Pool() == wanted.Pool());
}

// Runs the same valid steps on two engines, one of which is offered bad ones in between. An offer that
// is accepted goes to both.
void Fuzz(const TestModel& model, uint32_t seed, uint32_t rounds, bool random_bytes, bool far = false) {
  TestEngine engine(model, Config(far)), untouched(model, Config(far));
  Steps steps(seed);
  Mutator mutator(seed + 1);
  uint32_t refused = 0, accepted = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    steps.Fill(engine);
    const std::vector<uint8_t> valid(engine.bytes(), engine.bytes() + engine.info.descriptor_bytes);
    if (random_bytes) {
      mutator.Randomise(engine);
    } else {
      mutator.Mutate(engine);
    }
    const int32_t status = engine.TryCommit();
    if (status == KVRM_OK) {
      ++accepted;
      engine.Wait();
      std::copy_n(engine.bytes(), engine.info.descriptor_bytes, untouched.bytes());
      untouched.Step();
    } else {
      CHECK_EQ(status, int32_t(KVRM_INVALID_DESCRIPTOR));
      CHECK(!LastErrorText().empty());
      ++refused;
      if (round % 4 == 0) {  // the step as it was passes still, and does the same
        std::copy(valid.begin(), valid.end(), engine.bytes());
        std::copy(valid.begin(), valid.end(), untouched.bytes());
        engine.Step();
        untouched.Step();
        for (uint32_t slot = 0; slot < 4; ++slot) {
          CHECK_EQ(std::memcmp(&engine.sampled(slot), &untouched.sampled(slot), sizeof(kvrm_slot_result)), 0);
        }
      }
    }
    if (round % 64 == 63) CheckSameState(engine, untouched);
  }
  CheckSameState(engine, untouched);
  CHECK(refused > rounds / 4);
  if (!random_bytes) CHECK(accepted > rounds / 50);
}

TEST(MutatedDescriptorsChangeNothing) {
  Fuzz(Full(), 1, Rounds(), false);
  Fuzz(Windowed(), 2, Rounds(), false);
}

TEST(MutatedDescriptorsWithFarHistoryChangeNothing) {
  if (!OnGpu()) Fuzz(FullAttention(), 4, Rounds() / 2, false, true);
}

TEST(RandomBytesChangeNothing) { Fuzz(Full(), 3, Rounds() / 4, true); }

// KV that holds anything at all, NaN and infinities included, must still give a token of the vocabulary,
// also where penalties overflow.
TEST(AnyPoolContentGivesATokenOfTheVocabulary) {
  TestEngine engine(Full(), Config());
  std::mt19937 random(9);
  std::vector<uint8_t> pool(size_t{engine.config.num_blocks} * engine.info.block_bytes);
  for (int round = 0; round < 20; ++round) {
    for (uint8_t& byte : pool) byte = uint8_t(random() | (round % 2 ? 0x7f : 0));
    CHECK_OK(kvrm_import_blocks(engine.handle, 0, engine.config.num_blocks, pool.data(), uint32_t(pool.size())));
    engine.Begin();
    for (uint32_t slot = 0; slot < 4; ++slot) {
      Sampling sampling = {float(slot % 2), slot < 2 ? 0u : 5u, slot < 2 ? 1.0f : 0.7f, 0.1f, 5, 21};
      sampling.adjust = round % 4 > 1;
      sampling.repetition = 1e-38f;
      sampling.presence = -3e38f;
      sampling.frequency = 3e38f;
      if (sampling.adjust) engine.Bias(slot, round + 10, -3e38f);
      engine.Decode(slot, 3, 60, Contiguous(slot * 8, 4), uint32_t(round), sampling);
    }
    engine.Step();
    for (uint32_t slot = 0; slot < 4; ++slot) {
      CHECK(0 <= engine.sampled(slot).token && engine.sampled(slot).token < 37);
      for (uint32_t i = 0; i < engine.sampled(slot).num_tops; ++i) {
        CHECK(0 <= engine.tops(slot)[i].token && engine.tops(slot)[i].token < 37);
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::test
