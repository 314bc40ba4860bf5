// Products in BF16. The loops are those of matmul-inl.h, with nothing to convert.
#include "bf16.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the compiler's own header (g++ 12)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")

namespace kvrm::cpu {
namespace {

constexpr size_t kTallRows = 6, kStreams = 4;     // a tile of few rows, whose weights come from memory
constexpr size_t kPanelRows = 3, kPanelCols = 8;  // of many, whose weights wait in the first cache
constexpr uint32_t kMaxDirectRows = 24;
// Numbers of k of a panel (24 KiB), and rows of x of a pass over the weights: these stay in the second cache, and their
// sums wait on the stack between two blocks of k.
constexpr uint32_t kBlock = 1536;
constexpr uint32_t kPassRows = 96;

using Lanes = __m512;

__attribute__((always_inline)) inline __m512bh Load(const uint8_t* p) { return (__m512bh)_mm512_loadu_si512(p); }

__attribute__((always_inline)) inline float Sum(Lanes v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Nr columns of w from n on, `apart` from each other; those past n_end repeat the last and are not written.
template <size_t Nr>
struct Columns {
  Columns(const Bf16Product& p, uint32_t n, uint32_t apart)
      : n(n), apart(apart), count(std::min<size_t>(Nr, (p.n_end - n + apart - 1) / apart)) {
    const size_t row_bytes = size_t{2} * p.w.cols;
    for (size_t j = 0; j < Nr; ++j) {
      rows[j] = static_cast<const uint8_t*>(p.w.data) + (n + std::min(j, count - 1) * apart) * row_bytes;
    }
    for (size_t j = 0; j < count && p.bias; ++j) {
      const auto* from = static_cast<const uint8_t*>(p.bias->data);
      Widen(from + (n + j * apart) * ElementBytes(p.bias->dtype), 1, p.bias->dtype, &bias[j]);
    }
  }

  uint32_t n, apart;
  size_t count;
  const uint8_t* rows[Nr];
  float bias[Nr] = {};
};

template <size_t Mr, size_t Nr>
__attribute__((always_inline)) inline void Finish(const Bf16Product& p, uint32_t row, const Columns<Nr>& columns,
                                                  const Lanes (&acc)[Mr][Nr]) {
  for (size_t i = 0; i < Mr; ++i) {
    float* out = p.out + (row + i) * p.out_stride + columns.n;
    for (size_t j = 0; j < columns.count; ++j) {
      float sum = Sum(acc[i][j]);
      if (p.bias) sum += columns.bias[j];
      float& to = out[j * columns.apart];
      to = p.add ? to + sum : sum;
    }
  }
}

// Adds `bytes` of each row, a multiple of 64, to acc. With ahead, asks for what lies so many bytes further.
template <size_t Mr, size_t Nr>
__attribute__((always_inline)) inline void Steps(const uint8_t* x, size_t x_bytes, const uint8_t* const (&w)[Nr],
                                                 size_t bytes, size_t ahead, Lanes (&acc)[Mr][Nr]) {
  for (size_t at = 0; at < bytes; at += 64) {
    __m512bh xv[Mr];
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) xv[i] = Load(x + i * x_bytes + at);
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      if (ahead != 0) __builtin_prefetch(w[j] + at + ahead);
      const __m512bh wv = Load(w[j] + at);
#pragma GCC unroll 8
      for (size_t i = 0; i < Mr; ++i) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], xv[i], wv);
    }
  }
}

template <size_t Mr>
void DirectTile(const Bf16Product& p, uint32_t row, const Columns<kStreams>& columns, size_t ahead) {
  const size_t x_bytes = Bf16RowBytes(p.w.cols);
  Lanes acc[Mr][kStreams];
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < kStreams; ++j) acc[i][j] = _mm512_setzero_ps();
  }
  Steps(static_cast<const uint8_t*>(p.x) + row * x_bytes, x_bytes, columns.rows, size_t{2} * p.w.cols, ahead, acc);
  Finish(p, row, columns, acc);
}

