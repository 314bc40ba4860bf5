// What a step costs apart from its arithmetic, and what a model costs with it.
//
//   build/obj/cpu/engine_bench [threads] [substring of a model's name]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../kvrm.h"
#include "thread_pool.h"

namespace kvrm::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double Us(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

void Must(int32_t status) {
  if (status == KVRM_OK) return;
  uint8_t text[1024];
  const uint32_t length = kvrm_last_error(text, sizeof(text));
  std::printf("%.*s\n", int(length), reinterpret_cast<char*>(text));
  std::exit(1);
}

// A stage that every member takes part in: each tile waits until all have been taken. The median and
// the best of many, since a machine with other work on it shows little else.
void BenchBarrier(uint32_t threads) {
  ThreadPool pool(threads);
  std::vector<double> times;
  for (int i = 0; i < 3000; ++i) {
    std::atomic<uint32_t> arrived{0};
    const auto start = Clock::now();
    pool.Run(threads, [&](uint32_t, uint32_t) noexcept {
      ++arrived;
      while (arrived.load() != threads) CpuRelax();
    });
    times.push_back(Us(Clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  std::printf("stage over %u threads: %.2f us at best, %.2f us in the middle\n", threads, times[0],
              times[times.size() / 2]);
}

struct Shape {
  const char* name;
  uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, dtype;
};

constexpr uint32_t kSlots = 16, kBlock = 32, kContext = 1024, kChunk = 256;

// A made-up model behind an engine, driven as the runtime drives it.
class Bench {
 public:
  Bench(const Shape& s, uint32_t threads, uint32_t flags) : vocab_(s.vocab) {
    const kvrm_model_config config = {KVRM_ABI_VERSION,
                                      s.hidden,
                                      s.intermediate,
                                      s.layers,
                                      s.heads,
                                      s.kv_heads,
                                      s.head_dim,
                                      s.vocab,
                                      kContext,
                                      1e-5f,
                                      0.125f,
                                      1,
                                      KVRM_QUANTIZE_NONE,
                                      0,
                                      0};
    std::vector<kvrm_tensor> tensors;
    auto add = [&](uint32_t role, uint32_t layer, uint32_t rows, uint32_t cols) {
      // Vectors have no blocks.
      const uint32_t dtype = s.dtype > KVRM_BF16 && cols == 1 ? uint32_t{KVRM_F32} : s.dtype;
      tensors.push_back({role, layer, dtype, KVRM_NO_FILE, 0, 0, rows, cols});
    };
    const uint32_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    add(KVRM_EMBED, 0, s.vocab, s.hidden);
    add(KVRM_FINAL_NORM, 0, s.hidden, 1);
    for (uint32_t l = 0; l < s.layers; ++l) {
      add(KVRM_ATTN_NORM, l, s.hidden, 1);
      add(KVRM_Q, l, q, s.hidden);
      add(KVRM_K, l, kv, s.hidden);
      add(KVRM_V, l, kv, s.hidden);
      add(KVRM_O, l, s.hidden, q);
      add(KVRM_FFN_NORM, l, s.hidden, 1);
      add(KVRM_GATE, l, s.intermediate, s.hidden);
      add(KVRM_UP, l, s.intermediate, s.hidden);
      add(KVRM_DOWN, l, s.hidden, s.intermediate);
    }
    const std::vector<float> inv_freq(s.head_dim / 2, 0.01f);
    const std::vector<uint32_t> windows(s.layers, 0);
    Must(kvrm_model_load(reinterpret_cast<const uint8_t*>(&config), reinterpret_cast<const uint8_t*>(tensors.data()),
                         uint32_t(tensors.size()), nullptr, 0, inv_freq.data(), windows.data(), &model_));
    kvrm_engine_config e = {};
    e.abi_version = KVRM_ABI_VERSION;
    e.flags = flags;
    e.slots = kSlots;
    e.block_tokens = kBlock;
    e.num_blocks = kSlots * kContext / kBlock;
    e.max_context = kContext;
    e.max_groups = 64;
    e.max_segments = 4;
    e.max_moves = 16;
    e.kv_dtype = KVRM_F16;
    e.threads = threads;
    e.num_chunks = 1;
    e.chunk0 = kChunk;
    Must(
        kvrm_engine_create(model_, reinterpret_cast<const uint8_t*>(&e), reinterpret_cast<uint8_t*>(&info_), &engine_));
    descriptor_.resize(info_.descriptor_bytes / 8);
    result_.resize(info_.result_bytes / 8);
  }
  ~Bench() {
    Must(kvrm_engine_destroy(engine_));
    Must(kvrm_model_free(model_));
  }

  // One slot's rows from position on: a token, or a chunk.
  void Put(uint32_t slot, uint32_t position, uint32_t count, bool prefill) {
    auto* header = At<kvrm_header>(0);
    auto& s = At<kvrm_slot>(info_.slots_offset)[slot];
    s = {};
    s.flags = prefill ? KVRM_SLOT_PREFILL | KVRM_SLOT_SAMPLE : KVRM_SLOT_DECODE;
    s.token = 7;
    s.position = position;
    s.kv_len = position + count;
    s.write_block = slot * (kContext / kBlock) + position / kBlock;
    s.write_offset = position % kBlock;
    s.group_first = header->num_groups;
    s.group_count = 1;
    s.top_p = 1;
    At<kvrm_group>(info_.groups_offset)[header->num_groups++] = {slot, 0, slot * (kContext / kBlock),
                                                                 (s.kv_len + kBlock - 1) / kBlock};
    if (!prefill) {
      ++header->num_decode;
      return;
    }
    At<kvrm_segment>(info_.segments_offset)[header->num_segments++] = {
        slot, header->num_tokens, count, position, 0, 0, 0, 0};
    for (uint32_t i = 0; i < count; ++i) {
      At<int32_t>(info_.tokens_offset)[header->num_tokens++] = int32_t((position + i) * 31 % vocab_);
    }
  }
  void Begin(bool chunk) {
    std::fill(descriptor_.begin(), descriptor_.end(), 0);
    auto* header = At<kvrm_header>(0);
    header->magic = KVRM_DESCRIPTOR_MAGIC;
    header->abi_version = KVRM_ABI_VERSION;
    header->step = ++step_;
    header->shape = chunk ? 1 : 0;
  }
  void Commit() { Must(kvrm_commit(engine_, reinterpret_cast<uint8_t*>(descriptor_.data()), info_.descriptor_bytes)); }
  uint32_t Wait() {
    Must(kvrm_wait(engine_, 60'000'000, reinterpret_cast<uint8_t*>(result_.data()), info_.result_bytes));
    return reinterpret_cast<kvrm_result_header*>(result_.data())->exec_us;
  }

 private:
  template <typename T>
  T* At(uint32_t offset) {
    return reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(descriptor_.data()) + offset);
  }
  uint32_t vocab_, model_ = 0, engine_ = 0, step_ = 0;
  kvrm_engine_info info_;
  std::vector<uint64_t> descriptor_, result_;
};

// Decodes with `batch` slots, one step ahead, from position on; returns us per step of the best tenth.
double DecodeUs(Bench& bench, uint32_t batch, uint32_t position, uint32_t steps) {
  const auto commit = [&](uint32_t step) {
    bench.Begin(false);
    for (uint32_t slot = 0; slot < batch; ++slot) bench.Put(slot, position + step % 512, 1, false);
    bench.Commit();
  };
  double best = 1e12;
  const uint32_t tenth = std::max(1u, steps / 10);
  commit(0);  // of those that are timed, each is committed and another one waited for
  auto begin = Clock::now();
  for (uint32_t i = 1; i <= steps; ++i) {
    commit(i);
    bench.Wait();
    if (i % tenth == 0) {
      best = std::min(best, Us(Clock::now() - begin) / tenth);
      begin = Clock::now();
    }
  }
  bench.Wait();
  return best;
}

double PrefillUs(Bench& bench, uint32_t repeat) {
  double best = 1e12;
  for (uint32_t i = 0; i < repeat; ++i) {
    const auto begin = Clock::now();
    for (uint32_t position = 0; position < 512; position += kChunk) {
      bench.Begin(true);
      bench.Put(0, position, kChunk, true);
      bench.Commit();
      bench.Wait();
    }
    best = std::min(best, Us(Clock::now() - begin) / 512);
  }
  return best;
}

void RunSmall(uint32_t threads) {
  constexpr Shape kEmpty = {"empty", 16, 16, 1, 1, 1, 16, 16, KVRM_F16};
  constexpr Shape kTiny = {"tiny", 128, 384, 4, 4, 2, 32, 1024, KVRM_F16};
  BenchBarrier(threads);
  {
    Bench noop(kTiny, threads, KVRM_ENGINE_NOOP);
    std::printf("no-op step, 16 slots, one ahead: %.1f us\n", DecodeUs(noop, 16, 100, 20000));
  }
  {
    Bench empty(kEmpty, threads, 0);
    std::printf("nearly empty (1 layer of 16) decode step, batch 1: %.1f us\n", DecodeUs(empty, 1, 0, 20000));
  }
  {
    Bench tiny(kTiny, threads, 0);
    for (uint32_t batch : {1u, 4u, 16u}) {
      std::printf("tiny (4 layers of 128) decode step, batch %u: %.1f us\n", batch, DecodeUs(tiny, batch, 0, 5000));
    }
  }
}

// Bytes of the matrices that every step reads.
double WeightBytes(const Shape& s) {
  const double numbers =
      double(s.layers) * s.hidden * (2.0 * (s.heads + s.kv_heads) * s.head_dim + 3.0 * s.intermediate) +
      double(s.vocab) * s.hidden;
  constexpr double kBytes[] = {4, 2, 2, 1, 34.0 / 32, 18.0 / 32, 144.0 / 256, 176.0 / 256, 210.0 / 256};
  return numbers * kBytes[s.dtype];
}

void RunModel(const Shape& shape, uint32_t threads, uint32_t steps) {
  double rate = 0;
  Must(kvrm_measure_bandwidth(threads, 512, 5, &rate));
  const auto begin = Clock::now();
  Bench model(shape, threads, 0);
  std::printf("%s: made and loaded in %.0f ms; read bandwidth %.1f GB/s\n", shape.name, Us(Clock::now() - begin) / 1000,
              rate);
  for (uint32_t batch : {1u, 4u, 8u, 16u}) {
    const double us = DecodeUs(model, batch, 100, steps);
    std::printf("%s decode, batch %u: %.2f ms a step, %.1f tok/s, weights at %.1f GB/s (%.0f%%)\n", shape.name, batch,
                us / 1000, batch * 1e6 / us, WeightBytes(shape) / us / 1000, WeightBytes(shape) / us / 10 / rate);
  }
  std::printf("%s prefill: %.0f tok/s\n", shape.name, 1e6 / PrefillUs(model, 2));
}

void Run(uint32_t threads, const char* only) {
  constexpr Shape kModels[] = {
      {"160M F16", 768, 3072, 12, 12, 4, 64, 32000, KVRM_F16},
      {"160M Q8_0", 768, 3072, 12, 12, 4, 64, 32000, KVRM_Q8_0},
      {"160M Q4_K", 768, 3072, 12, 12, 4, 64, 32000, KVRM_Q4_K},
      {"1.1B Q8_0", 2048, 5632, 22, 32, 4, 64, 32000, KVRM_Q8_0},
      {"1.1B Q4_0", 2048, 5632, 22, 32, 4, 64, 32000, KVRM_Q4_0},
      {"1.1B Q4_K", 2048, 5632, 22, 32, 4, 64, 32000, KVRM_Q4_K},
  };
  if (*only == 0) RunSmall(threads);
  for (const Shape& shape : kModels) {
    if (std::strstr(shape.name, only)) RunModel(shape, threads, shape.hidden < 1024 ? 60 : 20);
  }
}

}  // namespace
}  // namespace kvrm::cpu

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  setenv("KVRM_PACK", "now", 1);  // steps are measured, not how soon the first can be taken
  kvrm::cpu::Run(argc > 1 ? uint32_t(std::atoi(argv[1])) : kvrm::cpu::ThreadCount(0), argc > 2 ? argv[2] : "");
  return 0;
}
