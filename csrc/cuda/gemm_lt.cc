#include "gemm_lt.h"

#include <cstdlib>
#include <cstring>

#if !defined(KVRM_EMULATOR) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <tuple>

namespace kvrm::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;

// Allocating is forbidden while the thread captures a stream, unless it says that it knows.
class WhileCapturing {
 public:
  WhileCapturing() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~WhileCapturing() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

template <class F>
bool Find(void* library, const char* name, F** function) {
  *function = reinterpret_cast<F*>(dlsym(library, name));
  return *function != nullptr;
}

struct Plan {
  bool found = false;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, input = nullptr, sums = nullptr;
  cublasLtMatmulAlgo_t algo;
};

// Lives as long as the process.
class Lt {
 public:
  static Lt& Get() {
    static Lt& lt = *new Lt();
    return lt;
  }

  bool available() const { return available_; }

  bool Multiply(cudaStream_t stream, const DeviceWeight& w, const void* x, uint32_t rows, float* out) {
    if (!available_ || (w.type != WeightType::kF16 && w.type != WeightType::kBf16)) return false;
    const std::lock_guard lock(mutex_);
    const Plan& plan = PlanFor(w, rows);
    if (!plan.found) return false;
    const float one = 1, zero = 0;
    return matmul_(handle_, plan.operation, &one, w.data, plan.weight, x, plan.input, &zero, out, plan.sums, out,
                   plan.sums, &plan.algo, workspace_, kWorkspaceBytes, stream) == CUBLAS_STATUS_SUCCESS;
  }

  float* Sums(size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes <= sums_bytes_) return sums_;
    const WhileCapturing relaxed;
    // The smaller one stays: graphs may hold its address.
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
    sums_ = static_cast<float*>(memory);
    sums_bytes_ = bytes;
    return sums_;
  }

 private:
  Lt() {
    void* library = nullptr;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
      if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (!library) return;
    const WhileCapturing relaxed;
    decltype(cublasLtCreate)* create;
    if (!Find(library, "cublasLtCreate", &create) || !Find(library, "cublasLtMatmul", &matmul_) ||
        !Find(library, "cublasLtMatmulDescCreate", &create_operation_) ||
        !Find(library, "cublasLtMatmulDescSetAttribute", &set_operation_) ||
        !Find(library, "cublasLtMatrixLayoutCreate", &create_layout_) ||
        !Find(library, "cublasLtMatmulPreferenceCreate", &create_preference_) ||
        !Find(library, "cublasLtMatmulPreferenceDestroy", &destroy_preference_) ||
        !Find(library, "cublasLtMatmulPreferenceSetAttribute", &set_preference_) ||
        !Find(library, "cublasLtMatmulAlgoGetHeuristic", &choose_)) {
      return;
    }
    if (create(&handle_) != CUBLAS_STATUS_SUCCESS) return;
    available_ = cudaMalloc(&workspace_, kWorkspaceBytes) == cudaSuccess;
    if (!available_) cudaGetLastError();
  }

  // Column-major, as the library sees it: sums [n, rows] = (weight [k, n])^T input [k, rows].
  const Plan& PlanFor(const DeviceWeight& w, uint32_t rows) {
    const auto [at, is_new] = plans_.try_emplace({w.type, w.n, w.k, rows});
    Plan& plan = at->second;
    if (!is_new) return plan;
    const WhileCapturing relaxed;
    const cudaDataType type = w.type == WeightType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const size_t workspace = kWorkspaceBytes;
    cublasLtMatmulPreference_t preference = nullptr;
    bool made = create_operation_(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
                set_operation_(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)) ==
                    CUBLAS_STATUS_SUCCESS &&
                create_layout_(&plan.weight, type, w.k, w.n, w.k) == CUBLAS_STATUS_SUCCESS &&
                create_layout_(&plan.input, type, w.k, rows, w.k) == CUBLAS_STATUS_SUCCESS &&
                create_layout_(&plan.sums, CUDA_R_32F, w.n, rows, w.n) == CUBLAS_STATUS_SUCCESS &&
                create_preference_(&preference) == CUBLAS_STATUS_SUCCESS &&
                set_preference_(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace)) ==
                    CUBLAS_STATUS_SUCCESS;
    if (made) {
      cublasLtMatmulHeuristicResult_t best = {};
      int found = 0;
      plan.found = choose_(handle_, plan.operation, plan.weight, plan.input, plan.sums, plan.sums, preference, 1, &best,
                           &found) == CUBLAS_STATUS_SUCCESS &&
                   found == 1;
      plan.algo = best.algo;
    }
    if (preference) destroy_preference_(preference);
    return plan;
  }

  bool available_ = false;
  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  float* sums_ = nullptr;
  size_t sums_bytes_ = 0;
  std::map<std::tuple<WeightType, uint32_t, uint32_t, uint32_t>, Plan> plans_;
  decltype(cublasLtMatmul)* matmul_;
  decltype(cublasLtMatmulDescCreate)* create_operation_;
  decltype(cublasLtMatmulDescSetAttribute)* set_operation_;
  decltype(cublasLtMatrixLayoutCreate)* create_layout_;
  decltype(cublasLtMatmulPreferenceCreate)* create_preference_;
  decltype(cublasLtMatmulPreferenceDestroy)* destroy_preference_;
  decltype(cublasLtMatmulPreferenceSetAttribute)* set_preference_;
  decltype(cublasLtMatmulAlgoGetHeuristic)* choose_;
};

}  // namespace

bool LtAvailable() { return Lt::Get().available(); }

bool LtProduct(cudaStream_t stream, const DeviceWeight& weight, const void* x, uint32_t rows, float* sums) {
  return Lt::Get().Multiply(stream, weight, x, rows, sums);
}

float* LtSums(uint32_t rows, uint32_t n) { return Lt::Get().Sums(sizeof(float) * rows * n); }

}  // namespace kvrm::cuda

#else

namespace kvrm::cuda {

bool LtAvailable() { return false; }
bool LtProduct(cudaStream_t, const DeviceWeight&, const void*, uint32_t, float*) { return false; }
float* LtSums(uint32_t, uint32_t) { return nullptr; }

}  // namespace kvrm::cuda

#endif

namespace kvrm::cuda {

bool LtWanted() {
  static const bool wanted = [] {
    const char* gemm = std::getenv("KVRM_GEMM");
    return gemm && std::strcmp(gemm, "cublaslt") == 0 && LtAvailable();
  }();
  return wanted;
}

}  // namespace kvrm::cuda
