// weights.h - the form in which the CPU backend wants a model's matrices.
#ifndef KVRM_CPU_WEIGHTS_H_
#define KVRM_CPU_WEIGHTS_H_

#include "../common/model.h"

namespace kvrm::cpu {

// Replaces matrices that products do not take as they lie in the file: those that config.quantize makes blocks or BF16
// of (all whose rows are whole blocks of 32) are packed (packed.h), and interleaved rows are put in order. Matrices
// that are in block formats, or in BF16 where that is asked for, are packed in the background (packer.h). The rest
// stays mapped, and so does the table of embeddings: one that is the head as well is there twice.
kvrm_status PrepareWeights(Model* model);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_WEIGHTS_H_
