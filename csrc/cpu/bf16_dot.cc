#include "bf16_dot.h"

#include <cstdlib>
#include <cstring>

#include "dispatch.h"

#if defined(__x86_64__)
// g++ 12 takes its own intrinsics' undefined operands for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <algorithm>

#include "../common/convert.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma,bmi2")
#include "bf16_dot-inl.h"

namespace kvrm::cpu {
namespace {

struct Avx512Bf16 {
  using Vector = __m512bh;
  using Floats = __m512;
  static Vector Load(const uint16_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Vector LoadTail(const uint16_t* p, size_t n) { return (__m512bh)_mm512_maskz_loadu_epi16((1u << n) - 1, p); }
  static Floats Zero() { return _mm512_setzero_ps(); }
  static Floats Dot(Floats acc, Vector a, Vector b) { return _mm512_dpbf16_ps(acc, a, b); }
  static float Sum(Floats acc) { return _mm512_reduce_add_ps(acc); }
  static void Prefetch(const uint16_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
  static void Split(const float* x, size_t n, uint16_t* hi, uint16_t* lo) {
    for (size_t i = 0; i < 32; i += 16) {
      const __mmask16 mask = n >= i + 16 ? 0xffff : n > i ? (1u << (n - i)) - 1 : 0;
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
      const __m256i high = (__m256i)_mm512_cvtneps_pbh(v);
      const __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
      _mm256_store_si256(reinterpret_cast<__m256i*>(hi + i), high);
      _mm256_store_si256(reinterpret_cast<__m256i*>(lo + i), (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(v, back)));
    }
  }
};

void MatMulAvx512(const Bf16Product& p) { Bf16MatMul<Avx512Bf16>(p); }

}  // namespace
}  // namespace kvrm::cpu
#pragma GCC pop_options
#endif

namespace kvrm::cpu {

bool HasBf16Dot() {
#if defined(__x86_64__)
  static const bool has = [] {
    __builtin_cpu_init();
    const char* wanted = std::getenv("KVRM_CPU_TARGET");
    // A name that is none changes nothing, as everywhere.
    const bool lowered = wanted != nullptr && std::strcmp(wanted, "AVX3") == 0;
    return ChosenTarget() == kAvx3 && !lowered && __builtin_cpu_supports("avx512bf16");
  }();
  return has;
#else
  return false;
#endif
}

bool TakesBf16Dot(const Weight& w) {
#if defined(__x86_64__)
  return w.dtype == KVRM_BF16 && w.cols <= kBf16MostCols && HasBf16Dot();
#else
  return w.dtype != w.dtype;
#endif
}

void MatMulBf16([[maybe_unused]] const Weight& w, [[maybe_unused]] const Weight* bias, [[maybe_unused]] const float* x,
                [[maybe_unused]] size_t x_stride, [[maybe_unused]] uint32_t m, [[maybe_unused]] float* out,
                [[maybe_unused]] size_t out_stride, [[maybe_unused]] uint32_t n_begin, [[maybe_unused]] uint32_t n_end,
                [[maybe_unused]] bool add) {
#if defined(__x86_64__)
  // A bias is converted by pieces, so that it fits the stack.
  constexpr uint32_t kPiece = 4096;
  float values[kPiece];
  for (uint32_t n = n_begin; n < n_end;) {
    const uint32_t end = bias == nullptr ? n_end : std::min(n_end, n + kPiece);
    if (bias != nullptr) {
      const uint8_t* from = static_cast<const uint8_t*>(bias->data) + size_t{n} * ElementBytes(bias->dtype);
      Widen(from, end - n, bias->dtype, values);
    }
    MatMulAvx512({static_cast<const uint16_t*>(w.data), w.cols, x, x_stride, m, out, out_stride, n, end,
                  bias == nullptr ? nullptr : values, add});
    n = end;
  }
#endif
}

}  // namespace kvrm::cpu
