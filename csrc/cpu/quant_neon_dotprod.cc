// Products with weights in blocks: NEON with Armv8.2's dot product. Four bytes of k of four of a group's rows are one
// register, and SDOT adds four products of signed bytes to 32-bit lanes; four bytes of x are picked from a register
// that holds sixteen.
#include "quant_targets.h"

#if defined(__aarch64__) || defined(KVRM_EMULATE_NEON)
#include <cstring>

#include "quant_neon.h"

#ifndef KVRM_EMULATE_NEON
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#ifndef KVRM_QUANT_NEON_DOTPROD
#define KVRM_QUANT_NEON_DOTPROD kQuantNeonDotprod
#define KVRM_QUANT_NEON_DOTPROD_NAMESPACE quant_neon_dotprod
#endif

namespace kvrm::cpu {
namespace KVRM_QUANT_NEON_DOTPROD_NAMESPACE {

constexpr bool kDotProduct = true;

// clang-format off
#include "quant_unpack-inl.h"
#include "quant-inl.h"
#include "quant_product-inl.h"
#include "quant_neon-inl.h"
// clang-format on

}  // namespace KVRM_QUANT_NEON_DOTPROD_NAMESPACE

extern const QuantKernels KVRM_QUANT_NEON_DOTPROD;
const QuantKernels KVRM_QUANT_NEON_DOTPROD = {
    "NEON_DOTPROD", false,
    KVRM_QUANT_NEON_DOTPROD_NAMESPACE::QuantKernel<KVRM_QUANT_NEON_DOTPROD_NAMESPACE::Policy>::QuantizeRows,
    KVRM_QUANT_NEON_DOTPROD_NAMESPACE::QuantProduct<
        KVRM_QUANT_NEON_DOTPROD_NAMESPACE::QuantKernel<KVRM_QUANT_NEON_DOTPROD_NAMESPACE::Policy>>::Product};

}  // namespace kvrm::cpu

#ifndef KVRM_EMULATE_NEON
#pragma GCC pop_options
#endif
#endif  // __aarch64__
