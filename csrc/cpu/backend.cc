// backend.cc - the CPU as a backend: what csrc/common/backend.h asks for.
#include "../common/backend.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "amx.h"
#include "engine.h"
#include "ops.h"
#include "quant.h"
#include "thread_pool.h"
#include "weights.h"

namespace kvrm {

namespace {

const char* BestInstructions() {
#if defined(__aarch64__)
  return cpu::QuantKernel().name;  // says whether NEON has the dot product
#else
  return cpu::HasAmx() ? "AMX" : cpu::TargetName();
#endif
}

}  // namespace

const char* BackendText() {
  static const std::string& text = *new std::string(std::string("cpu/") + BestInstructions());
  return text.c_str();
}

bool MakesUpWeights() { return false; }

kvrm_status FinishModel(Model& model) {
  if (model.config.device != 0) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: config.device is %u, wanted 0 on the CPU", model.config.device);
  }
  return cpu::PrepareWeights(&model);
}

kvrm_status CreateEngine(std::shared_ptr<const Model> model, const kvrm_engine_config& config, kvrm_engine_info* info,
                         std::shared_ptr<Engine>* out) {
  return cpu::Engine::Create(std::move(model), config, info, out);
}

kvrm_status ReadMemory(const Model&, double out[2]) {
  const double page = double(sysconf(_SC_PAGESIZE));
  out[0] = double(sysconf(_SC_AVPHYS_PAGES)) * page;
  out[1] = double(sysconf(_SC_PHYS_PAGES)) * page;
  // The system counts pages of files as used, and says here what it would give.
  if (FILE* file = std::fopen("/proc/meminfo", "re")) {
    char line[128];
    unsigned long long kib = 0;
    while (std::fgets(line, sizeof(line), file)) {
      if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) out[0] = double(kib) * 1024;
    }
    std::fclose(file);
  }
  return KVRM_OK;
}

kvrm_status MeasureBandwidth(uint32_t threads, uint32_t mib, uint32_t repeat, double* gb_per_s) {
  Mapping memory;
  const size_t bytes = size_t{mib} << 20;
  KVRM_TRY(Mapping::Reserve(bytes, "the bandwidth measurement", &memory));
  std::memset(memory.data(), 1, bytes);
  cpu::ThreadPool pool(cpu::ThreadCount(threads));
  std::vector<uint64_t> sums(mib);
  double best = 0;
  for (uint32_t i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool.Run(mib, [&](uint32_t tile, uint32_t) noexcept {
      sums[tile] += cpu::ReadAll(memory.data() + (size_t{tile} << 20), 1 << 20);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, double(bytes) / time.count() / 1e9);
  }
  *gb_per_s = best;
  return KVRM_OK;
}

}  // namespace kvrm
