// block_format.h - weights in GGUF's block formats, one number at a time: for what is no part of a step, and as the
// definition that the kernels are tested against.
//
// A row is blocks of 32 numbers (Q8_0, Q4_0) or 256 (Q4_K, Q5_K, Q6_K), each with its scales. In the order of the
// bytes of a block, d and dmin being f16, all little-endian:
//
//   Q8_0  d, i8 q[32]                         x[i] = d q[i]
//   Q4_0  d, u8 qs[16]                        x[i] = d (q[i] - 8); q[i] and q[i + 16] are the low and high half of
//                                             qs[i]
//   Q4_K  d, dmin, u8 scales[12], u8 qs[128]  x[i] = d s[i / 32] q[i] - dmin m[i / 32]; the numbers 64 c + j and
//                                             64 c + 32 + j (j < 32) are the low and high half of qs[32 c + j]
//   Q5_K  d, dmin, u8 scales[12], u8 qh[32],  as Q4_K, bit i / 32 of qh[i % 32] being bit 4 of q[i]
//         u8 qs[128]
//   Q6_K  u8 ql[128], u8 qh[64],              x[i] = d scales[i / 16] (q[i] - 32); of the half h = i / 128, with
//         i8 scales[16], d                    j = i % 32 and t = i / 32 % 4: the low 4 bits of q[i] are the low
//                                             (t < 2) or high half of ql[64 h + 32 (t % 2) + j], the other two are
//                                             bits 2 t, 2 t + 1 of qh[32 h + j]
//
// scales[12] holds s[8] and m[8] in 6 bits each: for t < 4 those of s[t] and m[t] are the low six bits of scales[t]
// and scales[t + 4]; for t >= 4 the low four bits are the low and high half of scales[t + 4], and the other two are
// the top bits of scales[t - 4] and scales[t].
#ifndef KVRM_COMMON_BLOCK_FORMAT_H_
#define KVRM_COMMON_BLOCK_FORMAT_H_

#include <cstdint>

#include "../kvrm.h"
#include "convert.h"

namespace kvrm {

struct BlockFormat {
  const char* name;
  uint32_t numbers;  // of a block
  uint32_t bytes;
};

inline constexpr BlockFormat kBlockFormats[] = {
    {"Q8_0", 32, 34}, {"Q4_0", 32, 18}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};

inline bool IsBlocks(uint32_t dtype) { return KVRM_Q8_0 <= dtype && dtype <= KVRM_Q6_K; }
inline const BlockFormat& FormatOf(uint32_t dtype) { return kBlockFormats[dtype - KVRM_Q8_0]; }

// Bytes of `cols` numbers of a matrix's row; whole blocks.
inline uint64_t RowBytes(uint32_t dtype, uint64_t cols) {
  return IsBlocks(dtype) ? cols / FormatOf(dtype).numbers * FormatOf(dtype).bytes : cols * ElementBytes(dtype);
}

// The integers of `scales[12]`: s[8], then m[8].
void UnpackScales(const uint8_t* scales, uint8_t out[16]);

// out[i] of `count` numbers (whole blocks) of a block format. No alignment is asked for.
void Dequantize(uint32_t dtype, const void* blocks, uint64_t count, float* out);

// The other way, for Q8_0 and Q4_0. Q8_0: d is the largest magnitude over 127. Q4_0: of a few scales, the one with
// the smallest squared error.
void Quantize(uint32_t dtype, const float* x, uint64_t count, void* out);

// Made-up blocks: evenly distributed numbers of about this standard deviation, from the block's index and the key.
void FillBlocks(uint64_t key, float deviation, uint32_t dtype, uint64_t count, void* out);

}  // namespace kvrm
#endif  // KVRM_COMMON_BLOCK_FORMAT_H_
