// Each product of a layer of Llama 3.1 8B, by type of weights and rows, as lines of JSON. Weights come from
// memory, not from the L2 cache: launches take turns on copies of them, in one graph. gb_per_s counts weights,
// of_copy holds it against the bandwidth of a copy. slots: rows that the launch is made for; cublaslt_us:
// the same product, without what becomes of it.
//
//   gemm_bench [substring of a line's product] [substring of its type]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "../common/backend.h"
#include "../common/random_tensor.h"
#include "device_memory.h"
#include "gemm.h"
#include "gemm_lt.h"
#include "graph.h"
#include "timer.h"
#include "weights_kernels.h"

namespace kvrm::cuda {
namespace {

#ifdef KVRM_EMULATOR  // shows that it runs
constexpr uint32_t kHidden = 256, kIntermediate = 512, kHeads = 4, kKvHeads = 2, kHeadDim = 64, kVocab = 1000;
constexpr uint32_t kRows[] = {1, 32, 80};
constexpr size_t kCold = 1 << 20;
constexpr int kRepeats = 1;
constexpr uint32_t kCopyMiB = 1;
#else
constexpr uint32_t kHidden = 4096, kIntermediate = 14336, kHeads = 32, kKvHeads = 8, kHeadDim = 128, kVocab = 128256;
constexpr uint32_t kRows[] = {1, 4, 8, 16, 32, 64, 256, 2048};
constexpr size_t kCold = size_t{1} << 30;  // bytes of copies, at least
constexpr int kRepeats = 15;
constexpr uint32_t kCopyMiB = 1024;
#endif

void Succeed(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "gemm_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
void Succeed(kvrm_status status) {
  if (status == KVRM_OK) return;
  std::fprintf(stderr, "gemm_bench: %s\n", LastError());
  std::exit(1);
}

struct Kind {
  const char* name;
  WeightType weight;
  uint32_t act;
};
constexpr Kind kKinds[] = {{"bf16", WeightType::kBf16, KVRM_BF16},
                           {"f16", WeightType::kF16, KVRM_F16},
                           {"fp8", WeightType::kFp8, KVRM_BF16},
                           {"int8", WeightType::kInt8, KVRM_BF16},
                           {"int4", WeightType::kInt4, KVRM_BF16}};

enum ProductId { kQkv, kO, kGateUp, kDown, kHead };
struct Shape {
  const char* name;
  ProductId id;
  uint32_t n, k;
};
constexpr Shape kShapes[] = {{"qkv", kQkv, (kHeads + 2 * kKvHeads) * kHeadDim, kHidden},
                             {"o", kO, kHidden, kHeads* kHeadDim},
                             {"gate_up", kGateUp, 2 * kIntermediate, kHidden},
                             {"down", kDown, kHidden, kIntermediate},
                             {"head", kHead, kVocab, kHidden}};

DeviceMemory Allocate(size_t bytes) {
  DeviceMemory memory;
  Succeed(DeviceMemory::Allocate(bytes, "the benchmark", &memory));
  Succeed(cudaMemset(memory.As<uint8_t>(), 0, bytes), "fill");
  return memory;
}

// Made-up numbers of dtype in memory, count of them.
void Fill(cudaStream_t stream, uint8_t* to, uint32_t rows, uint32_t cols, uint32_t dtype, uint32_t seed) {
  MadeUp what = {};
  what.sources.num = 1;
  what.sources.rows[0] = rows;
  what.key[0] = NormalKey(seed, 0, 0);
  what.dtype[0] = dtype;
  LaunchMakeUp(stream, what, 0, rows, cols, dtype, to);
}

// One product's weights, several times over.
class Weights {
 public:
  Weights(cudaStream_t stream, const Kind& kind, const Shape& shape) {
    const uint64_t bytes = AlignUp(shape.n * WeightRowBytes(kind.weight, shape.k), 256);
    const uint32_t copies = static_cast<uint32_t>(std::clamp<uint64_t>(kCold / bytes, 2, 64));
    const bool narrow = GroupElements(kind.weight) != 1;
    data_ = Allocate(copies * bytes);
    scales_ = Allocate(sizeof(float) * shape.n * ((shape.k + kInt4Group - 1) / kInt4Group));
    DeviceMemory plain = Allocate(narrow ? uint64_t{2} * shape.n * shape.k : 0);
    for (uint32_t i = 0; i < copies; ++i) {
      uint8_t* to = data_.As<uint8_t>() + i * bytes;
      uint8_t* made = narrow ? plain.As<uint8_t>() : to;
      Fill(stream, made, shape.n, shape.k, kind.act, i);
      if (narrow) LaunchQuantize(stream, made, kind.act, shape.n, shape.k, kind.weight, to, scales_.As<float>());
      DeviceWeight weight;
      weight.data = to;
      weight.scales = narrow ? scales_.As<float>() : nullptr;
      weight.type = kind.weight;
      weight.n = shape.n;
      weight.k = shape.k;
      list.push_back(weight);
    }
    Succeed(cudaStreamSynchronize(stream), "make weights");
  }
  std::vector<DeviceWeight> list;

 private:
  DeviceMemory data_, scales_;
};

class Bench {
 public:
  Bench() {
    int sms = 0, major = 0;
    Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "ask the device");
    Succeed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "ask the device");
    Succeed(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create a stream");
    context_ = {stream_, static_cast<uint32_t>(sms), major >= 9};
    Succeed(timer_.Create());
    Succeed(MeasureBandwidth(0, kCopyMiB, 10, &copy_));
    std::printf("{\"name\": \"copy\", \"gb_per_s\": %.1f}\n", copy_);
    const uint64_t most = *std::max_element(std::begin(kRows), std::end(kRows));
    x_ = Allocate(2 * most * kIntermediate);
    out_ = Allocate(sizeof(float) * most * std::max<uint64_t>(kHidden, kHeads * kHeadDim));
    y_ = Allocate(2 * most * kIntermediate);
    logits_ = Allocate(sizeof(float) * most * kVocab);
    angles_ = Allocate(sizeof(float) * most * kHeadDim);
    rows_ = Allocate(sizeof(Row) * most);
    count_ = Allocate(sizeof(uint32_t));
    // Every row writes to a place of its own: one block of 16 tokens for 16 rows.
    std::vector<Row> rows;
    for (uint32_t r = 0; r < most; ++r) rows.push_back({0, r, r, r / 16, r % 16, kNoChunkRow});
    Succeed(cudaMemcpy(rows_.As<Row>(), rows.data(), rows.size() * sizeof(Row), cudaMemcpyHostToDevice), "copy");
    pool_ = Allocate((most / 16 + 1) * 2 * kKvHeads * 16 * kHeadDim * 2);
    workspace_ = Allocate(GemmWorkspaceBytes(context_.sms, static_cast<uint32_t>(most)));
  }
  ~Bench() { cudaStreamDestroy(stream_); }

  void Measure(const Kind& kind, const Shape& shape) {
    const Weights weights(stream_, kind, shape);
    const double bytes = double(WeightRowBytes(kind.weight, shape.k)) * shape.n;
    Fill(stream_, x_.As<uint8_t>(), *std::max_element(std::begin(kRows), std::end(kRows)), shape.k, kind.act, 1);
    for (const uint32_t rows : kRows) {
      if (shape.id == kHead && rows > 256) continue;
      Succeed(cudaMemcpy(count_.As<uint32_t>(), &rows, sizeof(rows), cudaMemcpyHostToDevice), "copy");
      std::vector<uint32_t> shapes = {rows};
      if (rows < kSmallTileRows) shapes.push_back(kSmallTileRows);
      for (const uint32_t slots : shapes) {
        const double us = Time(weights, [&](const DeviceWeight& w) { Launch(kind, shape, w, slots); });
        std::printf(
            "{\"name\": \"gemm\", \"product\": \"%s\", \"type\": \"%s\", \"rows\": %u, \"slots\": %u, \"us\": %.2f, "
            "\"gb_per_s\": %.1f, \"of_copy\": %.3f, \"tflops\": %.1f",
            shape.name, kind.name, rows, slots, us, bytes / us / 1e3, bytes / us / 1e3 / copy_,
            2e-6 * shape.n * shape.k * rows / us);
        if (slots == rows && GroupElements(kind.weight) == 1 && LtAvailable()) MeasureLt(weights, shape, rows);
        std::printf("}\n");
        std::fflush(stdout);
      }
    }
  }

 private:
  // The median time of one launch, in us; a graph has one for each copy of the weights.
  double Time(const Weights& weights, const std::function<void(const DeviceWeight&)>& launch) {
    launch(weights.list[0]);  // choices that are made once
    Succeed(cudaStreamSynchronize(stream_), "run");
    Graph graph;
    Succeed(Graph::Capture(
        stream_,
        [&](cudaStream_t) {
          for (const DeviceWeight& w : weights.list) launch(w);
        },
        &graph));
    std::vector<float> times;
    for (int i = 0; i <= kRepeats; ++i) {
      float ms = 0;
      Succeed(timer_.Start(stream_), "start");
      Succeed(graph.Launch(stream_), "launch");
      Succeed(timer_.Stop(stream_, &ms), "stop");
      if (i != 0) times.push_back(1e3f * ms / static_cast<float>(weights.list.size()));
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  void MeasureLt(const Weights& weights, const Shape& shape, uint32_t rows) {
    float* sums = LtSums(rows, shape.n);
    if (!sums || !LtProduct(stream_, weights.list[0], x_.As<void>(), rows, sums)) return;
    const double us = Time(weights, [&](const DeviceWeight& w) { LtProduct(stream_, w, x_.As<void>(), rows, sums); });
    std::printf(", \"cublaslt_us\": %.2f, \"cublaslt_tflops\": %.1f", us, 2e-6 * shape.n * shape.k * rows / us);
  }

  void Launch(const Kind& kind, const Shape& shape, const DeviceWeight& weight, uint32_t slots) const {
    const GemmInput in = {x_.As<void>(), kind.act, count_.As<uint32_t>(), slots, workspace_.As<void>()};
    switch (shape.id) {
      case kQkv: {
        StepView step = {};
        step.rows = rows_.As<Row>();
        step.pool = pool_.As<uint8_t>();
        step.kv_dtype = kind.act;
        step.layers = 1;
        step.heads = kHeads;
        step.kv_heads = kKvHeads;
        step.head_dim = kHeadDim;
        step.block_tokens = 16;
        QkvEpilogue out = {};
        out.cos_table = out.sin_table = angles_.As<float>();
        out.q = out_.As<float>();
        LaunchQkv(context_, step, weight, in, out);
        break;
      }
      case kO:
      case kDown:
        LaunchResidual(context_, weight, in, nullptr, out_.As<float>());
        break;
      case kGateUp:
        LaunchGateUp(context_, weight, in, kIntermediate, y_.As<void>());
        break;
      case kHead:
        LaunchLogits(context_, weight, in, logits_.As<float>());
        break;
    }
  }

  cudaStream_t stream_ = nullptr;
  LaunchContext context_ = {};
  Timer timer_;
  double copy_ = 0;
  DeviceMemory x_, out_, y_, logits_, angles_, rows_, count_, pool_, workspace_;
};

}  // namespace
}  // namespace kvrm::cuda

int main(int argc, char** argv) {
  using namespace kvrm::cuda;
  Bench bench;
  for (const Kind& kind : kKinds) {
    if (argc > 2 && !std::strstr(kind.name, argv[2])) continue;
    for (const Shape& shape : kShapes) {
      if (argc > 1 && !std::strstr(shape.name, argv[1])) continue;
      bench.Measure(kind, shape);
    }
  }
  return 0;
}
