// Products with weights in blocks: every target against the scalar one, bit for bit, and that one against float64.
#include "quant.h"

// The kernels for instructions that this processor may lack in plain C++, from their own source.
#if defined(__x86_64__) && __has_include(<simde/x86/avx512.h>) && !defined(KVRM_FEW_TARGETS)
#define KVRM_EMULATE_X86
#define KVRM_QUANT_AVX512 kEmulatedAvx512
#define KVRM_QUANT_AVX512_NAMESPACE quant_emulated_avx512
#include "quant_avx512.cc"
#define KVRM_QUANT_AMX kEmulatedAmx
#define KVRM_QUANT_AMX_NAMESPACE quant_emulated_amx
#include "quant_amx.cc"
#define KVRM_EMULATE_NEON
#define KVRM_QUANT_NEON_DOTPROD kEmulatedNeonDotprod
#define KVRM_QUANT_NEON_DOTPROD_NAMESPACE quant_emulated_neon_dotprod
#include "quant_neon_dotprod.cc"
#define KVRM_QUANT_NEON kEmulatedNeon
#define KVRM_QUANT_NEON_NAMESPACE quant_emulated_neon
#include "quant_neon.cc"
#define KVRM_HAS_EMULATED 1
#endif

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "common/test.h"
#include "ops_test_util.h"
#include "quant_targets.h"

namespace kvrm::cpu {
namespace {

constexpr uint32_t kFormats[] = {KVRM_Q8_0, KVRM_Q4_0, KVRM_Q4_K, KVRM_Q5_K, KVRM_Q6_K};

// Those of this processor, then the emulated ones; the scalar ones last.
QuantTargets Targets() {
  QuantTargets targets = AvailableQuantTargets();
#ifdef KVRM_HAS_EMULATED
  for (const QuantKernels* emulated : {&kEmulatedAvx512, &kEmulatedAmx, &kEmulatedNeonDotprod, &kEmulatedNeon}) {
    targets.kernels[targets.count] = targets.kernels[targets.count - 1];
    targets.kernels[targets.count - 1] = emulated;
    ++targets.count;
  }
#endif
  return targets;
}

TEST(AllKernelsOfThisArchitectureAreTested) {
#if defined(__x86_64__) && !defined(KVRM_HAS_EMULATED)
  std::printf(
      "skipped: AVX512_VNNI, AMX and NEON by emulation, which needs SIMDe (libsimde-dev) and takes too long to compile "
      "for "
      "sanitizers\n");
#endif
  const QuantTargets targets = Targets();
  std::printf("targets:");
  for (size_t t = 0; t < targets.count; ++t) std::printf(" %s", targets.kernels[t]->name);
  std::printf("\n");
  CHECK(targets.kernels[targets.count - 1] == &kQuantScalar);
}

TEST(ANameCanOnlyLowerTheTarget) {
  const QuantTargets targets = AvailableQuantTargets();
  for (const char* wanted : {static_cast<const char*>(nullptr), "", "NoSuchTarget"}) {
    CHECK(&QuantKernelFor(wanted) == targets.kernels[0]);
  }
  for (size_t t = 0; t < targets.count; ++t) CHECK(&QuantKernelFor(targets.kernels[t]->name) == targets.kernels[t]);
#if defined(__x86_64__)
  CHECK(&QuantKernelFor("NEON") == targets.kernels[0]);
  CHECK(&QuantKernelFor("SSE4") == &kQuantScalar);
#else
  CHECK(&QuantKernelFor("AVX2") == targets.kernels[0]);
#endif
}

// A matrix in blocks, exactly as large as it is, and packed.
struct Blocks {
  Blocks(Random& random, uint32_t dtype, uint32_t rows, uint32_t cols, uint32_t interleaved_head = 0)
      : file(rows * RowBytes(dtype, cols)), values(size_t{rows} * cols) {
    FillBlocks(random(), 1.0f, dtype, values.size(), file.data());
    const BlockFormat& format = FormatOf(dtype);
    for (size_t b = 0; b < file.size(); b += format.bytes) VaryScales(random, dtype, &file[b]);
    Dequantize(dtype, file.data(), values.size(), values.data());
    weight = {file.data(), dtype, rows, cols};
    weight.interleaved_head = interleaved_head;
    for (Aligned& form : packed) {
      form = Allocate((rows + kGroupRows - 1) / kGroupRows * PackedGroupBytes(dtype, cols));
    }
    Pack();
  }
  // FillBlocks gives all blocks the same d, and the K formats their scales for minima too: mistaken ones would not
  // show.
  static void VaryScales(Random& random, uint32_t dtype, uint8_t* block) {
    const bool k45 = dtype == KVRM_Q4_K || dtype == KVRM_Q5_K;
    uint8_t* at = dtype == KVRM_Q6_K ? block + 208 : block;
    float d[2] = {};  // and dmin
    Widen(at, k45 ? 2 : 1, KVRM_F16, d);
    for (float& value : d) value *= static_cast<float>(Between(random, 8, 24)) / 16;
    Narrow(d, k45 ? 2 : 1, KVRM_F16, at);
    if (k45) {
      for (int i = 4; i < 16; ++i) block[i] = static_cast<uint8_t>(random());
    }
    if (dtype == KVRM_Q6_K) {
      for (int i = 192; i < 208; ++i) block[i] = static_cast<uint8_t>(random() % 2 ? block[i] : -block[i]);
    }
  }
  void Pack() {
    const uint32_t groups = (weight.rows + kGroupRows - 1) / kGroupRows, half = groups / 2;
    for (const bool flip : {false, true}) {
      PackGroups(weight, half, groups, flip, packed[flip].get());
      PackGroups(weight, 0, half, flip, packed[flip].get());
    }
  }
  PackedMatrix For(const QuantKernels& kernels) const {
    return {packed[kernels.flips].get(), weight.dtype, weight.rows, weight.cols};
  }
  double At(size_t n, size_t k) const { return values[weight.FileRow(uint32_t(n)) * weight.cols + k]; }

