// How fast attention is, as lines of JSON; each reads K and V of one layer of a deep pool.
//
//   attention_copy      device to device, the rate that the others are held against
//   attention           LaunchAttention by batch, length, block size and scatter; split lengths, types, sizes
//   attention_ring      the depth of a warp's ring (attention_tensor.h has the default), and bulk copies
//   attention_prefill   a chunk of one sequence
//
//   attention_bench [substring of a line's name]
#include <cstdio>

#include "attention_tensor.h"
#include "attention_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Attention;
using test::Scatter;
using test::Sequence;
using test::Shape;
using test::Succeed;

#ifdef KVRM_EMULATOR  // shows that it runs
constexpr size_t kCopyBytes = 1 << 20, kFlushBytes = 1 << 16;
constexpr int kRepeats = 1;
constexpr uint32_t kLayers = 2, kKvHeads = 1, kShrink = 64;
#else
constexpr size_t kCopyBytes = size_t{2} << 30, kFlushBytes = size_t{256} << 20;
constexpr int kRepeats = 15;
constexpr uint32_t kLayers = 16, kKvHeads = 8, kShrink = 1;
#endif

using LaunchFunction = void (*)(const LaunchContext&, const StepView&, const AttentionArgs&);

struct Machine {
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, end = nullptr;
  uint32_t sms = 0;
  double copy_gb_per_s = 0;  // read and written
  test::Buffer flush{kFlushBytes};
  const char* only = "";

