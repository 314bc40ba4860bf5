// layer_stages.h - the stages of a transformer layer other than attention. Each reads and writes the
// arena buffers that its Op names and spreads itself over the threads.
#ifndef KVRM_CPU_LAYER_STAGES_H_
#define KVRM_CPU_LAYER_STAGES_H_

#include "step.h"

namespace kvrm::cpu {

void RunEmbed(const Step& step);
void RunNorm(const Step& step, const Weight& weight);
void RunQkv(const Step& step, const LayerWeights& weights);

// Normalises (Qwen3) and rotates queries and keys, and puts keys and values into the pool.
void RunRopeWrite(const Step& step, uint32_t layer);

void RunAttnOut(const Step& step, const LayerWeights& weights);

// Gate and up of the same columns in one tile, multiplied while they are in cache.
void RunGateUp(const Step& step, const LayerWeights& weights);
void RunDown(const Step& step, const LayerWeights& weights);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_LAYER_STAGES_H_
