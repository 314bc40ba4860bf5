// backend.h - what abi.cc asks of a backend. Each backend library defines these functions; which one is
// meant is decided when the library is linked.
#ifndef KVRM_COMMON_BACKEND_H_
#define KVRM_COMMON_BACKEND_H_

#include <cstdint>
#include <memory>

#include "../kvrm.h"
#include "model.h"
#include "status.h"

namespace kvrm {

// One engine, as kvrm.h describes its functions; the pointers are never null. For one driving thread.
// Destroying it waits for the step that runs.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual kvrm_status Commit(const uint8_t* descriptor, uint32_t bytes) = 0;
  virtual kvrm_status Wait(uint32_t timeout_us, uint8_t* result, uint32_t bytes) = 0;
  virtual kvrm_status ExportBlocks(uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) = 0;
  virtual kvrm_status ImportBlocks(uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) = 0;
  virtual kvrm_status ReadLogits(uint32_t slot, float* out, uint32_t count) = 0;
  virtual kvrm_status ReadCounters(double* out, uint32_t count) = 0;
};

// "backend/target", e.g. "cpu/AVX3_SPR"; lives as long as the process.
const char* BackendText();

// Whether FinishModel fills tensors without a file itself, but for norms (Weight::made_up).
bool MakesUpWeights();

// The last part of LoadModel, with all tensors checked and in the host's memory: refuses what the backend
// cannot do, and takes the weights to where it wants them.
kvrm_status FinishModel(Model& model);

// Fills info and starts the engine. The configuration has passed CheckEngineConfig.
kvrm_status CreateEngine(std::shared_ptr<const Model> model, const kvrm_engine_config& config, kvrm_engine_info* info,
                         std::shared_ptr<Engine>* out);

// kvrm_memory: out[0] free, out[1] all, in bytes.
kvrm_status ReadMemory(const Model& model, double out[2]);

// kvrm_measure_bandwidth, the arguments in range.
kvrm_status MeasureBandwidth(uint32_t threads, uint32_t mib, uint32_t repeat, double* gb_per_s);

}  // namespace kvrm
#endif  // KVRM_COMMON_BACKEND_H_