  // The median time in us of what `work` puts on the stream, the cache emptied before each.
  template <class Work>
  double Median(Work work) {
    std::vector<double> times;
    for (int i = 0; i <= kRepeats; ++i) {
      Succeed(cudaMemsetAsync(flush.As<void>(), i, kFlushBytes, stream), "cudaMemsetAsync");
      Succeed(cudaEventRecord(start, stream), "cudaEventRecord");
      work(i);
      Succeed(cudaEventRecord(end, stream), "cudaEventRecord");
      Succeed(cudaGetLastError(), "launch");
      Succeed(cudaEventSynchronize(end), "cudaEventSynchronize");
      float ms = 0;
      Succeed(cudaEventElapsedTime(&ms, start, end), "cudaEventElapsedTime");
      if (i != 0) times.push_back(1e3 * double{ms});  // the first one warms up
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  bool Wants(const char* name) const { return std::strstr(name, only) != nullptr; }
};

void MeasureCopy(Machine& m) {
  test::Buffer from(kCopyBytes), to(kCopyBytes);
  const double us = m.Median([&](int) {
    Succeed(cudaMemcpyAsync(to.As<void>(), from.As<void>(), kCopyBytes, cudaMemcpyDeviceToDevice, m.stream), "copy");
  });
  m.copy_gb_per_s = 2.0 * static_cast<double>(kCopyBytes) / us / 1e3;
  std::printf("{\"name\": \"attention_copy\", \"bytes\": %zu, \"us\": %.1f, \"gb_per_s\": %.1f}\n", kCopyBytes, us,
              m.copy_gb_per_s);
}

struct Case {
  const char* name;
  Shape shape;
  uint32_t batch;
  uint32_t shortest, longest;  // lengths, evenly spread
  Scatter scatter;
  LaunchFunction launch = LaunchAttention;
  uint32_t depth = 0;  // of the ring; 0: the default
  bool bulk = false;   // bulk copies instead of cp.async
  uint32_t chunk = 0;  // rows of each sequence that attend as a segment; 0: one row decodes
};

const char* ScatterName(Scatter scatter) {
  return scatter == Scatter::kNone ? "none" : scatter == Scatter::kRandom ? "random" : "worst";
}

void Measure(Machine& m, Case c) {
  if (!m.Wants(c.name)) return;
  c.shape.layers = kLayers;
  c.shape.kv_heads = kKvHeads;
  std::vector<Sequence> sequences;
  double tokens = 0, pairs = 0;  // tokens that are read, row and token pairs
  for (uint32_t i = 0; i < c.batch; ++i) {
    const uint32_t step = c.batch < 2 ? 0 : (c.longest - c.shortest) / (c.batch - 1);
    // The lengths by turns short and long.
    const uint32_t length = std::max(1u, (c.shortest + (i % 2 == 0 ? i / 2 : c.batch - 1 - i / 2) * step) / kShrink);
    const uint32_t rows = std::min(length, std::max(1u, c.chunk / kShrink));
    sequences.push_back({i, length, rows, c.chunk == 0});
    tokens += length;
    pairs += double(rows) * length - double(rows) * (rows - 1) / 2;
  }
  size_t free = 0, total = 0;
  Succeed(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const double token_bytes = 2.0 * kKvHeads * c.shape.head_dim * KvElementBytes(c.shape.kv_dtype);
  while (c.shape.layers > 1 && 2.5 * tokens * token_bytes * c.shape.layers > double(free)) c.shape.layers /= 2;
  Attention attention(c.shape, sequences, c.scatter, 1, false);
  attention.pool().Fill(0x38);  // a small number in every type
  test::Buffer work((kRepeats + 1) * sizeof(uint32_t));
  work.Fill(0);
  const double us = m.Median([&](int i) {
    AttentionArgs args = attention.args();
    args.work = work.As<uint32_t>() + i;
    c.launch({m.stream, m.sms, false}, attention.view(), args);
  });
  const double bytes = tokens * token_bytes;
  const double flops = 4.0 * pairs * c.shape.head_dim * kKvHeads * c.shape.group;
  std::printf(
      "{\"name\": \"%s\", \"batch\": %u, \"shortest\": %u, \"longest\": %u, \"rows\": %u, \"head_dim\": %u, "
      "\"group\": %u, \"kv_dtype\": %u, \"block_tokens\": %u, \"split_tokens\": %u, \"scatter\": \"%s\", "
      "\"groups\": %u, \"depth\": %u, \"bulk\": %s, \"layers\": %u, \"us\": %.1f, \"gb_per_s\": %.1f, \"of_copy\": "
      "%.3f, "
      "\"tflop_per_s\": %.1f}\n",
      c.name, c.batch, c.shortest / kShrink, c.longest / kShrink, attention.rows(), c.shape.head_dim, c.shape.group,
      c.shape.kv_dtype, c.shape.block_tokens, c.shape.split_tokens, ScatterName(c.scatter), attention.num_groups(),
      c.depth, c.bulk ? "true" : "false", c.shape.layers, us, bytes / us / 1e3, bytes / us / 1e3 / m.copy_gb_per_s,
      flops / us / 1e6);
  std::fflush(stdout);
}

Shape Llama8b() {
  Shape shape;
  shape.head_dim = 128;
  shape.group = 4;
  shape.out_dtype = KVRM_BF16;
  return shape;
}

void MeasureDecoding(Machine& m) {
  const Shape shape = Llama8b();
  // The aim: batch 64, 2k to 8k, 90% of the copy, within 3% wherever blocks lie.
  for (const uint32_t block_tokens : {16u, 32u, 64u}) {
    for (const Scatter scatter : {Scatter::kNone, Scatter::kRandom, Scatter::kWorst}) {
      Case c = {"attention", shape, 64, 2048, 8192, scatter};
      c.shape.block_tokens = block_tokens;
      Measure(m, c);
    }
  }
  for (const uint32_t batch : {1u, 4u, 16u, 128u}) {
    for (const uint32_t length : {256u, 1024u, 4096u, 16384u}) {
      if (batch * length > 128 * 4096) continue;
      for (const uint32_t split : {256u, 1024u}) {
        Case c = {"attention", shape, batch, length, length, Scatter::kWorst};
        c.shape.split_tokens = split;
        Measure(m, c);
      }
    }
  }
  for (const uint32_t split : {512u, 1024u, 2048u}) {
    Case c = {"attention", shape, 64, 2048, 8192, Scatter::kWorst};
    c.shape.split_tokens = split;
    Measure(m, c);
  }
  for (const uint32_t dtype : {KVRM_BF16, KVRM_F8_E4M3}) {
    for (const uint32_t dim : {64u, 80u, 96u, 128u, 256u}) {
      for (const uint32_t group : {1u, 8u}) {
        Case c = {"attention", shape, 64, 1024, 4096, Scatter::kWorst};
        c.shape.kv_dtype = dtype;
        c.shape.head_dim = dim;
        c.shape.group = group;
        Measure(m, c);
      }
    }
  }
}

template <uint32_t kDepth, class Kv, bool kBulk = false>
void MeasureRing(Machine& m) {
  for (const Scatter scatter : {Scatter::kNone, Scatter::kWorst}) {
    for (const bool one : {false, true}) {
      Case c = {"attention_ring",
                Llama8b(),
                one ? 1u : 64u,
                one ? 4096u : 2048u,
                one ? 4096u : 8192u,
                scatter,
                LaunchTensor<128, Kv, kDepth, kBulk>,
                kDepth,
                kBulk};
      c.shape.kv_dtype = std::is_same_v<Kv, fp8_t> ? KVRM_F8_E4M3 : KVRM_BF16;
      Measure(m, c);
    }
  }
}

void MeasurePrefill(Machine& m) {
  for (const uint32_t length : {2048u, 16384u}) {
    Case c = {"attention_prefill", Llama8b(), 1, length, length, Scatter::kWorst};
    c.chunk = 2048;
    Measure(m, c);
  }
}

int Main(const char* only) {
  Machine m;
  m.only = only;
  int sms = 0;
  Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  m.sms = static_cast<uint32_t>(sms);
  Succeed(cudaStreamCreateWithFlags(&m.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  Succeed(cudaEventCreateWithFlags(&m.start, cudaEventDefault), "cudaEventCreateWithFlags");
  Succeed(cudaEventCreateWithFlags(&m.end, cudaEventDefault), "cudaEventCreateWithFlags");
  MeasureCopy(m);
  MeasureDecoding(m);
  MeasureRing<3, bf16_t>(m);
  MeasureRing<4, bf16_t>(m);
  MeasureRing<5, bf16_t>(m);
  MeasureRing<7, fp8_t>(m);
  int major = 0;
  Succeed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "cudaDeviceGetAttribute");
  if (major >= 9) {
    MeasureRing<4, bf16_t, true>(m);
    MeasureRing<7, fp8_t, true>(m);
  }
  MeasurePrefill(m);
  return 0;
}

}  // namespace
}  // namespace kvrm::cuda

int main(int argc, char** argv) {
  try {
    return kvrm::cuda::Main(argc > 1 ? argv[1] : "");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "attention_bench: %s\n", e.what());
    return 1;
  }
}
