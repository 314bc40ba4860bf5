// backend.cc - what abi.cc asks of a backend library, for the GPU.
#include "../common/backend.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cuda_status.h"
#include "device_memory.h"
#include "engine.h"
#include "timer.h"
#include "weights.h"

namespace kvrm {
namespace {

using cuda::DeviceMemory;
using cuda::UseDevice;

constexpr uint32_t kMaxHeadDim = 256;  // attention keeps a row of it in registers

// Device of the bandwidth measurement, which knows no model.
constexpr uint32_t kFirstDevice = 0;

// The machine's GPUs, or 0 with no error left behind.
int DeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

kvrm_status CheckDevice(uint32_t device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return Fail(KVRM_UNSUPPORTED, "load model: no GPU can be used: CUDA says %s; wanted one with a driver for CUDA %d",
                error == cudaSuccess ? "there is none" : cudaGetErrorString(error), CUDART_VERSION / 1000);
  }
  if (device >= static_cast<uint32_t>(count)) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: device is %u, wanted less than %d, the GPUs of this machine",
                device, count);
  }
  KVRM_TRY(UseDevice(device));
  cudaDeviceProp properties;
  KVRM_CUDA_TRY("load model", cudaGetDeviceProperties(&properties, static_cast<int>(device)));
  if (properties.major < 8) {
    return Fail(KVRM_UNSUPPORTED, "load model: %s has compute capability %d.%d, wanted 8.0 or higher", properties.name,
                properties.major, properties.minor);
  }
  return KVRM_OK;
}

}  // namespace

const char* BackendText() {
  static const auto text = [] {
    struct Text {
      char chars[128];
    } out = {"cuda/none"};
    cudaDeviceProp properties;
    if (DeviceCount() > 0 && cudaGetDeviceProperties(&properties, kFirstDevice) == cudaSuccess) {
      std::snprintf(out.chars, sizeof(out.chars), "cuda/%.80s sm_%d%d", properties.name, properties.major,
                    properties.minor);
    }
    return out;
  }();
  return text.chars;
}

bool MakesUpWeights() { return true; }

kvrm_status FinishModel(Model& model) {
  KVRM_TRY(CheckDevice(model.config.device));
  if (model.config.quantize == KVRM_QUANTIZE_BF16) {
    return Fail(KVRM_UNSUPPORTED, "load model: config.quantize is BF16, wanted NONE, FP8, INT8 or INT4 on a GPU");
  }
  if (model.config.head_dim > kMaxHeadDim) {
    return Fail(KVRM_UNSUPPORTED, "load model: config.head_dim is %u, wanted at most %u on a GPU",
                model.config.head_dim, kMaxHeadDim);
  }
  std::shared_ptr<cuda::DeviceModel> weights;
  KVRM_TRY(cuda::UploadModel(model, &weights));
  model.device = std::move(weights);
  return KVRM_OK;
}

kvrm_status CreateEngine(std::shared_ptr<const Model> model, const kvrm_engine_config& config, kvrm_engine_info* info,
                         std::shared_ptr<Engine>* out) {
  if (config.kv_dtype == KVRM_Q8_0) {
    return Fail(KVRM_UNSUPPORTED, "create engine: kv_dtype is Q8_0, wanted F32, F16, BF16 or F8_E4M3 on a GPU");
  }
  return cuda::GpuEngine::Create(std::move(model), config, info, out);
}

kvrm_status ReadMemory(const Model& model, double out[2]) {
  KVRM_TRY(UseDevice(model.config.device));
  size_t free = 0, total = 0;
  KVRM_CUDA_TRY("read memory", cudaMemGetInfo(&free, &total));
  out[0] = static_cast<double>(free);
  out[1] = static_cast<double>(total);
  return KVRM_OK;
}

// A copy within the GPU's memory: what it reads and what it writes both count.
kvrm_status MeasureBandwidth(uint32_t, uint32_t mib, uint32_t repeat, double* gb_per_s) {
  KVRM_TRY(CheckDevice(kFirstDevice));
  const size_t bytes = size_t{mib} << 20;
  DeviceMemory from, to;
  KVRM_TRY(DeviceMemory::Allocate(bytes, "the bandwidth measurement", &from));
  KVRM_TRY(DeviceMemory::Allocate(bytes, "the bandwidth measurement", &to));
  KVRM_CUDA_TRY("measure bandwidth", cudaMemset(from.As<uint8_t>(), 1, bytes));
  cuda::Timer timer;
  KVRM_TRY(timer.Create());
  double best = 0;
  for (uint32_t i = 0; i < repeat; ++i) {
    float ms = 0;
    KVRM_CUDA_TRY("measure bandwidth", timer.Start(nullptr));
    KVRM_CUDA_TRY("measure bandwidth",
                  cudaMemcpyAsync(to.As<uint8_t>(), from.As<uint8_t>(), bytes, cudaMemcpyDeviceToDevice, nullptr));
    KVRM_CUDA_TRY("measure bandwidth", timer.Stop(nullptr, &ms));
    if (ms > 0) best = std::max(best, 2e-6 * double(bytes) / double(ms));
  }
  *gb_per_s = best;
  return KVRM_OK;
}

}  // namespace kvrm
