#include "weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "../common/progress.h"
#include "weights_layout.h"

namespace kvrm::cuda {
namespace {

// Pinned memory: each copying thread fills one buffer while the other is on its way.
constexpr uint64_t kBufferBytes = 4 << 20;
constexpr uint32_t kBuffers = 2;
constexpr uint32_t kMaxThreads = 8;
constexpr double kMiB = 1 << 20;

// Rows of one upload that fit in a buffer.
struct Job {
  const Upload* upload;
  uint32_t row_first;
  uint32_t rows;
};

class Uploader {
 public:
  Uploader(int device, const std::vector<Upload>& uploads) : device_(device) {
    for (const Upload& upload : uploads) {
      const uint64_t row = std::max<uint64_t>(1, upload.CopiedRowBytes());
      const uint32_t rows = static_cast<uint32_t>(std::clamp<uint64_t>(kBufferBytes / row, 1, UINT32_MAX));
      for (uint32_t r = 0; r < upload.rows; r += std::min(rows, upload.rows - r)) {
        jobs_.push_back({&upload, r, std::min(rows, upload.rows - r)});
        largest_ = std::max(largest_, jobs_.back().rows * row);
      }
      load_progress.all += upload.rows * upload.CopiedRowBytes();
    }
  }

  // The calling thread takes part.
  kvrm_status Run() {
    const uint32_t wanted = std::min({kMaxThreads, std::max(1u, std::thread::hardware_concurrency()),
                                      std::max(1u, static_cast<uint32_t>(jobs_.size()))});
    std::vector<std::thread> threads;
    try {
      threads.reserve(wanted);
      while (threads.size() + 1 < wanted) threads.emplace_back([this] { Work(); });
    } catch (const std::exception&) {
      // Fewer threads do.
    }
    Work();
    for (std::thread& thread : threads) thread.join();
    return failed_ == KVRM_OK ? KVRM_OK : Fail(failed_, "%s", message_.c_str());
  }

 private:
  // A stream and what its copies go through.
  struct Lane {
    cudaStream_t stream = nullptr;
    PinnedMemory buffer;
    ~Lane() {
      if (!stream) return;
      cudaStreamSynchronize(stream);
      cudaStreamDestroy(stream);
    }
  };

  void Work() noexcept {
    const kvrm_status status = TakeJobs();
    if (status == KVRM_OK) return;
    const std::lock_guard lock(mutex_);
    if (failed_ != KVRM_OK) return;
    message_ = LastError();
    failed_ = status;
    next_ = jobs_.size();
  }

  kvrm_status TakeJobs() {
    KVRM_CUDA_TRY("load model", cudaSetDevice(device_));
    Lane lanes[kBuffers];
    for (Lane& lane : lanes) {
      KVRM_CUDA_TRY("load model", cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking));
      KVRM_TRY(PinnedMemory::Allocate(largest_, "loading", &lane.buffer));
    }
    for (uint32_t turn = 0;; ++turn) {
      const size_t index = next_.fetch_add(1);
      if (index >= jobs_.size()) break;
      Lane& lane = lanes[turn % kBuffers];
      KVRM_CUDA_TRY("load model", cudaStreamSynchronize(lane.stream));
      KVRM_TRY(Copy(jobs_[index], &lane));
    }
    for (Lane& lane : lanes) KVRM_CUDA_TRY("load model", cudaStreamSynchronize(lane.stream));
    return KVRM_OK;
  }

  kvrm_status Copy(const Job& job, Lane* lane) {
    const Upload& upload = *job.upload;
    const uint64_t row_bytes = upload.CopiedRowBytes(), bytes = job.rows * row_bytes;
    for (uint32_t r = 0; r < job.rows; ++r) FillRow(upload, job.row_first + r, lane->buffer.data() + r * row_bytes);
    KVRM_CUDA_TRY("load model", cudaMemcpyAsync(upload.to + job.row_first * row_bytes, lane->buffer.data(), bytes,
                                                cudaMemcpyHostToDevice, lane->stream));
    load_progress.done += bytes;
    return KVRM_OK;
  }

  static void FillRow(const Upload& upload, uint32_t r, uint8_t* to) {
    uint32_t dtype;
    const void* from = upload.SourceRow(r, &dtype);
    if (!from) {
      std::memset(to, 0, upload.CopiedRowBytes());
    } else if (dtype == upload.dtype) {
      std::memcpy(to, from, upload.CopiedRowBytes());
    } else {
      constexpr uint32_t kAtOnce = 256;
      float values[kAtOnce];
      for (uint32_t c = 0; c < upload.cols; c += kAtOnce) {
        const uint32_t count = std::min(kAtOnce, upload.cols - c);
        Widen(static_cast<const uint8_t*>(from) + uint64_t{c} * ElementBytes(dtype), count, dtype, values);
        Narrow(values, count, upload.dtype, to + uint64_t{c} * ElementBytes(upload.dtype));
      }
    }
  }

  const int device_;
  std::vector<Job> jobs_;
  uint64_t largest_ = 0;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  kvrm_status failed_ = KVRM_OK;
  std::string message_;
};

kvrm_status CheckMemory(uint64_t needed) {
  size_t free = 0, total = 0;
  KVRM_CUDA_TRY("load model", cudaMemGetInfo(&free, &total));
  if (needed <= free) return KVRM_OK;
  return Fail(KVRM_OUT_OF_MEMORY,
              "load model: the weights need %.1f MiB of GPU memory, %.1f MiB of %.1f MiB are free; use "
              "--quantize int8 or a smaller model",
              double(needed) / kMiB, double(free) / kMiB, double(total) / kMiB);
}

}  // namespace

kvrm_status UploadModel(const Model& model, std::shared_ptr<DeviceModel>* out) {
  if (model.config.quantize != KVRM_QUANTIZE_NONE) {
    return Fail(KVRM_UNSUPPORTED, "load model: config.quantize is %u, wanted 0", model.config.quantize);
  }
  auto weights = std::make_shared<DeviceModel>();
  std::vector<Upload> uploads;
  const uint64_t bytes = LayOutWeights(model, nullptr, weights.get(), &uploads);
  KVRM_TRY(CheckMemory(bytes));
  KVRM_TRY(DeviceMemory::Allocate(bytes, "the weights", &weights->memory));
  LayOutWeights(model, weights->memory.As<uint8_t>(), weights.get(), &uploads);
  int device = 0;
  KVRM_CUDA_TRY("load model", cudaGetDevice(&device));
  KVRM_TRY(Uploader(device, uploads).Run());
  *out = std::move(weights);
  return KVRM_OK;
}

}  // namespace kvrm::cuda
