// amx.h - the matrix unit of x86 (AMX): eight tile registers of up to 16 rows by 64 bytes, and instructions that add
// the product of two of them to a third. The compiler's intrinsics, or, with KVRM_EMULATE_X86, plain C++ that does what
// Intel's manual says of each, so that a test runs a kernel's own source on machines without the unit.
#ifndef KVRM_CPU_AMX_H_
#define KVRM_CPU_AMX_H_

#include <cstdint>

#if defined(__x86_64__)
#ifdef KVRM_EMULATE_X86
#include "amx_emulated.h"
#else
#include <immintrin.h>
#endif

namespace kvrm::cpu {

// What _tile_loadconfig reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(uint32_t tile, uint32_t tile_rows, uint32_t bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

// The compiler's intrinsics do not say that they read all of the memory that they are given.
inline void WrittenBeforeTiles() {
#ifndef KVRM_EMULATE_X86
  asm volatile("" ::: "memory");
#endif
}

// Whether this processor has tiles of bytes and of BF16, and AVX-512 beside them, KVRM_CPU_TARGET allows them (AMX or
// none), and the system lets this process use them, for which it is asked once.
bool HasAmx();

}  // namespace kvrm::cpu
#else
namespace kvrm::cpu {
inline bool HasAmx() { return false; }
}  // namespace kvrm::cpu
#endif  // __x86_64__
#endif  // KVRM_CPU_AMX_H_
