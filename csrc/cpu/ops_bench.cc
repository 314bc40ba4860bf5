// Measures the operations against this machine's limits, found in the same run: the read bandwidth of
// one and of all threads, and the FMA rate of a loop that touches registers only.
//
//   ops_bench [substring of a line's name]
//
// Weights are walked through a buffer that no cache holds, as a step walks a model.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bf16.h"
#include "dispatch.h"
#include "ops.h"
#include "quant.h"
#include "tile_matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ops_bench.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

// 2 * L * 12 * rounds floating-point operations in 12 chains.
float FmaLoop(size_t rounds) {
  const DF d;
  VF acc[12];
  // Each chain starts elsewhere: the compiler runs one instead of twelve that are equal.
  for (size_t j = 0; j < 12; ++j) acc[j] = hn::Set(d, static_cast<float>(j));
  VF a = hn::Set(d, 1.0f);
  VF b = hn::Set(d, 0.5f);
  for (size_t i = 0; i < rounds; ++i) {
#if defined(__GNUC__) && defined(__x86_64__)
    asm volatile("" : "+v"(a.raw), "+v"(b.raw));
#endif
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) acc[j] = hn::MulAdd(a, b, acc[j]);
  }
  for (size_t j = 1; j < 12; ++j) acc[0] = hn::Add(acc[0], acc[j]);
  return hn::GetLane(acc[0]);
}

