// test_engine.h - drives an engine through the ABI as a runtime would, with every choice in the test's
// hands.
#ifndef KVRM_TESTS_TEST_ENGINE_H_
#define KVRM_TESTS_TEST_ENGINE_H_

#include <algorithm>
#include <bit>
#include <vector>

#include "test_model.h"

namespace kvrm::test {

struct Sampling {
  float temperature = 0;
  uint32_t top_k = 0;
  float top_p = 1, min_p = 0;
  uint64_t seed = 7;
  uint32_t logprobs = 0;
  bool adjust = false;  // with the three penalties
  float repetition = 1, presence = 0, frequency = 0;
  uint32_t mask = 0;  // as TestEngine::Mask gave it
};

inline kvrm_engine_config EngineConfig() {
  kvrm_engine_config c = {};
  c.abi_version = KVRM_ABI_VERSION;
  c.slots = 4;
  c.block_tokens = 16;
  c.num_blocks = 96;
  c.max_context = 768;
  c.max_groups = 200;
  c.max_segments = 4;
  c.max_moves = 16;
  c.max_edits = 160;
  c.mask_rows = 4;
  c.host_blocks = 16;
  c.kv_dtype = KVRM_F32;
  c.threads = 1;
  c.num_chunks = 2;
  c.chunk0 = 32;
  c.chunk1 = 128;
  return c;
}

// Whether the library under test is the GPU's.
inline bool OnGpu() {
  uint8_t text[8] = {};
  kvrm_backend(text, sizeof(text));
  return text[0] == 'c' && text[1] == 'u';
}

class TestEngine {
 public:
  kvrm_engine_config config;
  kvrm_engine_info info;
  uint32_t handle = 0;

  TestEngine(const TestModel& model, const kvrm_engine_config& c) : config(c), vocab_(model.data.shape.vocab) {
    CHECK_OK(kvrm_engine_create(model.handle, reinterpret_cast<const uint8_t*>(&config),
                                reinterpret_cast<uint8_t*>(&info), &handle));
    descriptor_.resize(info.descriptor_bytes / 8);
    result_.resize(info.result_bytes / 8);
  }
  TestEngine(const TestEngine&) = delete;
  ~TestEngine() { kvrm_engine_destroy(handle); }

  // --- the descriptor being built -------------------------------------------------------------
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(descriptor_.data()); }
  kvrm_header& header() { return *At<kvrm_header>(0); }
  kvrm_slot& slot(uint32_t i) { return At<kvrm_slot>(info.slots_offset)[i]; }
  kvrm_segment& segment(uint32_t i) { return At<kvrm_segment>(info.segments_offset)[i]; }
  int32_t* tokens() { return At<int32_t>(info.tokens_offset); }
  int32_t* targets() { return At<int32_t>(info.targets_offset); }
  kvrm_group& group(uint32_t i) { return At<kvrm_group>(info.groups_offset)[i]; }
  kvrm_move& move(uint32_t i) { return At<kvrm_move>(info.moves_offset)[i]; }
  kvrm_edit& edit(uint32_t i) { return At<kvrm_edit>(info.edits_offset)[i]; }
  kvrm_summary& summary(uint32_t i) { return At<kvrm_summary>(info.summaries_offset)[i]; }
  uint32_t* mask(uint32_t i) { return At<uint32_t>(info.masks_offset) + size_t{i} * info.mask_words; }

  void Begin(uint32_t shape = 0) {
    std::fill(descriptor_.begin(), descriptor_.end(), 0);
    header().magic = KVRM_DESCRIPTOR_MAGIC;
    header().abi_version = KVRM_ABI_VERSION;
    header().step = next_step_;
    header().shape = shape;
  }

  // The decoding slots that follow attend over so many tokens, for which their blocks suffice.
  void PadWindow(uint32_t tokens) { header().padded_window = tokens; }

  // token -1: the slot's last sample. blocks: physical block of each logical one; groups start at the
  // logical block `from`.
  void Decode(uint32_t index, int32_t token, uint32_t position, const std::vector<uint32_t>& blocks,
              uint32_t counter = 0, const Sampling& sampling = {}, uint32_t from = 0) {
    kvrm_slot& s = slot(index);
    s.flags = KVRM_SLOT_DECODE | (token < 0 ? KVRM_SLOT_TOKEN_LAST : 0);
    s.token = token < 0 ? 0 : token;
    Place(index, position, position + 1, blocks, from);
    SetSampling(s, sampling, counter);
    ++header().num_decode;
  }

