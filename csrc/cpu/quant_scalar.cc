// Products with weights in blocks, one number at a time: for processors without any of the other targets' instructions,
// and what the other targets are tested against.
#include <cmath>
#include <cstring>

#include "quant_targets.h"

namespace kvrm::cpu {
namespace {

// A block of 32 activations.
struct XBlock {
  float d;
  float sum;  // d * the sum of q
  int8_t q[32];
  uint8_t unused[24];
};
static_assert(sizeof(XBlock) == 64);

// The first block of a row; the next are kXRows further each.
XBlock* XRow(void* x, uint32_t row, uint32_t cols) {
  return reinterpret_cast<XBlock*>(static_cast<uint8_t*>(x) + row / kXRows * XGroupBytes(cols, false)) + row % kXRows;
}

float LoadF16(const uint8_t* p) {
  float value;
  Widen(p, 1, KVRM_F16, &value);
  return value;
}

// One row of a packed group.
class PackedRow {
 public:
  PackedRow(const PackedMatrix& w, uint32_t n)
      : dtype_(w.dtype),
        group_(w.data + n / kGroupRows * PackedGroupBytes(w.dtype, w.cols)),
        row_(n % kGroupRows),
        block_dwords_(FormatOf(dtype_).bytes / 4),
        d_(group_ + size_t{w.cols} / FormatOf(dtype_).numbers * block_dwords_ * 64) {}

  // The bytes of a block, without the d that lies apart.
  void Bytes(size_t block, uint8_t* out) const {
    for (size_t j = 0; j < block_dwords_; ++j) {
      std::memcpy(out + 4 * j, group_ + ((block * block_dwords_ + j) * kGroupRows + row_) * 4, 4);
    }
  }
  float D(size_t block) const { return LoadF16(d_ + (block * kGroupRows + row_) * 2); }

