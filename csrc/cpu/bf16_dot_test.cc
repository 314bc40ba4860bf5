// The loops of bf16_dot-inl.h on an emulated instruction, and the real one where the processor has it.
#include "bf16_dot.h"

#include <bit>

#include "bf16_dot-inl.h"
#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

float Wide(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

uint16_t Nearest(float x) {
  uint16_t bits;
  Narrow(&x, 1, KVRM_BF16, &bits);
  return bits;
}

// What VDPBF16PS does, for numbers that are normal: the odd pair first, each by a fused multiply-add.
struct Emulated {
  struct Vector {
    uint16_t at[32];
  };
  struct Floats {
    float at[16];
  };
  static Vector Load(const uint16_t* p) {
    Vector v;
    std::memcpy(v.at, p, sizeof(v.at));
    return v;
  }
  static Vector LoadTail(const uint16_t* p, size_t n) {
    Vector v = {};
    std::memcpy(v.at, p, n * sizeof(uint16_t));
    return v;
  }
  static Floats Zero() { return {}; }
  static Floats Dot(Floats acc, const Vector& a, const Vector& b) {
    for (int l = 0; l < 16; ++l) {
      acc.at[l] = std::fmaf(Wide(a.at[2 * l + 1]), Wide(b.at[2 * l + 1]), acc.at[l]);
      acc.at[l] = std::fmaf(Wide(a.at[2 * l]), Wide(b.at[2 * l]), acc.at[l]);
    }
    return acc;
  }
  static float Sum(Floats acc) {
    for (int half = 8; half >= 1; half /= 2) {
      for (int l = 0; l < half; ++l) acc.at[l] += acc.at[l + half];
    }
    return acc.at[0];
  }
  static void Prefetch(const uint16_t*) {}
  static void Split(const float* x, size_t n, uint16_t* hi, uint16_t* lo) {
    for (size_t i = 0; i < 32; ++i) {
      hi[i] = i < n ? Nearest(x[i]) : 0;
      lo[i] = i < n ? Nearest(x[i] - Wide(hi[i])) : 0;
    }
  }
};

struct Case {
  Case(Random& random, uint32_t m, uint32_t rows, uint32_t cols)
      : m(m), w(random, KVRM_BF16, rows, cols), x(Normals(random, size_t{m} * cols)), bias(Normals(random, rows)) {}

  std::vector<float> Multiply(uint32_t row, uint32_t count, uint32_t n_begin, uint32_t n_end, bool biased) const {
    const uint32_t rows = w.weight.rows, cols = w.weight.cols;
    std::vector<float> out(size_t{count} * rows, 0.5f);
    Bf16MatMul<Emulated>({static_cast<const uint16_t*>(w.weight.data), cols, &x[size_t{row} * cols], cols, count,
                          out.data(), rows, n_begin, n_end, biased ? &bias[n_begin] : nullptr, true});
    return out;
  }

  uint32_t m;
  Tensor w;
  std::vector<float> x, bias;
};

double Exact(const Case& c, uint32_t i, uint32_t n) {
  double sum = 0;
  for (uint32_t k = 0; k < c.w.weight.cols; ++k) sum += double(c.x[size_t{i} * c.w.weight.cols + k]) * c.w.At(n, k);
  return sum;
}

TEST(Bf16MatMulKeepsTheActivationsPrecision) {
  Random random(1);
  for (const uint32_t cols : {1u, 31u, 32u, 33u, 100u, 768u, 2048u}) {
    const Case c(random, 5, 19, cols);
    const std::vector<float> out = c.Multiply(0, c.m, 0, 19, true);
    // Activations in BF16 alone would be off by 2^-9 of each product.
    const double limit = std::sqrt(double(cols)) * 3e-5 + 1e-6;
    for (uint32_t i = 0; i < c.m; ++i) {
      for (uint32_t n = 0; n < 19; ++n) CHECK_NEAR(out[i * 19 + n], Exact(c, i, n) + c.bias[n] + 0.5, limit);
    }
  }
}

TEST(Bf16MatMulGivesARowTheSameBitsInAnyCompany) {
  Random random(2);
  for (int round = 0; round < 12; ++round) {
    const uint32_t m = Between(random, 1, 60), rows = Between(random, 1, 70), cols = Between(random, 1, 300);
    const Case c(random, m, rows, cols);
    const std::vector<float> wanted = c.Multiply(0, m, 0, rows, false);
    const uint32_t row = Between(random, 0, m - 1), count = Between(random, 1, m - row);
    const uint32_t begin = Between(random, 0, rows - 1), end = Between(random, begin + 1, rows);
    const std::vector<float> found = c.Multiply(row, count, begin, end, false);
    for (uint32_t i = 0; i < count; ++i) {
      CHECK(SameBits(&found[i * rows + begin], &wanted[(row + i) * rows + begin], end - begin));
      for (uint32_t n = 0; n < begin; ++n) CHECK_EQ(found[i * rows + n], 0.5f);
      for (uint32_t n = end; n < rows; ++n) CHECK_EQ(found[i * rows + n], 0.5f);
    }
  }
}

TEST(Bf16MatMulCutsWideRowsIntoPasses) {
  Random random(3);
  const Case c(random, 9, 3, kBf16MostCols);
  const std::vector<float> all = c.Multiply(0, 9, 0, 3, false), one = c.Multiply(8, 1, 0, 3, false);
  CHECK(SameBits(&all[8 * 3], one.data(), 3));
}

TEST(MatMulBf16AgreesWithItsEmulation) {
  if (!HasBf16Dot()) return;  // nothing to compare with on this processor
  Random random(4);
  const Case c(random, 7, 40, 330);
  const std::vector<float> wanted = c.Multiply(0, 7, 0, 40, false);
  std::vector<float> found(7 * 40, 0.5f);
  MatMulBf16(c.w.weight, nullptr, c.x.data(), 330, 7, found.data(), 40, 0, 40, true);
  for (size_t i = 0; i < found.size(); ++i) CHECK_NEAR(found[i], wanted[i], 1e-4);
}

}  // namespace
}  // namespace kvrm::cpu
