// Products in BF16: tiles of several rows of x and one to four groups of 16 rows of w. A register of weights is two
// numbers of k for 16 outputs, and meets the same two of each row of x, broadcast.
#include "bf16.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the compiler's own header (g++ 12)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")

namespace kvrm::cpu {
namespace {

// So many rows are one tile with one group of w: their sums are in registers, and weights come from memory once. Up to
// kMaxDirectRows the tiles that follow find them in the second cache.
constexpr uint32_t kTallRows = 24, kMaxDirectRows = 64;
// Of many rows, a tile; two groups of w wait in the first cache.
constexpr uint32_t kPanelRows = 6, kPanelGroups = 4;
// Pairs of k of a panel (16 KiB), and rows of x of a pass over the weights, whose sums wait in memory between two
// blocks of k.
constexpr uint32_t kBlockPairs = 256;
constexpr uint32_t kPassRows = 192;
// Bytes of each stream of weights that are asked for ahead, for the second cache: processors do so by themselves, but
// not across pages, and the first cache has room for too few requests to wait for memory.
constexpr size_t kAhead = 4096;

using Lanes = __m512;

// Where the weights of Groups neighbouring groups lie, from a pair of k on, and what is asked for meanwhile.
template <size_t Groups>
struct Streams {
  const uint8_t* w[Groups];
  const uint8_t* ahead[Groups];
};

// Adds the products of `pairs` pairs of k. x: the first of Rows rows, from that pair on; next_x: sixteen whose numbers
// are asked for, a line of 16 pairs of each in 16 steps.
template <size_t Rows, size_t Groups, bool kAsk>
__attribute__((always_inline)) inline void Steps(const uint8_t* x, const uint8_t* next_x, size_t x_bytes,
                                                 const Streams<Groups>& from, size_t pairs,
                                                 Lanes (&acc)[Rows][Groups]) {
  for (size_t p = 0; p < pairs; ++p) {
    __m512bh w[Groups];
    if constexpr (!kAsk) __builtin_prefetch(next_x + p % 16 * x_bytes + p / 16 * 64);
#pragma GCC unroll 4
    for (size_t g = 0; g < Groups; ++g) {
      if constexpr (kAsk) __builtin_prefetch(from.ahead[g] + p * 64, 0, 2);
      w[g] = (__m512bh)_mm512_loadu_si512(from.w[g] + p * 64);
    }
#pragma GCC unroll 24
    for (size_t i = 0; i < Rows; ++i) {
      int32_t pair;
      std::memcpy(&pair, x + i * x_bytes + p * 4, 4);
      const __m512bh two = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (size_t g = 0; g < Groups; ++g) acc[i][g] = _mm512_dpbf16_ps(acc[i][g], two, w[g]);
    }
  }
}

// The outputs of one group: which of its 16 are wanted, where they go, and their bias.
struct Outputs {
  Outputs(const PackedProduct& p, uint32_t g) : out(p.out + size_t{g} * kGroupRows), stride(p.out_stride), add(p.add) {
    const uint32_t row = g * kGroupRows, first = std::max(p.n_begin, row) - row;
    const uint32_t last = std::min(p.n_end - row, kGroupRows);
    mask = static_cast<__mmask16>((1u << last) - (1u << first));
    bias = _mm512_setzero_ps();
    if (!p.bias) return;
    float values[kGroupRows] = {};
    Widen(static_cast<const uint8_t*>(p.bias->data) + size_t{row + first} * ElementBytes(p.bias->dtype), last - first,
          p.bias->dtype, values + first);
    bias = _mm512_loadu_ps(values);
  }

  __attribute__((always_inline)) inline void Put(uint32_t row, Lanes sum) const {
    float* to = out + row * stride;
    sum = _mm512_add_ps(sum, bias);
    if (add) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
    _mm512_mask_storeu_ps(to, mask, sum);
  }

