// How fast blocks of KV move, as lines of JSON:
//
//   host_to_device, device_to_host   scattered pieces of one size, in one batch and one by one
//   moves                            LaunchMoves by the size and number of blocks
//   layer_read, restore              four layouts of the pool: reading one layer of scattered sequences,
//                                    and restoring blocks from the host
//
//   transport_bench [substring of a line's name]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "device_memory.h"
#include "kernels.h"

namespace kvrm::cuda {
namespace {

#ifdef KVRM_EMULATOR  // shows that it runs
constexpr size_t kRegionBytes = size_t{16} << 20;
constexpr int kRepeats = 1;
constexpr uint32_t kLayers = 2, kKvHeads = 2;
#else
constexpr size_t kRegionBytes = size_t{2} << 30;
constexpr int kRepeats = 7;
constexpr uint32_t kLayers = 32, kKvHeads = 8;
#endif
constexpr uint32_t kHeadDim = 128, kElementBytes = 2;

void Succeed(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "transport_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

void Succeed(kvrm_status status) {
  if (status == KVRM_OK) return;
  std::fprintf(stderr, "transport_bench: %s\n", LastError());
  std::exit(1);
}

struct Machine {
  DeviceMemory device;  // kRegionBytes
  PinnedMemory host;    // kRegionBytes
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, end = nullptr;
  uint32_t sms = 0;
  const char* only = "";

  // The median time of the work on the stream, in us, after one that warms up.
  double Median(const std::function<void(int)>& work) {
    std::vector<double> times;
    for (int i = 0; i <= kRepeats; ++i) {
      Succeed(cudaEventRecord(start, stream), "record");
      work(i);
      Succeed(cudaEventRecord(end, stream), "record");
      Succeed(cudaGetLastError(), "launch");
      Succeed(cudaEventSynchronize(end), "synchronize");
      float ms = 0;
      Succeed(cudaEventElapsedTime(&ms, start, end), "elapsed time");
      if (i != 0) times.push_back(1e3 * double{ms});
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

// ---- between host and device ------------------------------------------------------------------------------

struct Pieces {
  std::vector<void*> to;
  std::vector<const void*> from;
  std::vector<size_t> bytes;

  void Add(uint8_t* destination, const uint8_t* source, size_t size) {
    to.push_back(destination);
    from.push_back(source);
    bytes.push_back(size);
  }
  void CopyBatch(cudaStream_t stream) const {
    cudaMemcpyAttributes attributes = {};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    size_t first = 0;
    Succeed(cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), bytes.size(), &attributes, &first, 1, stream),
            "copy a batch");
  }
  void CopyEach(cudaStream_t stream, cudaMemcpyKind kind) const {
    for (size_t i = 0; i < to.size(); ++i) Succeed(cudaMemcpyAsync(to[i], from[i], bytes[i], kind, stream), "copy");
  }
};

std::vector<uint32_t> Shuffled(uint32_t count, uint32_t seed) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

void MeasurePieces(Machine& m, bool to_device) {
  const char* name = to_device ? "host_to_device" : "device_to_host";
  if (!std::strstr(name, m.only)) return;
  for (size_t piece = 4096; piece <= size_t{8} << 20; piece *= 2) {
    const uint32_t places = static_cast<uint32_t>(kRegionBytes / piece);
    // A quarter of the region, but not more pieces than a step moves.
    const uint32_t count = std::max(1u, std::min(places / 4, 4096u));
    const std::vector<uint32_t> host_order = Shuffled(places, 1), device_order = Shuffled(places, 2);
    Pieces pieces;
    for (uint32_t i = 0; i < count; ++i) {
      uint8_t* const on_host = m.host.data() + host_order[i] * piece;
      uint8_t* const on_device = m.device.As<uint8_t>() + device_order[i] * piece;
      pieces.Add(to_device ? on_device : on_host, to_device ? on_host : on_device, piece);
    }
    const cudaMemcpyKind kind = to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
    const double batch = m.Median([&](int) { pieces.CopyBatch(m.stream); });
    const double each = m.Median([&](int) { pieces.CopyEach(m.stream, kind); });
    const double bytes = double(piece) * count;
    std::printf(
        "{\"name\": \"%s\", \"piece_bytes\": %zu, \"pieces\": %u, \"batch_us\": %.1f, \"batch_gb_per_s\": %.2f, "
        "\"each_us\": %.1f, \"each_gb_per_s\": %.2f}\n",
        name, piece, count, batch, bytes / batch / 1e3, each, bytes / each / 1e3);
  }
}

// ---- within the pool --------------------------------------------------------------------------------------

void MeasureMoves(Machine& m) {
  if (!std::strstr("moves", m.only)) return;
  for (size_t block_bytes = size_t{64} << 10; block_bytes <= size_t{4} << 20; block_bytes *= 4) {
    const uint32_t blocks = static_cast<uint32_t>(kRegionBytes / block_bytes);
    for (uint32_t count = 1; count <= std::min(blocks / 2, 1024u); count *= 4) {
      const std::vector<uint32_t> order = Shuffled(blocks, 3);
      std::vector<kvrm_move> moves;
      for (uint32_t i = 0; i < count; ++i) moves.push_back({KVRM_TIER_POOL, order[2 * i], order[2 * i + 1], 1});
      DeviceMemory header_memory, move_memory;
      Succeed(DeviceMemory::Allocate(sizeof(kvrm_header), "a header", &header_memory));
      Succeed(DeviceMemory::Allocate(moves.size() * sizeof(kvrm_move), "moves", &move_memory));
      kvrm_header header = {};
      header.num_moves = count;
      Succeed(cudaMemcpy(header_memory.As<void>(), &header, sizeof(header), cudaMemcpyHostToDevice), "copy");
      Succeed(
          cudaMemcpy(move_memory.As<void>(), moves.data(), moves.size() * sizeof(kvrm_move), cudaMemcpyHostToDevice),
          "copy");
      StepView step = {};
      step.header = header_memory.As<kvrm_header>();
      step.moves = move_memory.As<kvrm_move>();
      step.pool = m.device.As<uint8_t>();
      step.block_bytes = block_bytes;
      const double us = m.Median([&](int) { LaunchMoves({m.stream, m.sms, false}, step, count); });
      // Read and written.
      std::printf("{\"name\": \"moves\", \"block_bytes\": %zu, \"blocks\": %u, \"us\": %.1f, \"gb_per_s\": %.1f}\n",
                  block_bytes, count, us, 2.0 * static_cast<double>(block_bytes) * count / us / 1e3);
    }
  }
}

// ---- layouts of the pool ----------------------------------------------------------------------------------

// Where K or V of one block, layer and head is; the [token][dim] of it is contiguous in each.
struct Layout {
  const char* name;
  uint64_t block, layer, kv, head;  // strides in bytes
  uint32_t pieces;                  // contiguous ranges of a block
};

std::vector<Layout> Layouts(uint32_t blocks, uint64_t tile) {
  const uint64_t heads = kKvHeads * tile;
  return {{"[block][layer][K|V][head][token][dim]", kLayers * 2 * heads, 2 * heads, heads, tile, 1},
          {"[layer][block][K|V][head][token][dim]", 2 * heads, blocks * 2 * heads, heads, tile, kLayers},
          {"[block][layer][head][K|V][token][dim]", kLayers * 2 * heads, 2 * heads, tile, 2 * tile, 1},
          {"[layer][K|V][block][head][token][dim]", heads, 2 * blocks * heads, blocks * heads, tile, 2 * kLayers}};
}

constexpr uint32_t kReadThreads = 256;
constexpr uint32_t kReadBlocks = 8;  // of a sequence and one head, by one block of threads: a split

// Reads K and V of one layer; table: the sequences' blocks, one after another. 16 bytes for each load.
__global__ void __launch_bounds__(kReadThreads)
    ReadLayer(const uint8_t* pool, Layout layout, const uint32_t* table, uint32_t blocks, uint32_t tile, uint32_t layer,
              uint32_t* sink) {
  WaitForPrevious();
  const uint32_t runs = (blocks + kReadBlocks - 1) / kReadBlocks;
  uint32_t mixed = 0;
  for (uint32_t item = blockIdx.x; item < runs * kKvHeads; item += gridDim.x) {
    const uint32_t first = item / kKvHeads * kReadBlocks, head = item % kKvHeads;
    for (uint32_t at = threadIdx.x * 16; at < tile; at += kReadThreads * 16) {
      uint4 loaded[2 * kReadBlocks];
      for (uint32_t i = 0; i < 2 * kReadBlocks; ++i) {
        const uint32_t block = table[first + i / 2 < blocks ? first + i / 2 : first];
        loaded[i] = Load128Stream(pool + block * layout.block + layer * layout.layer + i % 2 * layout.kv +
                                  head * layout.head + at);
      }
      for (const uint4& v : loaded) mixed ^= v.x ^ v.y ^ v.z ^ v.w;
    }
  }
  if (mixed == 0x12345678u) *sink = mixed;  // so that the loads stay
}

// Blocks of the table in runs of so many adjacent ones.
std::vector<uint32_t> Table(uint32_t blocks, uint32_t run) {
  std::vector<uint32_t> table;
  for (const uint32_t first : Shuffled(blocks / run, 4)) {
    for (uint32_t i = 0; i < run; ++i) table.push_back(first * run + i);
  }
  return table;
}

void MeasureRead(Machine& m, const Layout& layout, uint32_t blocks, uint32_t tile, uint32_t tokens, uint32_t run) {
  if (!std::strstr("layer_read", m.only)) return;
  const std::vector<uint32_t> table = Table(blocks, run);
  const uint32_t count = static_cast<uint32_t>(table.size());
  DeviceMemory memory, sink;
  Succeed(DeviceMemory::Allocate(count * sizeof(uint32_t), "a table", &memory));
  Succeed(DeviceMemory::Allocate(sizeof(uint32_t), "a sink", &sink));
  Succeed(cudaMemcpy(memory.As<void>(), table.data(), count * sizeof(uint32_t), cudaMemcpyHostToDevice), "copy");
  const double us = m.Median([&](int i) {
    // Another layer each time: not from the L2 cache.
    Launch({dim3(8 * m.sms), dim3(kReadThreads), 0, m.stream, false}, ReadLayer, m.device.As<uint8_t>(), layout,
           memory.As<uint32_t>(), count, tile, static_cast<uint32_t>(i) % kLayers, sink.As<uint32_t>());
  });
  std::printf(
      "{\"name\": \"layer_read\", \"layout\": \"%s\", \"block_tokens\": %u, \"run\": %u, \"us\": %.1f, "
      "\"gb_per_s\": %.1f}\n",
      layout.name, tokens, run, us, 2.0 * count * kKvHeads * tile / us / 1e3);
}

// The host tier has the pool's layout and size here, so that pieces join on both sides alike.
void MeasureRestore(Machine& m, const Layout& layout, uint32_t blocks, uint32_t tile, uint32_t tokens, uint32_t run,
                    uint32_t wanted) {
  if (!std::strstr("restore", m.only)) return;
  const uint32_t count = std::min(wanted, blocks / run * run) / run * run;
  if (count == 0) return;
  const std::vector<uint32_t> table = Table(blocks, run);
  const uint64_t piece = uint64_t{kLayers} * 2 * kKvHeads * tile / layout.pieces;
  const uint32_t by_kv = layout.pieces / kLayers;  // 2: K and V lie apart; 0: one piece is all of a block
  Pieces pieces;
  for (uint32_t first = 0; first < count; first += run) {
    for (uint32_t p = 0; p < layout.pieces; ++p) {
      const uint64_t part = by_kv == 2 ? p / 2 * layout.layer + p % 2 * layout.kv : by_kv == 1 ? p * layout.layer : 0;
      const uint64_t offset = table[first] * layout.block + part;
      pieces.Add(m.device.As<uint8_t>() + offset, m.host.data() + offset, piece * run);
    }
  }
  const double us = m.Median([&](int) { pieces.CopyBatch(m.stream); });
  const double bytes = static_cast<double>(piece) * layout.pieces * count;
  std::printf(
      "{\"name\": \"restore\", \"layout\": \"%s\", \"block_tokens\": %u, \"run\": %u, \"blocks\": %u, "
      "\"pieces\": %zu, \"piece_bytes\": %llu, \"us\": %.1f, \"gb_per_s\": %.2f}\n",
      layout.name, tokens, run, count, pieces.to.size(), static_cast<unsigned long long>(piece * run), us,
      bytes / us / 1e3);
}

void MeasureLayouts(Machine& m) {
  for (const uint32_t tokens : {16u, 32u, 64u}) {
    const uint32_t tile = tokens * kHeadDim * kElementBytes;
    const uint32_t blocks = static_cast<uint32_t>(kRegionBytes / (uint64_t{kLayers} * 2 * kKvHeads * tile));
    for (const Layout& layout : Layouts(blocks, tile)) {
      for (const uint32_t run : {1u, 8u}) {
        MeasureRead(m, layout, blocks, tile, tokens, run);
        for (const uint32_t wanted : {8u, 64u, 512u}) MeasureRestore(m, layout, blocks, tile, tokens, run, wanted);
      }
    }
  }
}

void Run(const char* only) {
  Machine m;
  m.only = only;
  int sms = 0;
  Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "ask the device");
  m.sms = static_cast<uint32_t>(sms);
  Succeed(DeviceMemory::Allocate(kRegionBytes, "the pool", &m.device));
  Succeed(PinnedMemory::Allocate(kRegionBytes, "the host tier", &m.host));
  std::memset(m.host.data(), 1, kRegionBytes);
  Succeed(cudaMemset(m.device.As<void>(), 1, kRegionBytes), "fill");
  Succeed(cudaStreamCreateWithFlags(&m.stream, cudaStreamNonBlocking), "create a stream");
  Succeed(cudaEventCreateWithFlags(&m.start, cudaEventDefault), "create an event");
  Succeed(cudaEventCreateWithFlags(&m.end, cudaEventDefault), "create an event");
  MeasurePieces(m, true);
  MeasurePieces(m, false);
  MeasureMoves(m);
  MeasureLayouts(m);
  cudaEventDestroy(m.start);
  cudaEventDestroy(m.end);
  cudaStreamDestroy(m.stream);
}

}  // namespace
}  // namespace kvrm::cuda

int main(int argc, char** argv) {
  kvrm::cuda::Run(argc > 1 ? argv[1] : "");
  return 0;
}