  void Prefill(uint32_t index, const std::vector<int32_t>& ids, uint32_t position, const std::vector<uint32_t>& blocks,
               bool sample, uint32_t counter = 0, const Sampling& sampling = {}, uint32_t from = 0,
               uint32_t padding = 0) {
    kvrm_slot& s = slot(index);
    s.flags = KVRM_SLOT_PREFILL | (sample ? KVRM_SLOT_SAMPLE : 0);
    Place(index, position, position + uint32_t(ids.size()), blocks, from, padding);
    if (sample) SetSampling(s, sampling, counter);
    kvrm_segment& g = segment(header().num_segments++);
    g = {index, header().num_tokens, uint32_t(ids.size()) + padding, position, 0, 0, padding, 0};
    std::copy(ids.begin(), ids.end(), tokens() + header().num_tokens);
    std::fill_n(targets() + header().num_tokens, g.count, -1);
    header().num_tokens += g.count;
  }

  void Move(uint32_t from, uint32_t to, uint32_t count, uint32_t from_tier = KVRM_TIER_POOL,
            uint32_t to_tier = KVRM_TIER_POOL) {
    move(header().num_moves++) = {from_tier | to_tier << 16, from, to, count};
  }

  void Edit(uint32_t slot, uint32_t kind, int32_t token = 0, uint32_t value = 0) {
    edit(header().num_edits++) = {slot | kind << 16, token, value, 0};
  }
  void Bias(uint32_t slot, int32_t token, float bias) {
    Edit(slot, KVRM_EDIT_BIAS, token, std::bit_cast<uint32_t>(bias));
  }
  void ClearSummaries(uint32_t slot) { Summary(slot, KVRM_SUMMARY_CLEAR, 0, 0, 0); }
  // Row `row` becomes the summary of tokens [first, first + count) of a physical block.
  void SummariseBlock(uint32_t slot, uint32_t row, uint32_t block, uint32_t first, uint32_t count) {
    Summary(slot, KVRM_SUMMARY_BLOCK, row, block, first | count << 16);
  }
  void MergeSummaries(uint32_t slot, uint32_t row, uint32_t other) { Summary(slot, KVRM_SUMMARY_MERGE, row, other, 0); }
  // A slot that was placed last and has no gap yet sees `rows` summary rows instead of its blocks [first, end).
  void Far(uint32_t index, uint32_t first, uint32_t end, uint32_t rows) {
    kvrm_slot& s = slot(index);
    std::vector<kvrm_group> groups;
    bool far = false;
    for (uint32_t g = s.group_first; g < s.group_first + s.group_count; ++g) {
      const kvrm_group whole = group(g);
      const uint32_t start = whole.logical_start, stop = start + whole.count;
      if (start < first)
        groups.push_back({whole.slot_kind, start, whole.physical_start, std::min(stop, first) - start});
      if (stop > end && !far) {
        groups.push_back({index | KVRM_GROUP_FAR << 16, first, 0, rows});
        far = true;
      }
      const uint32_t from = std::max(start, end);
      if (from < stop) groups.push_back({whole.slot_kind, from, whole.physical_start + from - start, stop - from});
    }
    std::copy(groups.begin(), groups.end(), &group(s.group_first));
    header().num_groups += uint32_t(groups.size()) - s.group_count;
    s.group_count = uint32_t(groups.size());
  }

  // A mask that allows these tokens; returns what a slot's mask field wants.
  uint32_t Mask(const std::vector<int32_t>& allowed) {
    const uint32_t row = header().num_masks++;
    std::fill_n(mask(row), info.mask_words, 0);
    for (int32_t token : allowed) mask(row)[token / 32] |= 1u << token % 32;
    return row + 1;
  }

  int32_t TryCommit() {
    const int32_t status = kvrm_commit(handle, bytes(), info.descriptor_bytes);
    if (status == KVRM_OK) ++next_step_;
    return status;
  }
  void Commit() { CHECK_OK(TryCommit()); }
  void Wait() {
    CHECK_OK(kvrm_wait(handle, 60'000'000, reinterpret_cast<uint8_t*>(result_.data()), info.result_bytes));
  }
  void Step() {
    Commit();
    Wait();
  }