  float* out;
  size_t stride;
  bool add;
  __mmask16 mask;
  Lanes bias;
};

// ahead: bytes from the weights that are multiplied to those that are asked for.
template <size_t Rows, size_t Groups>
void DirectTile(const PackedProduct& p, uint32_t row, uint32_t g, size_t ahead) {
  const size_t pairs = p.w.cols / 2, group_bytes = pairs * 64, x_bytes = Bf16RowBytes(p.w.cols);
  const size_t far = std::min(pairs, ahead / 64);
  const uint8_t* x = static_cast<const uint8_t*>(p.x) + row * x_bytes;
  Lanes acc[Rows][Groups];
  for (size_t i = 0; i < Rows; ++i) {
    for (size_t j = 0; j < Groups; ++j) acc[i][j] = _mm512_setzero_ps();
  }
  Streams<Groups> streams;
  for (size_t j = 0; j < Groups; ++j) {
    streams.w[j] = p.w.data + (g + j) * group_bytes;
    streams.ahead[j] = streams.w[j] + far * 64;
  }
  Steps<Rows, Groups, true>(x, x + 128, x_bytes, streams, pairs - far, acc);
  // The end of a stream asks for the beginning of the one that comes after this tile.
  for (size_t j = 0; j < Groups; ++j) {
    streams.ahead[j] = streams.w[j] + Groups * group_bytes;
    streams.w[j] += (pairs - far) * 64;
  }
  x += (pairs - far) * 4;
  Steps<Rows, Groups, true>(x, x + 128, x_bytes, streams, far, acc);
  for (size_t j = 0; j < Groups; ++j) {
    const Outputs outputs(p, g + j);
    for (size_t i = 0; i < Rows; ++i) outputs.Put(row + i, acc[i][j]);
  }
}

template <size_t... Rows>
void TallTile(const PackedProduct& p, uint32_t row, uint32_t rows, uint32_t g, size_t ahead,
              std::index_sequence<Rows...>) {
  static constexpr void (*kTiles[])(const PackedProduct&, uint32_t, uint32_t, size_t) = {&DirectTile<Rows + 1, 1>...};
  kTiles[rows - 1](p, row, g, ahead);
}

// More rows than one tile has: a group's last tile asks for the next group.
void Tall(const PackedProduct& p) {
  const uint32_t tiles = (p.m + kTallRows - 1) / kTallRows, end = (p.n_end + kGroupRows - 1) / kGroupRows;
  for (uint32_t g = p.n_begin / kGroupRows; g < end; ++g) {
    for (uint32_t tile = 0, row = 0; tile < tiles; ++tile) {
      const uint32_t next = p.m * (tile + 1) / tiles;
      const size_t ahead = tile + 1 == tiles ? size_t{32} * p.w.cols : kAhead;
      TallTile(p, row, next - row, g, ahead, std::make_index_sequence<kTallRows>());
      row = next;
    }
  }
}

// Few rows: as many groups at once as keep the multipliers busy, for each sum waits for the one before.
template <size_t Rows>
void Direct(const PackedProduct& p) {
  constexpr size_t kGroups = Rows <= 5 ? 4 : Rows <= 12 ? 2 : 1;
  const uint32_t end = (p.n_end + kGroupRows - 1) / kGroupRows;
  uint32_t g = p.n_begin / kGroupRows;
  for (; g + kGroups <= end; g += kGroups) DirectTile<Rows, kGroups>(p, 0, g, kAhead);
  if constexpr (kGroups > 2) {
    if (g + 2 <= end) {
      DirectTile<Rows, 2>(p, 0, g, kAhead);
      g += 2;
    }
  }
  if constexpr (kGroups > 1) {
    if (g < end) DirectTile<Rows, 1>(p, 0, g, kAhead);
  }
}

// Pairs [first, first + count) of k for two groups, and the sums of a pass's rows with them, between blocks.
struct Block {
  uint32_t first, count;
  Streams<kPanelGroups> streams;
  Lanes* sums;  // [rows][kPanelGroups]
};

template <size_t Rows>
void PanelTile(const PackedProduct& p, uint32_t row, const Block& block) {
  const size_t x_bytes = Bf16RowBytes(p.w.cols);
  const uint8_t* x = static_cast<const uint8_t*>(p.x) + row * x_bytes + block.first * 4;
  Lanes acc[Rows][kPanelGroups];
  for (size_t i = 0; i < Rows; ++i) {
    for (size_t j = 0; j < kPanelGroups; ++j) {
      acc[i][j] = block.first == 0 ? _mm512_setzero_ps() : block.sums[i * kPanelGroups + j];
    }
  }
  Steps<Rows, kPanelGroups, false>(x, x + Rows * x_bytes, x_bytes, block.streams, block.count, acc);
  for (size_t i = 0; i < Rows; ++i) {
    for (size_t j = 0; j < kPanelGroups; ++j) block.sums[i * kPanelGroups + j] = acc[i][j];
  }
}

using Tile = void (*)(const PackedProduct&, uint32_t, const Block&);

template <size_t... Rows>
constexpr auto PanelTiles(std::index_sequence<Rows...>) {
  struct Table {
    Tile of[sizeof...(Rows)];
  };
  return Table{{&PanelTile<Rows + 1>...}};
}

// Many rows: two groups and a block of k stay in the first cache while the rows pass; the next block is asked for bit
// by bit meanwhile. A group without a neighbour is there twice, and its second sums are thrown away.
void Panels(const PackedProduct& p) {
  static constexpr auto kTiles = PanelTiles(std::make_index_sequence<kPanelRows>());
  alignas(64) Lanes sums[kPassRows * kPanelGroups];
  const uint32_t pairs = p.w.cols / 2, end = (p.n_end + kGroupRows - 1) / kGroupRows;
  const size_t group_bytes = size_t{pairs} * 64;
  const uint32_t passes = (p.m + kPassRows - 1) / kPassRows;
  for (uint32_t pass = 0, first = 0; pass < passes; ++pass) {
    const uint32_t rows = uint32_t(uint64_t{p.m} * (pass + 1) / passes) - first;
    const uint32_t tiles = (rows + kPanelRows - 1) / kPanelRows;
    for (uint32_t g = p.n_begin / kGroupRows; g < end; g += kPanelGroups) {
      const uint32_t count = std::min(kPanelGroups, end - g);
      for (uint32_t k = 0; k < pairs; k += kBlockPairs) {
        Block block{k, std::min(kBlockPairs, pairs - k), {}, nullptr};
        for (uint32_t j = 0; j < kPanelGroups; ++j) {
          block.streams.w[j] = p.w.data + (g + std::min(j, count - 1)) * group_bytes + k * size_t{64};
          const size_t next =
              k + block.count < pairs ? block.count * size_t{64} : kPanelGroups * group_bytes - k * size_t{64};
          block.streams.ahead[j] = block.streams.w[j] + next;
        }
        for (uint32_t tile = 0, done = 0, line = 0; tile < tiles; ++tile) {
          const uint32_t until = uint32_t(uint64_t{rows} * (tile + 1) / tiles);
          block.sums = sums + done * kPanelGroups;
          kTiles.of[until - done - 1](p, first + done, block);
          done = until;
          for (const uint32_t lines = block.count * (tile + 1) / tiles; line < lines; ++line) {
            for (const uint8_t* ahead : block.streams.ahead) __builtin_prefetch(ahead + line * size_t{64});
          }
        }
      }
      for (uint32_t j = 0; j < count; ++j) {
        const Outputs outputs(p, g + j);
        for (uint32_t i = 0; i < rows; ++i) outputs.Put(first + i, sums[i * kPanelGroups + j]);
      }
    }
    first += rows;
  }
}

template <size_t... Rows>
void DirectOf(const PackedProduct& p, std::index_sequence<Rows...>) {
  static constexpr void (*kDirect[])(const PackedProduct&) = {&Direct<Rows + 1>...};
  kDirect[p.m - 1](p);
}

}  // namespace

bool HasBf16Products() {
  static const bool has = [] {
    __builtin_cpu_init();
    // A name that lowers the target lowers this too; AVX-512 is the highest.
    const char* wanted = std::getenv("KVRM_CPU_TARGET");
    if (wanted && *wanted != 0 && std::strncmp(wanted, "AVX3", 4) != 0 && std::strcmp(wanted, "AMX") != 0) return false;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
  }();
  return has;
}

void RoundRows(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out) {
  for (uint32_t row = begin; row < end; ++row) {
    uint8_t* to = static_cast<uint8_t*>(out) + row * Bf16RowBytes(cols);
    for (uint32_t k = 0; k < cols; k += kBf16Step) {
      const __m512 low = _mm512_loadu_ps(x + row * x_stride + k), high = _mm512_loadu_ps(x + row * x_stride + k + 16);
      _mm512_storeu_si512(to + 2 * k, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
  }
}

void MultiplyBf16(const PackedProduct& p) {
  if (p.m == 0 || p.n_begin >= p.n_end) return;
  if (p.m <= kTallRows) return DirectOf(p, std::make_index_sequence<kTallRows>());
  if (p.m <= kMaxDirectRows) return Tall(p);
  Panels(p);
}

}  // namespace kvrm::cpu
#pragma GCC pop_options

#else

namespace kvrm::cpu {

bool HasBf16Products() { return false; }
void RoundRows(const float*, size_t, uint32_t, uint32_t, uint32_t, void*) {}
void MultiplyBf16(const PackedProduct&) {}

}  // namespace kvrm::cpu
#endif