size_t FmaLanes() { return kLanes; }

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvrm::cpu {

KVRM_EXPORT(FmaLoop);
KVRM_EXPORT(FmaLanes);

namespace {

constexpr size_t kBufferBytes = size_t{768} << 20;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The processor time of this thread: on a shared machine, waiting for a turn does not count.
double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The shortest time of one call of part(thread, repeat) on all threads at once, over some tries.
double Best(size_t threads, const std::function<void(size_t, size_t)>& part, double budget = 0.4) {
  double best = 1e30;
  const double until = Seconds() + budget;
  for (size_t repeat = 0; repeat < 3 || Seconds() < until; ++repeat) {
    std::atomic<size_t> ready{0};
    std::vector<double> spent(threads);
    const auto run = [&](size_t thread) {
      ready.fetch_add(1);
      while (ready.load() < threads) {
      }
      const double begin = ThreadSeconds();
      part(thread, repeat);
      spent[thread] = ThreadSeconds() - begin;
    };
    std::vector<std::thread> others;
    for (size_t t = 1; t < threads; ++t) others.emplace_back(run, t);
    run(0);
    for (std::thread& other : others) other.join();
    best = std::min(best, *std::max_element(spent.begin(), spent.end()));
  }
  return best;
}

struct Limits {
  double gb[3];      // read bandwidth, GB/s, of 1 and 2 threads
  double gflops[3];  // FMA, of 1 and 2 threads
};

struct Bench {
  std::string only;
  Limits limits;
  std::unique_ptr<uint8_t[]> buffer{new uint8_t[kBufferBytes]};

  bool Selected(const std::string& name) const { return name.find(only) != std::string::npos; }

  void Report(const std::string& name, size_t threads, double seconds, double bytes, double flops) const {
    const double gb = bytes / seconds / 1e9, gflops = flops / seconds / 1e9;
    std::printf("%-34s %zu thr %9.1f us %7.1f GB/s (%3.0f%%) %8.1f GFLOP/s (%3.0f%%)\n", name.c_str(), threads,
                seconds * 1e6, gb, 100 * gb / limits.gb[threads], gflops, 100 * gflops / limits.gflops[threads]);
    std::fflush(stdout);
  }
};

const char* Name(uint32_t dtype) { return dtype == KVRM_F32 ? "f32" : dtype == KVRM_F16 ? "f16" : "bf16"; }
size_t Bytes(uint32_t dtype) { return dtype == KVRM_F32 ? 4 : 2; }

// On huge pages, as the executor's arena is: on small ones prefill lost a quarter of its speed.
template <typename T>
struct HugePages {
  static constexpr size_t kPage = size_t{2} << 20;
  using value_type = T;
  T* allocate(size_t count) {
    const size_t bytes = (count * sizeof(T) + kPage - 1) / kPage * kPage;
    void* data = std::aligned_alloc(kPage, bytes);
    madvise(data, bytes, MADV_HUGEPAGE);
    return static_cast<T*>(data);
  }
  void deallocate(T* p, size_t) { std::free(p); }
  bool operator==(const HugePages&) const { return true; }
};
using Floats = std::vector<float, HugePages<float>>;

Floats Normals(size_t count) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Floats out(count);
  for (float& x : out) x = normal(random);
  return out;
}

void MeasureLimits(Bench& bench) {
  for (size_t threads : {1, 2}) {
    const size_t share = kBufferBytes / threads;
    std::atomic<uint64_t> sink{0};
    const double read =
        Best(threads, [&](size_t t, size_t) { sink += ReadAll(bench.buffer.get() + t * share, share); });
    bench.limits.gb[threads] = kBufferBytes / read / 1e9;
    constexpr size_t kRounds = 2000000;
    std::atomic<float> sum{0};
    const double fma = Best(threads, [&](size_t, size_t) { sum = KVRM_CALL(FmaLoop)(kRounds); });
    bench.limits.gflops[threads] = 2e-9 * static_cast<double>(KVRM_CALL(FmaLanes)() * 12 * kRounds * threads) / fma;
    std::printf("limit %zu thr: read %.1f GB/s, FMA %.1f GFLOP/s\n", threads, bench.limits.gb[threads],
                bench.limits.gflops[threads]);
  }
}

// One product, the columns cut over the threads, walking through the buffer from call to call.
void BenchMatMul(const Bench& bench, uint32_t dtype, uint32_t m, uint32_t rows, uint32_t cols, size_t threads) {
  const std::string name = std::string("matmul ") + Name(dtype) + " m=" + std::to_string(m) + " " +
                           std::to_string(rows) + "x" + std::to_string(cols);
  if (!bench.Selected(name)) return;
  const size_t bytes = size_t{rows} * cols * Bytes(dtype);
  const size_t copies = kBufferBytes / bytes;
  const Floats x = Normals(size_t{m} * cols);
  Floats out(size_t{m} * rows);
  const double seconds = Best(threads, [&](size_t t, size_t repeat) {
    const Weight w{bench.buffer.get() + repeat % copies * bytes, dtype, rows, cols};
    const uint32_t share = (rows / static_cast<uint32_t>(threads) + 7) / 8 * 8;
    const uint32_t begin = static_cast<uint32_t>(t) * share;
    MatMul(w, nullptr, x.data(), cols, m, out.data(), rows, begin, std::min(rows, begin + share), false);
  });
  bench.Report(name, threads, seconds, static_cast<double>(bytes), 2.0 * m * rows * cols);
}

// The same with packed weights; the first thread makes the activations integers, or BF16, meanwhile, as a step's stage
// before it does. Operations are counted as for floats.
void BenchQuantProduct(const Bench& bench, uint32_t dtype, uint32_t m, uint32_t rows, uint32_t cols, size_t threads) {
  const bool is_bf16 = dtype == KVRM_BF16;
  if (is_bf16 && !HasBf16Products()) return;
  const std::string name = std::string("product ") + (is_bf16 ? "BF16" : FormatOf(dtype).name) +
                           " m=" + std::to_string(m) + " " + std::to_string(rows) + "x" + std::to_string(cols);
  if (!bench.Selected(name)) return;
  const QuantKernels& kernels = QuantKernel();
  const size_t bytes = rows / kGroupRows * PackedGroupBytes(dtype, cols), copies = kBufferBytes / bytes;
  const Floats x = Normals(size_t{m} * cols);
  Floats out(size_t{m} * rows);
  std::vector<uint8_t, HugePages<uint8_t>> quantised(QuantRowsBytes(m, cols));
  const double seconds = Best(threads, [&](size_t t, size_t repeat) {
    if (t == 0 && is_bf16) RoundRows(x.data(), cols, cols, 0, m, quantised.data());
    if (t == 0 && !is_bf16) kernels.quantize_rows(x.data(), cols, m, cols, 0, m, quantised.data());
    const PackedMatrix w{bench.buffer.get() + repeat % copies * bytes, dtype, rows, cols};
    const uint32_t share = (rows / static_cast<uint32_t>(threads) + 31) / 32 * 32;
    const uint32_t begin = static_cast<uint32_t>(t) * share;
    const auto multiply = is_bf16 ? MultiplyBf16 : kernels.product;
    multiply({w, nullptr, quantised.data(), m, out.data(), rows, begin, std::min(rows, begin + share), false});
  });
  bench.Report(name, threads, seconds, static_cast<double>(bytes), 2.0 * m * rows * cols);
}

// The same in tiles of BF16, weights as they lie.
void BenchTileProduct(const Bench& bench, uint32_t parts, uint32_t m, uint32_t rows, uint32_t cols, size_t threads) {
  const TileKernels* kernels = TileKernel();
  if (kernels == nullptr) return;
  const std::string name = std::string("tiles BF16 x") + std::to_string(parts) + " m=" + std::to_string(m) + " " +
                           std::to_string(rows) + "x" + std::to_string(cols);
  if (!bench.Selected(name)) return;
  const size_t bytes = size_t{2} * rows * cols, copies = kBufferBytes / bytes;
  const Floats x = Normals(size_t{m} * cols);
  Floats out(size_t{m} * rows);
  std::vector<uint8_t, HugePages<uint8_t>> split(TileRowsBytes(m, cols, parts));
  const double seconds = Best(threads, [&](size_t t, size_t repeat) {
    if (t == 0) kernels->split(x.data(), cols, m, cols, parts, 0, cols / kTileStep, split.data());
    const Weight w{bench.buffer.get() + repeat % copies * bytes, KVRM_BF16, rows, cols};
    const uint32_t share = (rows / static_cast<uint32_t>(threads) + 31) / 32 * 32;
    const uint32_t begin = static_cast<uint32_t>(t) * share;
    kernels->product(
        {w, nullptr, split.data(), parts, m, out.data(), rows, begin, std::min(rows, begin + share), false});
  });
  bench.Report(name, threads, seconds, static_cast<double>(bytes), 2.0 * m * rows * cols);
}

// All splits of one history for one kv head per thread; queries: heads of the group times rows.
void BenchAttention(const Bench& bench, uint32_t dtype, uint32_t tokens, uint32_t dim, uint32_t queries,
                    size_t threads) {
  const std::string name = std::string("attend ") + Name(dtype) + " q=" + std::to_string(queries) + " " +
                           std::to_string(tokens) + "x" + std::to_string(dim);
  if (!bench.Selected(name)) return;
  const uint32_t block_tokens = 32, kv_heads = 4;
  const size_t block_bytes = size_t{2} * kv_heads * block_tokens * dim * Bytes(dtype);
  const uint32_t blocks = tokens / block_tokens;
  const uint32_t pools = static_cast<uint32_t>(kBufferBytes / block_bytes / blocks);
  const Floats q = Normals(size_t{queries} * dim);
  const std::vector<uint32_t> positions(queries, tokens - 1);
  const double seconds = Best(threads, [&](size_t t, size_t repeat) {
    std::vector<Partial> partials(queries);
    std::vector<float> acc(size_t{queries} * dim);
    const kvrm_group group{0, 0, static_cast<uint32_t>(repeat) % pools * blocks, blocks};
    const KvView kv{bench.buffer.get(), dtype, block_tokens, dim, kv_heads, 1, 0, &group, 1};
    for (uint32_t head = static_cast<uint32_t>(t); head < kv_heads; head += static_cast<uint32_t>(threads)) {
      for (uint32_t split = 0; split < tokens / kSplitTokens; ++split) {
        AttendSplit(kv, head, 0.1f, 0, split, q.data(), dim, positions.data(), queries, partials.data(), acc.data(),
                    dim);
      }
    }
  });
  const double bytes = static_cast<double>(block_bytes) * blocks;
  bench.Report(name, threads, seconds, bytes, 4.0 * kv_heads * queries * tokens * dim);
}

void BenchRows(const Bench& bench) {
  const Floats x = Normals(128256);
  Floats out(x.size()), other = x;
  const auto measure = [&](const std::string& name, size_t bytes, const std::function<void()>& body) {
    if (!bench.Selected(name)) return;
    const double seconds = Best(
        1, [&](size_t, size_t) { body(); }, 0.2);
    bench.Report(name, 1, seconds, static_cast<double>(bytes), 0);
  };
  const Weight w{other.data(), KVRM_F32, 2048, 1};
  measure("rms_norm 2048", 2048 * 12, [&] { RmsNorm(w, 1e-5f, x.data(), 2048, out.data()); });
  measure("silu_mul 5632", 5632 * 12, [&] { SiluMul(x.data(), other.data(), 5632, out.data()); });
  measure("rope_head 128", 128 * 16, [&] { RopeHead(out.data(), x.data(), other.data(), 64); });
  measure("rope_table 64", 64 * 12, [&] { RopeTable(x.data(), 64, 4000, out.data(), out.data() + 64); });
  measure("convert bf16 1024", 1024 * 6, [&] { Convert(x.data(), 1024, KVRM_BF16, out.data()); });
  measure("convert f16 1024", 1024 * 6, [&] { Convert(x.data(), 1024, KVRM_F16, out.data()); });
  for (const uint32_t vocab : {32000u, 128256u}) {
    const std::string size = std::string(" ").append(std::to_string(vocab));
    Floats logits(x.begin(), x.begin() + vocab), peaked = logits;
    for (float& v : peaked) v *= 3;
    const std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, SampleScratchBytes(vocab)),
                                                              std::free);
    uint32_t counter = 0;
    const auto sample = [&](const std::string& name, const Floats& from, SampleParams params) {
      measure(std::string("sample ").append(name).append(size), vocab * 4, [&, params]() mutable {
        params.counter = counter++;
        Sample(from.data(), vocab, params, scratch.get());
      });
    };
    measure("log_sum_exp" + size, vocab * 4, [&] { LogSumExp(logits.data(), vocab); });
    sample("greedy", logits, {0, 0, 1, 0, 1, 0});
    sample("free", logits, {1, 0, 1, 0, 1, 0});
    sample("top-k 50", logits, {1, 50, 1, 0, 1, 0});
    sample("top-p 0.9 (sd 3)", peaked, {1, 0, 0.9f, 0, 1, 0});
    sample("top-p 0.9 (flat)", logits, {1, 0, 0.9f, 0, 1, 0});
    sample("min-p 0.05", peaked, {1, 0, 1, 0.05f, 1, 0});
    kvrm_top tops[20];
    measure("top_logprobs 20" + size, vocab * 4,
            [&] { TopLogprobs(logits.data(), vocab, 0, 20, tops, scratch.get()); });
  }
}

