// product.h - a stage's matrix product with a weight in whichever form it is.
#ifndef KVRM_CPU_PRODUCT_H_
#define KVRM_CPU_PRODUCT_H_

#include <initializer_list>

#include "bf16.h"
#include "quant.h"
#include "step.h"
#include "tile_matmul.h"

namespace kvrm::cpu {

// Before products with `weights`, which share their input x [m, cols] f32: where one of them does not take x as it is,
// puts into kQuant what it wants, 8-bit integers, or BF16 in rows or in tiles; never two of them, for beside blocks
// there is no BF16. A stage of its own, so that it happens once and not in every tile.
inline void QuantizeInput(const Step& step, std::initializer_list<const Weight*> weights, const float* x, uint32_t m) {
  for (const Weight* w : weights) {
    if (!w->packed && w->tile_parts == 0) continue;
    const uint32_t cols = w->cols;
    uint8_t* out = step.arena + step.plan.offset[kQuant];
    if (w->tile_parts != 0) {
      // By steps of k and not by rows, which share lines of the cache.
      ForRanges(step.threads, double(m) * cols / 2, cols / kTileStep, 1,
                [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
                  TileKernel()->split(x, cols, m, cols, w->tile_parts, begin, end, out);
                });
      return;
    }
    ForRanges(step.threads, double(m) * cols / 4, m, kXRows, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
      if (w->rounds) {
        RoundRows(x, cols, cols, begin, end, out);
      } else {
        QuantKernel().quantize_rows(x, cols, m, cols, begin, end, out);
      }
    });
    return;
  }
}

// MatMul of ops.h, x contiguous, on a member of the thread pool.
inline void Product(const Step& step, uint32_t member, const Weight& w, const Weight* bias, const float* x,
                    uint32_t cols, uint32_t m, float* out, size_t out_stride, uint32_t n_begin, uint32_t n_end,
                    bool add) {
  const uint8_t* quantised = step.arena + step.plan.offset[kQuant];
  if (w.tile_parts != 0) {
    return TileKernel()->product({w, bias, quantised, w.tile_parts, m, out, out_stride, n_begin, n_end, add});
  }
  if (!w.packed) return MatMul(w, bias, x, cols, m, out, out_stride, n_begin, n_end, add);
  const uint8_t* packed = w.packed->load(std::memory_order_acquire);
  const PackedProduct product{
      {packed, w.dtype, w.rows, w.cols}, bias, quantised, m, out, out_stride, n_begin, n_end, add};
  const auto multiply = w.rounds ? MultiplyBf16 : QuantKernel().product;
  if (packed) return multiply(product);
  const size_t scratch_bytes = step.plan.bytes[kPackScratch] / step.threads.threads();
  ProductFromFile(multiply, w, QuantKernel().flips, product,
                  step.arena + step.plan.offset[kPackScratch] + member * scratch_bytes);
}

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_PRODUCT_H_