// Few rows: each of four long streams of weights is read once, the next row of each asked for in the last group of
// rows.
void Direct(const Bf16Product& p) {
  const uint32_t groups = (p.m + kTallRows - 1) / kTallRows, part = (p.n_end - p.n_begin + kStreams - 1) / kStreams;
  for (uint32_t n = p.n_begin; n < p.n_begin + part; ++n) {
    const Columns<kStreams> columns(p, n, part);
    for (uint32_t group = 0, row = 0; group < groups; ++group) {
      const uint32_t next = p.m * (group + 1) / groups;
      const size_t ahead = next == p.m ? size_t{2} * p.w.cols : 0;
      switch (next - row) {
        case 6:
          DirectTile<6>(p, row, columns, ahead);
          break;
        case 5:
          DirectTile<5>(p, row, columns, ahead);
          break;
        case 4:
          DirectTile<4>(p, row, columns, ahead);
          break;
        case 3:
          DirectTile<3>(p, row, columns, ahead);
          break;
        case 2:
          DirectTile<2>(p, row, columns, ahead);
          break;
        default:
          DirectTile<1>(p, row, columns, ahead);
      }
      row = next;
    }
  }
}

// Rows of a pass with one panel's block of k.
struct Block {
  uint32_t k, depth;
  Lanes* acc;  // [rows of the pass][kPanelCols], between blocks
};

template <size_t Mr>
void PanelTile(const Bf16Product& p, uint32_t first, uint32_t row, const Columns<kPanelCols>& columns,
               const Block& block) {
  const size_t x_bytes = Bf16RowBytes(p.w.cols);
  Lanes* memory = block.acc + (row - first) * kPanelCols;
  Lanes acc[Mr][kPanelCols];
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < kPanelCols; ++j) {
      acc[i][j] = block.k == 0 ? _mm512_setzero_ps() : memory[i * kPanelCols + j];
    }
  }
  const uint8_t* w[kPanelCols];
  for (size_t j = 0; j < kPanelCols; ++j) w[j] = columns.rows[j] + 2 * block.k;
  Steps(static_cast<const uint8_t*>(p.x) + row * x_bytes + 2 * block.k, x_bytes, w, 2 * block.depth, 0, acc);
  if (block.k + block.depth == p.w.cols) return Finish(p, row, columns, acc);
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < kPanelCols; ++j) memory[i * kPanelCols + j] = acc[i][j];
  }
}

// Many rows: a panel of eight columns and a block of k stays in the first cache while they pass; the next one is asked
// for bit by bit meanwhile.
void Panels(const Bf16Product& p) {
  alignas(64) Lanes acc[kPassRows * kPanelCols];
  const uint32_t passes = (p.m + kPassRows - 1) / kPassRows;
  for (uint32_t pass = 0, first = 0; pass < passes; ++pass) {
    const uint32_t end = p.m * (pass + 1) / passes, tiles = (end - first + kPanelRows - 1) / kPanelRows;
    for (uint32_t n = p.n_begin; n < p.n_end; n += kPanelCols) {
      const Columns<kPanelCols> columns(p, n, 1);
      for (uint32_t k = 0; k < p.w.cols; k += kBlock) {
        const Block block{k, std::min(kBlock, p.w.cols - k), acc};
        const bool is_last = k + block.depth == p.w.cols;
        const size_t next = is_last ? size_t{2} * p.w.cols * kPanelCols : 2 * (k + block.depth);
        const uint32_t lines = std::min(kBlock, is_last ? p.w.cols : p.w.cols - k - block.depth) / 32;
        uint32_t line = 0, tile = 0;
        for (uint32_t row = first; row < end; row += kPanelRows) {
          switch (end - row) {
            case 1:
              PanelTile<1>(p, first, row, columns, block);
              break;
            case 2:
              PanelTile<2>(p, first, row, columns, block);
              break;
            default:
              PanelTile<kPanelRows>(p, first, row, columns, block);
          }
          for (++tile; line < lines * tile / tiles; ++line) {
            for (size_t j = 0; j < kPanelCols; ++j) __builtin_prefetch(columns.rows[j] + next + line * 64);
          }
        }
      }
    }
    first = end;
  }
}

}  // namespace

bool HasBf16Products() {
  static const bool has = [] {
    __builtin_cpu_init();
    // A name that lowers the target lowers this too; AVX-512 is the highest.
    const char* wanted = std::getenv("KVRM_CPU_TARGET");
    if (wanted && std::strncmp(wanted, "AVX3", 4) != 0) return false;
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

void MultiplyBf16(const Bf16Product& p) {
  if (p.m == 0 || p.n_begin >= p.n_end) return;
  if (p.m <= kMaxDirectRows) return Direct(p);
  Panels(p);
}

}  // namespace kvrm::cpu
#pragma GCC pop_options

#else

namespace kvrm::cpu {

bool HasBf16Products() { return false; }
void RoundRows(const float*, size_t, uint32_t, uint32_t, uint32_t, void*) {}
void MultiplyBf16(const Bf16Product&) {}

}  // namespace kvrm::cpu
#endif
