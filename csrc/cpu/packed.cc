#include "packed.h"

#include <algorithm>
#include <cstring>

namespace kvrm::cpu {
namespace {

// What of a block is interleaved dword by dword; a d of two bytes beside it lies apart. A row of BF16 is one block.
struct BlockParts {
  uint32_t blocks;  // of a row
  uint32_t bytes;   // of a block
  uint32_t first;   // byte of the first dword
  uint32_t dwords;  // a multiple of four
  int d;            // byte of the d that lies apart, -1 for none
};

BlockParts PartsOf(uint32_t dtype, uint32_t cols) {
  if (dtype == KVRM_BF16) return {1, 2 * cols, 0, cols / 2, -1};
  const BlockFormat& format = FormatOf(dtype);
  const uint32_t blocks = cols / format.numbers, bytes = format.bytes;
  switch (dtype) {
    case KVRM_Q8_0:
      return {blocks, bytes, 2, 8, 0};
    case KVRM_Q4_0:
      return {blocks, bytes, 2, 4, 0};
    case KVRM_Q4_K:
      return {blocks, bytes, 0, 36, -1};
    case KVRM_Q5_K:
      return {blocks, bytes, 0, 44, -1};
    default:
      return {blocks, bytes, 0, 52, 208};
  }
}

// Four dwords, in a register wherever there are registers of four.
typedef uint32_t Dwords __attribute__((vector_size(16)));

Dwords LoadDwords(const uint8_t* from) {
  Dwords v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

// Dwords [0, 4) of 16 rows, from byte `at` of each, to four lines of 16 dwords. One by one they took three times as
// long, which was most of a start.
void InterleaveFour(const uint8_t* const (&rows)[kGroupRows], uint64_t at, uint32_t flip, uint8_t* to) {
  for (uint32_t r = 0; r < kGroupRows; r += 4) {
    const Dwords a = LoadDwords(rows[r] + at) ^ flip, b = LoadDwords(rows[r + 1] + at) ^ flip;
    const Dwords c = LoadDwords(rows[r + 2] + at) ^ flip, d = LoadDwords(rows[r + 3] + at) ^ flip;
    const Dwords ab = __builtin_shuffle(a, b, Dwords{0, 4, 1, 5}), ab2 = __builtin_shuffle(a, b, Dwords{2, 6, 3, 7});
    const Dwords cd = __builtin_shuffle(c, d, Dwords{0, 4, 1, 5}), cd2 = __builtin_shuffle(c, d, Dwords{2, 6, 3, 7});
    const Dwords lines[4] = {
        __builtin_shuffle(ab, cd, Dwords{0, 1, 4, 5}), __builtin_shuffle(ab, cd, Dwords{2, 3, 6, 7}),
        __builtin_shuffle(ab2, cd2, Dwords{0, 1, 4, 5}), __builtin_shuffle(ab2, cd2, Dwords{2, 3, 6, 7})};
    for (uint32_t j = 0; j < 4; ++j) std::memcpy(to + j * 64 + r * 4, &lines[j], sizeof(Dwords));
  }
}

// The same for the first `count` rows alone, whatever lies behind them in `to`.
void InterleaveRows(const uint8_t* const (&rows)[kGroupRows], uint32_t count, uint64_t at, uint32_t flip, uint8_t* to) {
  for (uint32_t r = 0; r < count; ++r) {
    for (uint32_t j = 0; j < 4; ++j) {
      uint32_t dword;
      std::memcpy(&dword, rows[r] + at + 4 * j, 4);
      dword ^= flip;
      std::memcpy(to + j * 64 + r * 4, &dword, 4);
    }
  }
}

}  // namespace

uint64_t PackedGroupBytes(uint32_t dtype, uint32_t cols) { return (kGroupRows * RowBytes(dtype, cols) + 63) / 64 * 64; }

void PackGroup(const Weight& w, uint32_t g, bool flip, uint8_t* to) {
  const BlockParts parts = PartsOf(w.dtype, w.cols);
  const uint32_t flips = flip && w.dtype == KVRM_Q8_0 ? 0x80808080u : 0;
  const uint64_t row_bytes = RowBytes(w.dtype, w.cols);
  const uint32_t rows = std::min(kGroupRows, w.rows - g * kGroupRows);
  if (rows < kGroupRows) std::memset(to, 0, PackedGroupBytes(w.dtype, w.cols));
  const uint8_t* from[kGroupRows];
  for (uint32_t r = 0; r < kGroupRows; ++r) {
    const uint32_t row = g * kGroupRows + std::min(r, rows - 1);
    from[r] = static_cast<const uint8_t*>(w.data) + w.FileRow(row) * row_bytes;
  }
  uint8_t* d = to + uint64_t{parts.blocks} * parts.dwords * 64;
  for (uint32_t b = 0; b < parts.blocks; ++b) {
    const uint64_t block = uint64_t{b} * parts.bytes;
    for (uint32_t j = 0; j < parts.dwords; j += 4, to += 4 * 64) {
      const uint64_t at = block + parts.first + 4 * j;
      if (rows == kGroupRows) {
        InterleaveFour(from, at, flips, to);
      } else {
        InterleaveRows(from, rows, at, flips, to);
      }
    }
    if (parts.d < 0) continue;
    for (uint32_t r = 0; r < rows; ++r) std::memcpy(d + 2 * r, from[r] + block + parts.d, 2);
    d += 2 * kGroupRows;
  }
}

void PackGroups(const Weight& w, uint32_t begin, uint32_t end, bool flip, uint8_t* packed) {
  const uint64_t group_bytes = PackedGroupBytes(w.dtype, w.cols);
  for (uint32_t g = begin; g < end; ++g) PackGroup(w, g, flip, packed + g * group_bytes);
}

void ProductFromFile(void (*product)(const PackedProduct&), const Weight& file, bool flip, const PackedProduct& p,
                     uint8_t* scratch) {
  for (uint32_t n = p.n_begin / kGroupRows * kGroupRows; n < p.n_end; n += kGroupRows) {
    PackGroup(file, n / kGroupRows, flip, scratch);
    // As a matrix of this group alone.
    PackedProduct part = p;
    const uint32_t rows = std::min(kGroupRows, file.rows - n);
    part.w = {scratch, file.dtype, rows, file.cols};
    Weight bias;
    if (p.bias) {
      bias = *p.bias;
      bias.data = static_cast<const uint8_t*>(bias.data) + size_t{n} * ElementBytes(bias.dtype);
      bias.rows = rows;
      part.bias = &bias;
    }
    part.out += n;
    part.n_begin = std::max(p.n_begin, n) - n;
    part.n_end = std::min(p.n_end - n, rows);
    product(part);
  }
}

}  // namespace kvrm::cpu
