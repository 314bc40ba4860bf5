// Products with weights in blocks: AVX-512 with VNNI. Four bytes of k of all 16 rows of a group are one register, and
// vpdpbusd adds four products of unsigned and signed bytes to 32-bit lanes.
#include "quant_targets.h"

#if defined(__x86_64__)
#include <cstring>

#include "quant_x86.h"

#ifndef KVRM_EMULATE_X86
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the compiler's own header (g++ 12)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif

#ifndef KVRM_QUANT_AVX512
#define KVRM_QUANT_AVX512 kQuantAvx512
#define KVRM_QUANT_AVX512_NAMESPACE quant_avx512
#endif

namespace kvrm::cpu {
namespace KVRM_QUANT_AVX512_NAMESPACE {

constexpr bool kFlipped = true;

// clang-format off
#include "quant_unpack-inl.h"
#include "quant-inl.h"
#include "quant_product-inl.h"
#include "quant_avx512-inl.h"
// clang-format on

}  // namespace KVRM_QUANT_AVX512_NAMESPACE

extern const QuantKernels KVRM_QUANT_AVX512;
const QuantKernels KVRM_QUANT_AVX512 = {
    "AVX512_VNNI", KVRM_QUANT_AVX512_NAMESPACE::kFlipped,
    KVRM_QUANT_AVX512_NAMESPACE::QuantKernel<KVRM_QUANT_AVX512_NAMESPACE::Policy>::QuantizeRows,
    KVRM_QUANT_AVX512_NAMESPACE::QuantProduct<
        KVRM_QUANT_AVX512_NAMESPACE::QuantKernel<KVRM_QUANT_AVX512_NAMESPACE::Policy>>::Product};

}  // namespace kvrm::cpu

#ifndef KVRM_EMULATE_X86
#pragma GCC pop_options
#endif
#endif  // __x86_64__