 private:
  uint32_t dtype_;
  const uint8_t* group_;
  uint32_t row_;
  size_t block_dwords_;
  const uint8_t* d_;
};

int Sum(const XBlock& x, const int8_t* w, int first, int last) {
  int sum = 0;
  for (int i = first; i < last; ++i) sum += int{w[i]} * x.q[i];
  return sum;
}

float Blocks32(const PackedRow& row, uint32_t dtype, size_t blocks, const XBlock* x) {
  float acc = 0;
  for (size_t b = 0; b < blocks; ++b) {
    const XBlock& xb = x[b * kXRows];
    uint8_t bytes[32];
    int8_t q[32];
    row.Bytes(b, bytes);
    for (int i = 0; i < 32; ++i) {
      q[i] = dtype == KVRM_Q8_0 ? static_cast<int8_t>(bytes[i] - 128)
                                : static_cast<int8_t>((i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4) - 8);
    }
    acc = std::fma(static_cast<float>(Sum(xb, q, 0, 32)), row.D(b) * xb.d, acc);
  }
  return acc;
}

float BlocksK(const PackedRow& row, uint32_t dtype, size_t blocks, const XBlock* x) {
  float acc = 0;
  for (size_t b = 0; b < blocks; ++b) {
    uint8_t bytes[208], scales[16];
    row.Bytes(b, bytes);
    UnpackScales(bytes + 4, scales);
    const uint8_t* high = bytes + 16;
    const uint8_t* qs = dtype == KVRM_Q5_K ? bytes + 48 : bytes + 16;
    float sum = 0, min = 0;
    for (int t = 0; t < 8; ++t) {
      const XBlock& xb = x[(b * 8 + t) * kXRows];
      int8_t q[32];
      for (int j = 0; j < 32; ++j) {
        int value = qs[t / 2 * 32 + j] >> (t % 2 * 4) & 15;
        if (dtype == KVRM_Q5_K) value |= (high[j] >> t & 1) << 4;
        q[j] = static_cast<int8_t>(value);
      }
      sum = std::fma(static_cast<float>(scales[t] * Sum(xb, q, 0, 32)), xb.d, sum);
      min = std::fma(static_cast<float>(scales[8 + t]), xb.sum, min);
    }
    acc = std::fma(LoadF16(bytes), sum, acc);
    acc = std::fma(-LoadF16(bytes + 2), min, acc);
  }
  return acc;
}

float BlocksQ6(const PackedRow& row, size_t blocks, const XBlock* x) {
  float acc = 0;
  for (size_t b = 0; b < blocks; ++b) {
    uint8_t bytes[208];
    row.Bytes(b, bytes);
    const int8_t* scales = reinterpret_cast<const int8_t*>(bytes + 192);
    float sum = 0;
    for (int t = 0; t < 8; ++t) {
      const XBlock& xb = x[(b * 8 + t) * kXRows];
      const int half = t / 4, u = t % 4;
      int8_t q[32];
      for (int j = 0; j < 32; ++j) {
        const int low = bytes[half * 64 + u % 2 * 32 + j] >> (u / 2 * 4) & 15;
        q[j] = static_cast<int8_t>((low | (bytes[128 + half * 32 + j] >> (2 * u) & 3) << 4) - 32);
      }
      const int total = scales[2 * t] * Sum(xb, q, 0, 16) + scales[2 * t + 1] * Sum(xb, q, 16, 32);
      sum = std::fma(static_cast<float>(total), xb.d, sum);
    }
    acc = std::fma(row.D(b), sum, acc);
  }
  return acc;
}

void Product(const PackedProduct& p) {
  const size_t blocks = p.w.cols / kQuantBlock;
  for (uint32_t n = p.n_begin; n < p.n_end; ++n) {
    const PackedRow row(p.w, n);
    float bias = 0;
    if (p.bias) {
      Widen(static_cast<const uint8_t*>(p.bias->data) + size_t{n} * ElementBytes(p.bias->dtype), 1, p.bias->dtype,
            &bias);
    }
    for (uint32_t i = 0; i < p.m; ++i) {
      const XBlock* x = XRow(const_cast<void*>(p.x), i, p.w.cols);
      const float acc = p.w.dtype == KVRM_Q6_K                             ? BlocksQ6(row, blocks / 8, x)
                        : p.w.dtype == KVRM_Q8_0 || p.w.dtype == KVRM_Q4_0 ? Blocks32(row, p.w.dtype, blocks, x)
                                                                           : BlocksK(row, p.w.dtype, blocks / 8, x);
      const float sum = p.bias ? acc + bias : acc;
      float& out = p.out[i * p.out_stride + n];
      out = p.add ? out + sum : sum;
    }
  }
}

void QuantizeRows(const float* x, size_t x_stride, uint32_t, uint32_t cols, uint32_t begin, uint32_t end, void* out) {
  const size_t blocks = cols / kQuantBlock;
  for (uint32_t row = begin; row < end; ++row) {
    XBlock* to = XRow(out, row, cols);
    for (size_t b = 0; b < blocks; ++b) {
      const float* from = x + row * x_stride + b * kQuantBlock;
      int32_t most = 0;
      for (int i = 0; i < 32; ++i) {
        int32_t bits;
        std::memcpy(&bits, from + i, 4);
        if ((bits & 0x7fffffff) > most) most = bits & 0x7fffffff;
      }
      const QuantScale scale = ScaleOf(most);
      XBlock& block = to[b * kXRows];
      int sum = 0;
      for (int i = 0; i < 32; ++i) {
        block.q[i] = scale.inverse == 0 ? int8_t{0} : static_cast<int8_t>(std::lrintf(from[i] * scale.inverse));
        sum += block.q[i];
      }
      block.d = scale.d;
      block.sum = scale.d * static_cast<float>(sum);
    }
  }
}

}  // namespace

const QuantKernels kQuantScalar = {"SCALAR", true, QuantizeRows, Product};

}  // namespace kvrm::cpu
