// Matrix products of activations in f32. The kernels are in matmul-inl.h, and for BF16 with AVX-512 in
// matmul_lanes-inl.h.
#include "dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ops_matmul.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "matmul-inl.h"
#include "matmul_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

void MatMulImpl(const Weight& w, const Weight* bias, const float* x, size_t x_stride, uint32_t m, float* out,
                size_t out_stride, uint32_t n_begin, uint32_t n_end, bool add) {
  if (m == 0 || n_begin >= n_end) return;
  const MatMulOut to{bias, out, out_stride, add};
#if HWY_TARGET == HWY_AVX3
  if (w.dtype == KVRM_BF16) {
    return lanes::MatMulRows<hwy::bfloat16_t>(w, x, x_stride, m, n_begin, n_end, to);
  }
#endif
  KVRM_WITH_DTYPE(w.dtype, MatMulRows(static_cast<const T*>(w.data), w.cols, x, x_stride, m, n_begin, n_end, to));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvrm::cpu {

KVRM_EXPORT(MatMulImpl);

void MatMul(const Weight& w, const Weight* bias, const float* x, size_t x_stride, uint32_t m, float* out,
            size_t out_stride, uint32_t n_begin, uint32_t n_end, bool add) {
  KVRM_CALL(MatMulImpl)(w, bias, x, x_stride, m, out, out_stride, n_begin, n_end, add);
}

}  // namespace kvrm::cpu
#endif  // HWY_ONCE
