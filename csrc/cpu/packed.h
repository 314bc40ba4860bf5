// packed.h - matrices in groups of 16 rows that are interleaved dword by dword, so that a vector register holds the
// same numbers of k for each of 16 rows: no sum runs across a register, and weights are read from first byte to last.
//
//   blocks (quant.h)   group g: [block][dword of the block][16 rows] u32, then (all but Q4_K and Q5_K) the blocks' d:
//                      [block][16 rows] f16. The bytes are as many as in the file. Where a target wants unsigned
//                      bytes, Q8_0's integers have their sign bit flipped: q + 128; no other bit is touched
//   BF16 (bf16.h)      group g: [pair of numbers of k][16 rows][2] bf16
#ifndef KVRM_CPU_PACKED_H_
#define KVRM_CPU_PACKED_H_

#include <cstddef>
#include <cstdint>

#include "../common/model.h"

namespace kvrm::cpu {

inline constexpr uint32_t kGroupRows = 16;  // of a weight

// A matrix as PackGroups left it.
struct PackedMatrix {
  const uint8_t* data;  // 64-byte aligned
  uint32_t dtype;
  uint32_t rows;
  uint32_t cols;
};

// Bytes of one group of 16 rows, a multiple of 64. BF16: cols is a multiple of 32.
uint64_t PackedGroupBytes(uint32_t dtype, uint32_t cols);

// Packs group g of w, a matrix in blocks or in BF16, to `to` of PackedGroupBytes. Rows past the end are zeros. flip:
// the sign bits of Q8_0.
void PackGroup(const Weight& w, uint32_t g, bool flip, uint8_t* to);

// Packs groups [begin, end) of w as PackGroup does into `packed`, which holds them all.
void PackGroups(const Weight& w, uint32_t begin, uint32_t end, bool flip, uint8_t* packed);

struct PackedProduct {
  PackedMatrix w;
  const Weight* bias;  // null: none
  const void* x;       // in the form that the matrix's type wants
  uint32_t m;
  float* out;  // [m, >= n_end]
  size_t out_stride;
  uint32_t n_begin;
  uint32_t n_end;
  bool add;  // out + (sum + bias)
};

// The product with `file`, a matrix that is not packed yet, in place of p.w: packs its groups one by one into `scratch`
// of PackedGroupBytes, as `product` wants them, and multiplies each. The same bits.
void ProductFromFile(void (*product)(const PackedProduct&), const Weight& file, bool flip, const PackedProduct& p,
                     uint8_t* scratch);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_PACKED_H_
