#include "weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "../common/progress.h"
#include "../common/random_tensor.h"
#include "gemm.h"
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
        if (upload.Quantised()) largest_quantised_ = largest_;
      }
      bytes_ += upload.rows * upload.CopiedRowBytes();
    }
  }

  // GPU memory that the threads take while they run.
  uint64_t StagingBytes() const { return kMaxThreads * kBuffers * largest_quantised_; }

  // The calling thread takes part.
  kvrm_status Run() {
    load_progress.done = 0;
    load_progress.all = bytes_;
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
    DeviceMemory staging;  // rows that are still to be quantised
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
      KVRM_TRY(DeviceMemory::Allocate(largest_quantised_, "loading", &lane.staging));
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
    uint8_t* to = upload.to + job.row_first * WeightRowBytes(upload.type, upload.cols);
    uint8_t* rows = upload.Quantised() ? lane->staging.As<uint8_t>() : to;
    if (AllMadeUp(upload)) {
      MadeUp what = {upload.sources, {}, {}};
      for (uint32_t i = 0; i < upload.sources.num; ++i) {
        what.key[i] = upload.parts[i].made_up_key;
        what.dtype[i] = upload.parts[i].dtype;
      }
      LaunchMakeUp(lane->stream, what, job.row_first, job.rows, upload.cols, upload.dtype, rows);
    } else {
      for (uint32_t r = 0; r < job.rows; ++r) FillRow(upload, job.row_first + r, lane->buffer.data() + r * row_bytes);
      KVRM_CUDA_TRY("load model",
                    cudaMemcpyAsync(rows, lane->buffer.data(), bytes, cudaMemcpyHostToDevice, lane->stream));
    }
    if (upload.Quantised()) {
      const uint32_t scales_of_row = upload.type == WeightType::kInt4 ? (upload.cols + kInt4Group - 1) / kInt4Group : 1;
      LaunchQuantize(lane->stream, rows, upload.dtype, job.rows, upload.cols, upload.type, to,
                     upload.scales + uint64_t{job.row_first} * scales_of_row);
    }
    KVRM_CUDA_TRY("load model", cudaGetLastError());
    load_progress.done += bytes;
    return KVRM_OK;
  }

  static bool AllMadeUp(const Upload& upload) {
    for (uint32_t i = 0; i < upload.sources.num; ++i) {
      if (!upload.parts[i].made_up) return false;
    }
    return true;
  }

  static void FillRow(const Upload& upload, uint32_t r, uint8_t* to) {
    const SourceRow at = FindSourceRow(upload.sources, r);
    const Weight& part = upload.parts[at.source];
    if (!at.exists || !part.data) {
      std::memset(to, 0, upload.CopiedRowBytes());
      return;
    }
    const uint64_t first = uint64_t{at.row} * upload.cols;
    const uint8_t* from =
        static_cast<const uint8_t*>(part.data) + part.FileRow(at.row) * RowBytes(part.dtype, upload.cols);
    if (part.dtype == upload.dtype && !part.made_up) {
      std::memcpy(to, from, upload.CopiedRowBytes());
      return;
    }
    constexpr uint32_t kAtOnce = 256;
    float values[kAtOnce], rounded[kAtOnce];
    for (uint32_t c = 0; c < upload.cols; c += kAtOnce) {
      const uint32_t count = std::min(kAtOnce, upload.cols - c);
      if (part.made_up) {
        for (uint32_t i = 0; i < count; ++i) values[i] = NormalAt(part.made_up_key, first + c + i);
        Narrow(values, count, part.dtype, rounded);
        Widen(rounded, count, part.dtype, values);
      } else if (IsBlocks(part.dtype)) {
        Dequantize(part.dtype, from + RowBytes(part.dtype, c), count, values);
      } else {
        Widen(from + uint64_t{c} * ElementBytes(part.dtype), count, part.dtype, values);
      }
      Narrow(values, count, upload.dtype, to + uint64_t{c} * ElementBytes(upload.dtype));
    }
  }

  const int device_;
  std::vector<Job> jobs_;
  uint64_t bytes_ = 0;
  uint64_t largest_ = 0;
  uint64_t largest_quantised_ = 0;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  kvrm_status failed_ = KVRM_OK;
  std::string message_;
};

kvrm_status CheckMemory(uint64_t needed, uint32_t quantize) {
  size_t free = 0, total = 0;
  KVRM_CUDA_TRY("load model", cudaMemGetInfo(&free, &total));
  if (needed <= free) return KVRM_OK;
  return Fail(
      KVRM_OUT_OF_MEMORY,
      "load model: %.1f MiB of GPU memory needed for the weights, wanted at most the %.1f MiB free of %.1f MiB; "
      "use %s",
      double(needed) / kMiB, double(free) / kMiB, double(total) / kMiB,
      quantize == KVRM_QUANTIZE_NONE   ? "--quantize int8 or a smaller model"
      : quantize == KVRM_QUANTIZE_INT4 ? "a smaller model"
                                       : "--quantize int4 or a smaller model");
}

}  // namespace

kvrm_status UploadModel(const Model& model, std::shared_ptr<DeviceModel>* out) {
  auto weights = std::make_shared<DeviceModel>();
  std::vector<Upload> uploads;
  const uint64_t bytes = LayOutWeights(model, nullptr, weights.get(), &uploads);
  int device = 0;
  KVRM_CUDA_TRY("load model", cudaGetDevice(&device));
  KVRM_TRY(CheckMemory(bytes + Uploader(device, uploads).StagingBytes(), model.config.quantize));
  KVRM_TRY(DeviceMemory::Allocate(bytes, "the weights", &weights->memory));
  LayOutWeights(model, weights->memory.As<uint8_t>(), weights.get(), &uploads);
  KVRM_TRY(Uploader(device, uploads).Run());
  *out = std::move(weights);
  return KVRM_OK;
}

}  // namespace kvrm::cuda