void Main(const char* only) {
  Bench bench;
  bench.only = only;
  std::printf("target %s\n", TargetName());
  // Small numbers in every dtype: no infinities, no subnormals.
  std::mt19937 random(3);
  for (size_t i = 0; i < kBufferBytes; i += 4) {
    const uint32_t bits = 0x30003000u | (static_cast<uint32_t>(random()) & 0x8fff8fffu);
    std::memcpy(bench.buffer.get() + i, &bits, 4);
  }
  MeasureLimits(bench);
  for (const uint32_t dtype : {KVRM_BF16, KVRM_F16, KVRM_F32}) {
    for (const size_t threads : {1, 2}) {
      for (const uint32_t m : {1u, 2u, 3u, 4u, 8u, 16u}) BenchMatMul(bench, dtype, m, 5632, 2048, threads);
      for (const uint32_t m : {32u, 128u, 512u}) {
        BenchMatMul(bench, dtype, m, 5632, 2048, threads);
        BenchMatMul(bench, dtype, m, 2048, 5632, threads);
      }
      for (const uint32_t m : {1u, 16u, 128u}) BenchMatMul(bench, dtype, m, 3072, 768, threads);
    }
  }
  for (const uint32_t parts : {1u, 2u}) {
    for (const size_t threads : {1, 2}) {
      for (const uint32_t m : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 512u}) {
        BenchTileProduct(bench, parts, m, 5632, 2048, threads);
      }
      for (const uint32_t m : {1u, 16u, 128u}) BenchTileProduct(bench, parts, m, 2048, 5632, threads);
    }
  }
  for (const uint32_t dtype : {KVRM_BF16, KVRM_Q8_0, KVRM_Q4_0, KVRM_Q4_K, KVRM_Q5_K, KVRM_Q6_K}) {
    for (const size_t threads : {1, 2}) {
      for (const uint32_t m : {1u, 2u, 4u, 8u, 12u, 16u, 24u, 32u, 64u, 128u, 512u}) {
        BenchQuantProduct(bench, dtype, m, 5632, 2048, threads);
      }
      for (const uint32_t m : {1u, 16u, 128u}) BenchQuantProduct(bench, dtype, m, 2048, 5632, threads);
    }
  }
  for (const uint32_t dtype : {KVRM_BF16, KVRM_F16, KVRM_F32}) {
    for (const size_t threads : {1, 2}) {
      for (const uint32_t dim : {64u, 128u}) {
        for (const uint32_t queries : {1u, 4u, 8u, 64u, 256u}) {
          BenchAttention(bench, dtype, 8192, dim, queries, threads);
        }
      }
    }
  }
  BenchRows(bench);
}

}  // namespace
}  // namespace kvrm::cpu

int main(int argc, char** argv) { kvrm::cpu::Main(argc > 1 ? argv[1] : ""); }
#endif  // HWY_ONCE
