// Products with weights in blocks: AMX for the integers, AVX-512 for all else.
#include "quant_targets.h"

#if defined(__x86_64__)
#include <cstring>

#include "amx.h"
#include "quant_x86.h"

#ifndef KVRM_EMULATE_X86
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the compiler's own header (g++ 12)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,amx-tile,amx-int8")
#endif

#ifndef KVRM_QUANT_AMX
#define KVRM_QUANT_AMX kQuantAmx
#define KVRM_QUANT_AMX_NAMESPACE quant_amx
#endif

namespace kvrm::cpu {
namespace KVRM_QUANT_AMX_NAMESPACE {

constexpr bool kFlipped = false;

// clang-format off
#include "quant_unpack-inl.h"
#include "quant-inl.h"
#include "quant_product-inl.h"
#include "quant_avx512-inl.h"
#include "quant_amx-inl.h"
// clang-format on

}  // namespace KVRM_QUANT_AMX_NAMESPACE

extern const QuantKernels KVRM_QUANT_AMX;
const QuantKernels KVRM_QUANT_AMX = {"AMX", KVRM_QUANT_AMX_NAMESPACE::kFlipped,
                                     KVRM_QUANT_AMX_NAMESPACE::AmxKernel::QuantizeRows,
                                     KVRM_QUANT_AMX_NAMESPACE::AmxKernel::Product};

}  // namespace kvrm::cpu

#ifndef KVRM_EMULATE_X86
#pragma GCC pop_options
#endif
#endif  // __x86_64__
