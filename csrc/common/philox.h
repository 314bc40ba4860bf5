// philox.h - Philox4x32-10, a counter-based random number generator: J. Salmon, M. Moraes, R. Dror,
// D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Ten rounds of two 32 x 32 -> 64 bit
// products, the key bumped by Weyl constants between rounds. Plain enough for every backend to share.
#ifndef KVRM_COMMON_PHILOX_H_
#define KVRM_COMMON_PHILOX_H_

#include <cstdint>

#include "shared_fn.h"

namespace kvrm {

KVRM_SHARED_FN void PhiloxRounds(uint64_t key, const uint32_t counter[4], uint32_t out[4]) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c0;
    const uint64_t b = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ key0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ key1;
    c3 = static_cast<uint32_t>(a);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

}  // namespace kvrm

#endif  // KVRM_COMMON_PHILOX_H_
