// head_stage.h - from the residual stream to results: final norm, head, sampling, logprobs, for the
// rows that asked for it.
#ifndef KVRM_CPU_HEAD_STAGE_H_
#define KVRM_CPU_HEAD_STAGE_H_

#include <cstdint>
#include <vector>

#include "../common/layout.h"
#include "step.h"

namespace kvrm::cpu {

// Rows go through the logits buffer S at a time: prompt rows first, the samples last, so that kLogits
// holds the samples' logits in the order of batch.samples when the step ends. Sets each sampling
// slot's last_token [S].
void RunHead(const Step& step, const ResultView& result, std::vector<int32_t>& last_token);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_HEAD_STAGE_H_
