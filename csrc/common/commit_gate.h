// commit_gate.h - what every engine does with a descriptor before it is a step: copy, check, remember.
#ifndef KVRM_COMMON_COMMIT_GATE_H_
#define KVRM_COMMON_COMMIT_GATE_H_

#include <cstdint>

#include "../kvrm.h"
#include "descriptor_check.h"
#include "layout.h"
#include "status.h"

namespace kvrm {

// For one driving thread. Allocates in its constructor only.
class CommitGate {
 public:
  // The configuration has been checked. widest_window: over all layers; 0 when one attends to everything.
  CommitGate(const kvrm_engine_config& config, uint32_t vocab, uint32_t widest_window);

  // Copies the parts of the descriptor that are in use into copy [descriptor_bytes, on a multiple of 8],
  // checks the copy and moves the shadow state over it; or refuses it, and then nothing but the content
  // of copy has changed. Unused tails of copy keep what was there.
  kvrm_status Accept(const uint8_t* descriptor, uint32_t bytes, uint8_t* copy);

  // All of info that follows from the configuration: offsets, sizes of the records, mask_words, shapes.
  void FillInfo(kvrm_engine_info* info) const;

  const RecordLayout& at() const { return at_; }
  const DescriptorLimits& limits() const { return limits_; }
  // Number of the step that Accept expects.
  uint32_t next_step() const { return shadow_.last_step + 1; }

 private:
  kvrm_status Refuse(const Refusal& refusal) const;
  void CopySections(const uint8_t* from, const kvrm_header& header, uint8_t* to) const;

  const RecordLayout at_;
  const DescriptorLimits limits_;
  ShadowState shadow_;
  CheckScratch scratch_;
};

// Copies the parts of a result that are in use; slots: S. What the step did not fill keeps its content.
void CopyResult(const RecordLayout& at, uint32_t slots, const uint8_t* from, uint8_t* to);

}  // namespace kvrm
#endif  // KVRM_COMMON_COMMIT_GATE_H_