  // --- the result taken last ------------------------------------------------------------------
  const kvrm_result_header& result() { return *Result<kvrm_result_header>(0); }
  const kvrm_slot_result& sampled(uint32_t i) { return Result<kvrm_slot_result>(info.result_slots_offset)[i]; }
  const kvrm_top* tops(uint32_t i) {
    return Result<kvrm_top>(info.result_slot_tops_offset) + i * KVRM_MAX_TOP_LOGPROBS;
  }
  const kvrm_row_result& row(uint32_t i) { return Result<kvrm_row_result>(info.result_rows_offset)[i]; }
  const kvrm_top* row_tops(uint32_t i) {
    return Result<kvrm_top>(info.result_row_tops_offset) + i * KVRM_MAX_TOP_LOGPROBS;
  }
  uint8_t* result_bytes() { return reinterpret_cast<uint8_t*>(result_.data()); }

  std::vector<float> Logits(uint32_t slot) {
    std::vector<float> logits(vocab_);
    CHECK_OK(kvrm_read_logits(handle, slot, logits.data(), vocab_));
    return logits;
  }
  std::vector<uint8_t> Pool() {
    std::vector<uint8_t> pool(size_t{config.num_blocks} * info.block_bytes);
    CHECK_OK(kvrm_export_blocks(handle, 0, config.num_blocks, pool.data(), uint32_t(pool.size())));
    return pool;
  }
  uint32_t next_step() const { return next_step_; }

 private:
  template <typename T>
  T* At(uint32_t offset) {
    return reinterpret_cast<T*>(bytes() + offset);
  }
  template <typename T>
  const T* Result(uint32_t offset) {
    return reinterpret_cast<const T*>(result_bytes() + offset);
  }

  void Summary(uint32_t slot, uint32_t kind, uint32_t row, uint32_t source, uint32_t tokens) {
    summary(header().num_summaries++) = {slot | kind << 16, row, source, tokens};
  }

  void Place(uint32_t index, uint32_t position, uint32_t kv_len, const std::vector<uint32_t>& blocks, uint32_t from,
             uint32_t padding = 0) {
    kvrm_slot& s = slot(index);
    s.position = position;
    s.kv_len = kv_len;
    s.write_block = blocks.at(position / config.block_tokens);
    s.write_offset = position % config.block_tokens;
    s.group_first = header().num_groups;
    const uint32_t reach = std::max(kv_len + padding, header().padded_window);
    for (uint32_t l = from; l * config.block_tokens < reach; ++l) {
      kvrm_group* last = s.group_count == 0 ? nullptr : &group(header().num_groups - 1);
      if (last && last->physical_start + last->count == blocks.at(l)) {
        ++last->count;
      } else {
        group(header().num_groups++) = {index, l, blocks.at(l), 1};
        ++s.group_count;
      }
    }
  }

  void SetSampling(kvrm_slot& s, const Sampling& sampling, uint32_t counter) {
    s.temperature = sampling.temperature;
    s.top_k = sampling.top_k;
    s.top_p = sampling.top_p;
    s.min_p = sampling.min_p;
    s.seed_lo = uint32_t(sampling.seed);
    s.seed_hi = uint32_t(sampling.seed >> 32);
    s.counter = counter;
    s.logprobs = sampling.logprobs;
    s.mask = sampling.mask;
    if (!sampling.adjust) return;
    s.flags |= KVRM_SLOT_ADJUST;
    s.repetition_penalty = sampling.repetition;
    s.presence_penalty = sampling.presence;
    s.frequency_penalty = sampling.frequency;
  }

  uint32_t vocab_;
  uint32_t next_step_ = 1;
  std::vector<uint64_t> descriptor_, result_;
};

// count consecutive blocks from first.
inline std::vector<uint32_t> Contiguous(uint32_t first, uint32_t count) {
  std::vector<uint32_t> blocks(count);
  for (uint32_t i = 0; i < count; ++i) blocks[i] = first + i;
  return blocks;
}

// The tokens first .. end - 1.
inline std::vector<int32_t> TokenRange(int32_t first, int32_t end) {
  std::vector<int32_t> tokens;
  for (int32_t token = first; token < end; ++token) tokens.push_back(token);
  return tokens;
}

inline std::vector<int32_t> RandomTokens(uint32_t count, uint32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = int32_t(random() % vocab);
  return tokens;
}

}  // namespace kvrm::test
#endif  // KVRM_TESTS_TEST_ENGINE_H_
