// weights.h - the form in which the CPU backend wants a model's matrices.
#ifndef KVRM_CPU_WEIGHTS_H_
#define KVRM_CPU_WEIGHTS_H_

#include "../common/model.h"

namespace kvrm::cpu {

// Replaces matrices that products cannot take as they lie in the file: those in block formats, and those whose rows
// are interleaved. The rest stays mapped.
kvrm_status PrepareWeights(Model* model);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_WEIGHTS_H_
