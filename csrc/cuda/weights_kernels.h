// weights_kernels.h - weights made on the GPU while a model loads: narrowed to 8 or 4 bits, or made up.
#ifndef KVRM_CUDA_WEIGHTS_KERNELS_H_
#define KVRM_CUDA_WEIGHTS_KERNELS_H_

#include <cstdint>

#include "kernels.h"

namespace kvrm::cuda {

// from [rows][k] of dtype, in GPU memory, to rows of `type` (FP8, INT8 or INT4) as gemm.h lays them out.
//   FP8   a power of two for each row, the smallest with which nothing exceeds 448
//   INT8  row maximum / 127
//   INT4  for each 128, what makes the value of the largest magnitude -8
// A row or group of zeros has scale 1; a scale is NaN where a weight is not finite.
void LaunchQuantize(cudaStream_t stream, const void* from, uint32_t dtype, uint32_t rows, uint32_t k, WeightType type,
                    uint8_t* to, float* scales);

// The tensors that the rows of a matrix come from, one after another or, by_turns, 16 rows of each of two;
// rows that no tensor has are zeros.
struct RowSources {
  static constexpr uint32_t kTurn = 16;
  uint32_t num = 0;
  bool by_turns = false;
  uint32_t rows[3] = {};  // of each tensor
};
struct SourceRow {
  uint32_t source, row;
  bool exists;
};
KVRM_HD SourceRow FindSourceRow(const RowSources& sources, uint32_t r) {
  uint32_t source = 0;
  if (sources.by_turns) {
    source = r / RowSources::kTurn % 2;
    r = r / (2 * RowSources::kTurn) * RowSources::kTurn + r % RowSources::kTurn;
  } else {
    while (source + 1 < sources.num && r >= sources.rows[source]) r -= sources.rows[source++];
  }
  return {source, r, r < sources.rows[source]};
}

// Tensors without a file: numbers of NormalAt(), rounded to their type.
struct MadeUp {
  RowSources sources;
  uint64_t key[3];
  uint32_t dtype[3];
};

// Rows row_first to row_first + rows of such a matrix, [rows][cols] of dtype, to `to`.
void LaunchMakeUp(cudaStream_t stream, const MadeUp& what, uint32_t row_first, uint32_t rows, uint32_t cols,
                  uint32_t dtype, uint8_t* to);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_WEIGHTS_KERNELS_H_