  std::vector<uint8_t> file;
  std::vector<float> values;
  Weight weight;
  Aligned packed[2];  // with and without their sign bits flipped
};

// Rows of activations with some blocks of zeros and some large numbers.
std::vector<float> Activations(Random& random, uint32_t m, uint32_t cols) {
  std::vector<float> x = Normals(random, size_t{m} * cols);
  for (size_t b = 0; b < x.size(); b += 32) {
    const uint32_t kind = Between(random, 0, 9);
    for (size_t i = 0; i < 32; ++i) x[b + i] = kind == 0 ? 0 : kind == 1 ? x[b + i] * 1e-3f : x[b + i];
    if (kind == 2) x[b + Between(random, 0, 31)] *= 50;
    if (kind == 3) std::fill_n(x.begin() + long(b), 32, Between(random, 0, 1) ? 1.0f : -1.0f);
  }
  return x;
}

// part(product) for the outputs in pieces of `cut`, which hold what `start` does.
template <typename Part>
std::vector<float> MultiplyParts(const QuantKernels& kernels, const PackedMatrix& w, const Weight* bias,
                                 const std::vector<float>& x, uint32_t m, const std::vector<float>& start, bool add,
                                 uint32_t cut, const Part& part) {
  const Aligned quantised = Allocate(QuantRowsBytes(m, w.cols));
  for (uint32_t row = 0; row < m; row += 8) {
    kernels.quantize_rows(x.data(), w.cols, m, w.cols, row, std::min(m, row + 8), quantised.get());
  }
  std::vector<float> out = start;
  for (uint32_t n = 0; n < w.rows;) {
    const uint32_t end = cut == 0 ? w.rows : std::min(w.rows, n + cut);
    part({w, bias, quantised.get(), m, out.data(), w.rows, n, end, add});
    n = end;
  }
  return out;
}

std::vector<float> Multiply(const QuantKernels& kernels, const Blocks& w, const Weight* bias,
                            const std::vector<float>& x, uint32_t m, const std::vector<float>& start, bool add,
                            uint32_t cut = 0) {
  return MultiplyParts(kernels, w.For(kernels), bias, x, m, start, add, cut, kernels.product);
}

std::vector<float> MultiplyFromFile(const QuantKernels& kernels, const Weight& w, const Weight* bias,
                                    const std::vector<float>& x, uint32_t m, const std::vector<float>& start, bool add,
                                    uint32_t cut) {
  const Aligned scratch = Allocate(PackedGroupBytes(w.dtype, w.cols));
  return MultiplyParts(
      kernels, {nullptr, w.dtype, w.rows, w.cols}, bias, x, m, start, add, cut,
      [&](const PackedProduct& p) { ProductFromFile(kernels.product, w, kernels.flips, p, scratch.get()); });
}

void CheckShape(Random& random, uint32_t dtype, uint32_t m, uint32_t rows, uint32_t cols) {
  const Blocks w(random, dtype, rows, cols, rows % 8 == 0 && Between(random, 0, 1) == 1 ? 8 : 0);
  std::vector<float> biases = Normals(random, rows);
  std::vector<uint16_t> narrow(rows);
  Narrow(biases.data(), rows, KVRM_BF16, narrow.data());
  Widen(narrow.data(), rows, KVRM_BF16, biases.data());
  const Weight bias_weight{narrow.data(), KVRM_BF16, rows, 1};
  const Weight* bias = Between(random, 0, 1) == 1 ? &bias_weight : nullptr;
  const bool add = Between(random, 0, 1) == 1;
  const std::vector<float> x = Activations(random, m, cols);
  const std::vector<float> start = Normals(random, size_t{m} * rows);

  const QuantTargets targets = Targets();
  const std::vector<float> scalar = Multiply(*targets.kernels[targets.count - 1], w, bias, x, m, start, add);
  for (int check = 0; check < 30; ++check) {
    const size_t i = Between(random, 0, m - 1), n = Between(random, 0, rows - 1);
    // Rounding to 8 bits leaves at most half a step of each activation, a step being the largest of 32 over 127; the
    // float sums leave less than 1e-5 of their terms, the largest of which are those of d and of dmin apart.
    double sum = (bias ? biases[n] : 0.0) + (add ? start[i * rows + n] : 0.0), error = 1e-5, terms = 0;
    for (size_t b = 0; b < cols; b += 32) {
      double most = 0, weights = 0;
      for (size_t k = b; k < b + 32; ++k) {
        sum += w.At(n, k) * x[i * cols + k];
        weights += std::fabs(w.At(n, k));
        most = std::max(most, std::fabs(double(x[i * cols + k])));
      }
      error += weights * most / 127 * 0.5001;
      terms += 32 * 2 * most;
    }
    CHECK_NEAR(scalar[i * rows + n], sum, error + 1e-5 * terms);
  }

  for (size_t t = 0; t < targets.count; ++t) {
    const QuantKernels& kernels = *targets.kernels[t];
    const std::vector<float> whole = Multiply(kernels, w, bias, x, m, start, add);
    if (!SameBits(whole.data(), scalar.data(), whole.size())) {
      test::Fail(__FILE__, __LINE__,
                 std::string(kernels.name) + " and SCALAR differ, format " + FormatOf(dtype).name + ", m " +
                     std::to_string(m));
    }
    // Before it is packed.
    const std::vector<float> early =
        MultiplyFromFile(kernels, w.weight, bias, x, m, start, add, Between(random, 1, rows));
    CHECK(SameBits(early.data(), whole.data(), whole.size()));
    // Cut over n, at multiples of 16 and elsewhere; one row at a time.
    for (const uint32_t cut : {32u, 5u}) {
      const std::vector<float> parts = Multiply(kernels, w, bias, x, m, start, add, cut);
      CHECK(SameBits(parts.data(), whole.data(), whole.size()));
    }
    for (uint32_t i = 0; i < m; i += 1 + m / 3) {
      const std::vector<float> row(x.begin() + long(i * cols), x.begin() + long((i + 1) * cols));
      const std::vector<float> row_start(start.begin() + long(i * rows), start.begin() + long((i + 1) * rows));
      const std::vector<float> alone = Multiply(kernels, w, bias, row, 1, row_start, add);
      CHECK(SameBits(alone.data(), &whole[i * rows], rows));
    }
  }
}

TEST(EveryTargetHasTheScalarBitsAndThoseAreCloseToFloat64) {
  Random random(1);
  for (const uint32_t dtype : kFormats) {
    const uint32_t numbers = FormatOf(dtype).numbers;
    for (const uint32_t m : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 13u, 16u}) {
      CheckShape(random, dtype, m, Between(random, 1, 80), numbers * Between(random, 1, numbers == 32 ? 19 : 3));
    }
    CheckShape(random, dtype, 70, 24, numbers);  // more than one pass of rows
    CheckShape(random, dtype, 130, 16, 256);
    CheckShape(random, dtype, 1, 1, numbers);
  }
}

// The sums of integers at their limits: largest weights and activations, all of one sign.
TEST(NoSumOfIntegersOverflows) {
  for (const uint32_t dtype : kFormats) {
    for (const uint8_t fill : {0xff, 0x00, 0x80, 0x7f}) {
      Random random(2);
      Blocks w(random, dtype, 16, 512);
      std::vector<uint8_t> bytes(w.file.size(), fill);
      const uint16_t one = 0x3c00;  // 1 as f16
      const uint32_t block = FormatOf(dtype).bytes;
      for (size_t b = 0; b < bytes.size(); b += block) {
        std::memcpy(&bytes[dtype == KVRM_Q6_K ? b + 208 : b], &one, 2);
        if (dtype == KVRM_Q4_K || dtype == KVRM_Q5_K) std::memcpy(&bytes[b + 2], &one, 2);
      }
      w.file = bytes;
      w.Pack();
      Dequantize(dtype, w.file.data(), w.values.size(), w.values.data());
      for (const float sign : {1.0f, -1.0f}) {
        const std::vector<float> x(5 * 512, 127 * sign), start(5 * 16);
        double sum = 0, terms = 0;
        for (size_t k = 0; k < 512; ++k) sum += w.At(0, k) * x[k], terms += 127.0 * 63 * 64;
        const QuantTargets targets = Targets();
        for (size_t t = 0; t < targets.count; ++t) {
          const std::vector<float> out = Multiply(*targets.kernels[t], w, nullptr, x, 5, start, false);
          for (const float value : out) CHECK_NEAR(value, sum, 1e-6 * terms);
        }
      }
    }
  }
}

TEST(ARowWithNanOrInfinityIsNanAndTheOthersKeepTheirBits) {
  Random random(3);
  const QuantTargets targets = Targets();
  for (const uint32_t dtype : kFormats) {
    const Blocks w(random, dtype, 40, 256);
    std::vector<float> x = Normals(random, 6 * 256);
    const std::vector<float> start(6 * 40);
    for (size_t t = 0; t < targets.count; ++t) {
      std::vector<float> dirty_x = x;
      const std::vector<float> clean = Multiply(*targets.kernels[t], w, nullptr, x, 6, start, false);
      dirty_x[2 * 256 + 77] = NAN;
      dirty_x[4 * 256 + 255] = -INFINITY;
      const std::vector<float> dirty = Multiply(*targets.kernels[t], w, nullptr, dirty_x, 6, start, false);
      for (size_t i = 0; i < 6; ++i) {
        if (i == 2 || i == 4) {
          for (size_t n = 0; n < 40; ++n) CHECK(std::isnan(dirty[i * 40 + n]));
        } else {
          CHECK(SameBits(&dirty[i * 40], &clean[i * 40], 40));
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cpu
