#include "packer.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "packed.h"
#include "quant.h"

namespace kvrm::cpu {
namespace {

// A server that is started for a request has all processors for its first token.
constexpr std::chrono::milliseconds kDelay{200};
// Groups that are packed between two looks at whether to stop.
constexpr uint32_t kTileGroups = 16;

}  // namespace

Packer::~Packer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Packer::Add(Weight* w) {
  Matrix& matrix = matrices_.emplace_back();
  matrix.file = *w;
  w->packed = &matrix.packed;
}

void Packer::Keep(Mapping region, Weight* w) {
  Matrix& matrix = matrices_.emplace_back();
  matrix.region = std::move(region);
  matrix.packed = matrix.region.data();
  w->data = matrix.region.data();
  w->interleaved_head = 0;
  w->packed = &matrix.packed;
}

kvrm_status Packer::Start(ThreadPool* threads) {
  if (threads == nullptr) {
    try {
      thread_ = std::thread([this] { PackLater(); });
      return KVRM_OK;
    } catch (const std::system_error&) {  // no thread is to be had
    }
  }
  return PackAll(threads);
}

void Packer::PackLater() {
  std::unique_lock lock(mutex_);
  if (stopped_.wait_for(lock, kDelay, [this] { return stop_.load(); })) return;
  lock.unlock();
  PackAll(nullptr);
}

kvrm_status Packer::PackAll(ThreadPool* threads) {
  for (Matrix& matrix : matrices_) {
    if (matrix.packed != nullptr) continue;
    const Weight& w = matrix.file;
    const uint32_t groups = (w.rows + kGroupRows - 1) / kGroupRows, tiles = (groups + kTileGroups - 1) / kTileGroups;
    KVRM_TRY(Mapping::Reserve(groups * PackedGroupBytes(w.dtype, w.cols), "a matrix", &matrix.region));
    const auto pack = [&](uint32_t tile, uint32_t) noexcept {
      const uint32_t begin = tile * kTileGroups;
      PackGroups(w, begin, std::min(groups, begin + kTileGroups), QuantKernel().flips, matrix.region.data());
    };
    if (threads != nullptr) {
      threads->Run(tiles, pack);
    } else {
      for (uint32_t tile = 0; tile < tiles; ++tile) {
        if (stop_) return KVRM_OK;
        pack(tile, 0);
      }
    }
    matrix.packed.store(matrix.region.data(), std::memory_order_release);
  }
  return KVRM_OK;
}

}  // namespace kvrm::cpu
