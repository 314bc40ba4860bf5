// Products with weights in blocks: NEON without the dot product, for processors of Armv8.0 and 8.1.
#include "quant_targets.h"

#if defined(__aarch64__) || defined(KVRM_EMULATE_NEON)
#include <cstring>

#include "quant_neon.h"

#ifndef KVRM_QUANT_NEON
#define KVRM_QUANT_NEON kQuantNeon
#define KVRM_QUANT_NEON_NAMESPACE quant_neon
#endif

namespace kvrm::cpu {
namespace KVRM_QUANT_NEON_NAMESPACE {

constexpr bool kDotProduct = false;

// clang-format off
#include "quant_unpack-inl.h"
#include "quant-inl.h"
#include "quant_product-inl.h"
#include "quant_neon-inl.h"
// clang-format on

}  // namespace KVRM_QUANT_NEON_NAMESPACE

extern const QuantKernels KVRM_QUANT_NEON;
const QuantKernels KVRM_QUANT_NEON = {
    "NEON", false, KVRM_QUANT_NEON_NAMESPACE::QuantKernel<KVRM_QUANT_NEON_NAMESPACE::Policy>::QuantizeRows,
    KVRM_QUANT_NEON_NAMESPACE::QuantProduct<
        KVRM_QUANT_NEON_NAMESPACE::QuantKernel<KVRM_QUANT_NEON_NAMESPACE::Policy>>::Product};

}  // namespace kvrm::cpu

#endif  // __aarch64__
