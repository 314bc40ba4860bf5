// attention_test_util.h - sequences with random K, V and q, a pool that holds them in any arrangement, and
// LaunchAttention over them, for the test and the benchmark.
#ifndef KVRM_CUDA_ATTENTION_TEST_UTIL_H_
#define KVRM_CUDA_ATTENTION_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention_walk.h"
#include "kernels.h"

namespace kvrm::cuda::test {

inline void Succeed(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Device memory, filled with 0xff: NaN in every type.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    Succeed(cudaMalloc(&data_, std::max<size_t>(bytes, 16)), "cudaMalloc");
    Fill(0xff);
  }
  template <class T>
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size() * sizeof(T)) {
    Write(values.data());
  }
  ~Buffer() { (void)cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void Fill(int byte) { Succeed(cudaMemset(data_, byte, bytes_), "cudaMemset"); }
  void Write(const void* from) { Succeed(cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice), "cudaMemcpy"); }
  template <class T>
  std::vector<T> Read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    Succeed(cudaMemcpy(values.data(), data_, bytes_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  template <class T>
  T* As() {
    return static_cast<T*>(data_);
  }

 private:
  size_t bytes_;
  void* data_ = nullptr;
};

struct Shape {
  uint32_t head_dim = 64;
  uint32_t group = 1;  // G
  uint32_t kv_heads = 2;
  uint32_t kv_dtype = KVRM_BF16;
  uint32_t block_tokens = 16;
  uint32_t window = 0;
  uint32_t split_tokens = 256;
  uint32_t out_dtype = KVRM_F32;
  uint32_t layers = 2;  // of the pool; the last one is used
  uint32_t padded = 0;  // kvrm_header.padded_window, for decoding rows alone; its unused tokens are NaN
};

enum class Scatter { kNone, kRandom, kWorst };  // one run; runs at random; every block apart

// `rows` tokens at the end of `length` attend: as one decoding row, or as a segment. id: of the random
// numbers, so that the same sequence can be had in another batch.
struct Sequence {
  uint32_t id;
  uint32_t length;
  uint32_t rows = 1;
  bool decode = true;
};

// A number that looks normal enough, a function of its arguments alone.
inline float Noise(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  uint64_t x = (uint64_t{a} << 32 | b) * 0x9e3779b97f4a7c15u + (uint64_t{c} << 32 | d);
  float sum = 0;
  for (int i = 0; i < 3; ++i) {
    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    sum += static_cast<float>(x >> 40) * 0x1p-24f - 0.5f;
  }
  return 2 * sum;
}

inline float Rounded(float x, uint32_t dtype) {
  if (dtype == KVRM_F16) return ToFloat(FromFloat<f16_t>(x));
  if (dtype == KVRM_BF16) return ToFloat(FromFloat<bf16_t>(x));
  if (dtype == KVRM_F8_E4M3) return ToFloat(FromFloat<fp8_t>(x));
  return x;
}

inline float QueryValue(const Sequence& s, uint32_t position, uint32_t head, uint32_t n) {
  return 2 * Noise(s.id * 4 + 2, position, head, n);
}
inline float KvValue(const Shape& shape, const Sequence& s, bool value, uint32_t token, uint32_t kv_head, uint32_t n) {
  return Rounded(Noise(s.id * 4 + value, token, kv_head, n), shape.kv_dtype);
}

class Attention {
 public:
  // fill_pool false: blocks are placed, K and V stay NaN until the caller writes them.
  Attention(const Shape& shape, const std::vector<Sequence>& sequences, Scatter scatter, uint32_t seed,
            bool fill_pool = true)
      : shape_(shape), sequences_(sequences) {
    std::stable_partition(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return s.decode; });
    const uint32_t heads = shape.kv_heads * shape.group, dim = shape.head_dim;
    block_bytes_ =
        uint64_t{shape.layers} * 2 * shape.kv_heads * shape.block_tokens * dim * KvElementBytes(shape.kv_dtype);
    Place(scatter, seed);
    if (fill_pool) FillPool();
    PlaceUnits();
    const uint32_t slots = 2 * static_cast<uint32_t>(sequences_.size()) + 1;
    const uint64_t partials = AttentionPartials(slots, shape.kv_heads, max_splits_);
    slot_ = Own(slots_);
    groups_buffer_ = Own(groups_);
    units_buffer_ = Own(units_);
    counts_buffer_ = Own(std::vector<StepCounts>{counts_});
    q_ = Own(Queries());
    out_ = Own(std::vector<uint8_t>(uint64_t{rows_} * heads * dim * (shape.out_dtype == KVRM_F32 ? 4 : 2), 0xff));
    acc_ = Own(std::vector<float>(partials * shape.group * dim, NAN));
    stat_ = Own(std::vector<float>(partials * shape.group * 2, NAN));
    arrivals_ = Own(std::vector<uint32_t>(units_.size() * shape.kv_heads, 0));
    work_ = Own(std::vector<uint32_t>(1, 0));

    StepView& v = view_;
    v.slots = slots;
    v.max_rows = rows_;
    v.block_tokens = shape.block_tokens;
    v.layers = shape.layers;
    v.heads = heads;
    v.kv_heads = shape.kv_heads;
    v.head_dim = dim;
    v.split_tokens = shape.split_tokens;
    v.max_splits = max_splits_;
    v.max_units = static_cast<uint32_t>(units_.size());
    v.slot = slot_->As<kvrm_slot>();
    v.groups = groups_buffer_->As<kvrm_group>();
    v.units = units_buffer_->As<AttentionUnit>();
    v.counts = counts_buffer_->As<StepCounts>();
    v.pool = pool_->As<uint8_t>();
    v.block_bytes = block_bytes_;
    v.kv_dtype = shape.kv_dtype;
    args_ = {q_->As<float>(), out_->As<void>(),  shape.out_dtype,    shape.layers - 1,          shape.window,
             Scale(),         acc_->As<float>(), stat_->As<float>(), arrivals_->As<uint32_t>(), work_->As<uint32_t>()};
  }

  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  const std::vector<Sequence>& sequences() const { return sequences_; }
  uint32_t rows() const { return rows_; }
  uint32_t num_groups() const { return static_cast<uint32_t>(groups_.size()); }
  const StepView& view() const { return view_; }
  const AttentionArgs& args() const { return args_; }
  Buffer& pool() { return *pool_; }
  uint64_t pool_bytes() const { return block_bytes_ * pool_blocks_; }

  // The groups begin with the block of the first token that a row sees; what lies before it becomes NaN.
  void ForgetBlocksBehindTheWindow() {
    std::vector<kvrm_group> kept;
    for (uint32_t i = 0; i < sequences_.size(); ++i) {
      const Sequence& s = sequences_[i];
      const uint32_t keep = FirstVisible(s.length - s.rows, shape_.window) / shape_.block_tokens;
      kvrm_slot& slot = slots_[2 * i + 1];
      const uint32_t first = static_cast<uint32_t>(kept.size());
      for (uint32_t g = slot.group_first; g < slot.group_first + slot.group_count; ++g) {
        kvrm_group group = groups_[g];
        const uint32_t cut = std::min(group.count, keep - std::min(keep, group.logical_start));
        for (uint32_t b = 0; b < cut; ++b) {
          uint8_t* block = pool_->As<uint8_t>() + (group.physical_start + b) * block_bytes_;
          Succeed(cudaMemset(block, 0xff, block_bytes_), "cudaMemset");
        }
        group.logical_start += cut;
        group.physical_start += cut;
        group.count -= cut;
        if (group.count != 0) kept.push_back(group);
      }
      slot.group_first = first;
      slot.group_count = static_cast<uint32_t>(kept.size()) - first;
    }
    kept.resize(groups_.size());
    groups_buffer_->Write(kept.data());
    slot_->Write(slots_.data());
  }

  void Run(cudaStream_t stream = nullptr) {
    int sms = 0;
    Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
    Succeed(cudaMemsetAsync(work_->As<void>(), 0, sizeof(uint32_t), stream), "cudaMemsetAsync");
    LaunchAttention({stream, static_cast<uint32_t>(sms), false}, view_, args_);
    Succeed(cudaGetLastError(), "LaunchAttention");
  }
  // [rows][H * D], rows in the order of sequences().
  template <class T>
  std::vector<T> Output() {
    Succeed(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return out_->Read<T>();
  }
  std::vector<uint32_t> Arrivals() { return arrivals_->Read<uint32_t>(); }

 private:
  template <class T>
  static void Put(uint8_t* at, T x) {
    std::memcpy(at, &x, sizeof(x));
  }

  template <class T>
  Buffer* Own(const std::vector<T>& values) {
    buffers_.push_back(std::make_unique<Buffer>(values));
    return buffers_.back().get();
  }

  // Gives every sequence its blocks: groups_ and slots_, at every second slot.
  void Place(Scatter scatter, uint32_t seed) {
    std::mt19937 random(seed);
    struct Run {
      uint32_t sequence, logical, count;
    };
    std::vector<Run> runs;
    for (uint32_t i = 0; i < sequences_.size(); ++i) {
      const uint32_t tokens = std::max(sequences_[i].length, shape_.padded);
      const uint32_t blocks = (tokens + shape_.block_tokens - 1) / shape_.block_tokens;
      for (uint32_t at = 0; at < blocks;) {
        uint32_t count = blocks;
        if (scatter == Scatter::kRandom) count = 1 + random() % 6;
        if (scatter == Scatter::kWorst) count = 1;
        count = std::min(count, blocks - at);
        runs.push_back({i, at, count});
        at += count;
      }
    }
    std::vector<uint32_t> order(runs.size()), physical(runs.size());
    std::iota(order.begin(), order.end(), 0u);
    if (scatter != Scatter::kNone) std::shuffle(order.begin(), order.end(), random);
    pool_blocks_ = 1;
    for (const uint32_t i : order) {
      physical[i] = pool_blocks_;
      pool_blocks_ += runs[i].count + (scatter == Scatter::kNone ? 0 : 1);
    }
    slots_.assign(2 * sequences_.size() + 1, kvrm_slot{});
    for (uint32_t i = 0; i < runs.size(); ++i) {
      kvrm_slot& slot = slots_[2 * runs[i].sequence + 1];
      if (slot.group_count++ == 0) slot.group_first = static_cast<uint32_t>(groups_.size());
      groups_.push_back({2 * runs[i].sequence + 1, runs[i].logical, physical[i], runs[i].count});
    }
    pool_ = std::make_unique<Buffer>(block_bytes_ * pool_blocks_);
  }

  void FillPool() {
    const uint32_t dim = shape_.head_dim, element = KvElementBytes(shape_.kv_dtype);
    std::vector<uint8_t> bytes(block_bytes_ * pool_blocks_, 0xff);
    // Of K (row < kv_heads) or V of a token of the last layer.
    const auto place = [&](uint32_t i, uint32_t token, uint32_t row) {
      const kvrm_slot& slot = slots_[2 * i + 1];
      const kvrm_group* groups = groups_.data() + slot.group_first;
      const uint32_t logical = token / shape_.block_tokens;
      const uint64_t block = PhysicalBlock(groups[FindGroup(groups, slot.group_count, logical)], logical);
      const uint64_t line = (uint64_t{shape_.layers - 1} * 2 * shape_.kv_heads + row) * shape_.block_tokens;
      return bytes.data() + block * block_bytes_ + (line + token % shape_.block_tokens) * dim * element;
    };
    for (uint32_t i = 0; i < sequences_.size(); ++i) {
      uint32_t same = 0;  // the first that is equal as far as this one goes
      while (same < i && (sequences_[same].id != sequences_[i].id || sequences_[same].length < sequences_[i].length)) {
        ++same;
      }
      for (uint32_t token = 0; token < sequences_[i].length; ++token) {
        for (uint32_t row = 0; row < 2 * shape_.kv_heads; ++row) {
          uint8_t* at = place(i, token, row);
          if (same < i) {
            std::memcpy(at, place(same, token, row), dim * element);
            continue;
          }
          for (uint32_t n = 0; n < dim; ++n, at += element) {
            const float x = KvValue(shape_, sequences_[i], row >= shape_.kv_heads, token, row % shape_.kv_heads, n);
            if (element == 4) Put(at, x);
            if (shape_.kv_dtype == KVRM_F16) Put(at, FromFloat<f16_t>(x));
            if (shape_.kv_dtype == KVRM_BF16) Put(at, FromFloat<bf16_t>(x));
            if (shape_.kv_dtype == KVRM_F8_E4M3) Put(at, FromFloat<fp8_t>(x));
          }
        }
      }
    }
    pool_->Write(bytes.data());
  }

  void PlaceUnits() {
    const uint32_t at_once = std::max(1u, kUnitRows / shape_.group);
    for (uint32_t i = 0; i < sequences_.size(); ++i) {
      const Sequence& s = sequences_[i];
      for (uint32_t row = 0; row < s.rows; row += at_once) {
        AttentionUnit unit = {2 * i + 1, rows_, std::min(at_once, s.rows - row), s.length - s.rows + row, counts_.items,
                              0,         0};
        unit.splits = (unit.position + unit.rows - 1) / shape_.split_tokens + 1;
        counts_.items += shape_.kv_heads * (s.decode ? unit.splits : 1);
        counts_.decode_units += s.decode;
        max_splits_ = std::max(max_splits_, unit.splits);
        rows_ += unit.rows;
        units_.push_back(unit);
      }
    }
    if (shape_.padded != 0) PlacePadding();
    counts_.rows = rows_;
    counts_.units = static_cast<uint32_t>(units_.size());
  }

  // As BuildStep does it; there are no segments.
  void PlacePadding() {
    max_splits_ = std::max(max_splits_, (shape_.padded - 1) / shape_.split_tokens + 1);
    for (uint32_t i = 0; i < sequences_.size(); ++i) {
      AttentionUnit unit = units_[i];
      unit.padding = (unit.position / kTileTokens + 1) * kTileTokens;
      unit.position = shape_.padded - 1;
      unit.item_first = counts_.items;
      unit.splits = unit.padding >= shape_.padded
                        ? 0
                        : unit.position / shape_.split_tokens - unit.padding / shape_.split_tokens + 1;
      counts_.items += shape_.kv_heads * unit.splits;
      units_.push_back(unit);
    }
    counts_.decode_units = static_cast<uint32_t>(units_.size());
  }

  std::vector<float> Queries() const {
    std::vector<float> q;
    for (const Sequence& s : sequences_) {
      for (uint32_t row = 0; row < s.rows; ++row) {
        for (uint32_t h = 0; h < shape_.kv_heads * shape_.group; ++h) {
          for (uint32_t n = 0; n < shape_.head_dim; ++n) q.push_back(QueryValue(s, s.length - s.rows + row, h, n));
        }
      }
    }
    return q;
  }

  Shape shape_;
  std::vector<Sequence> sequences_;
  uint64_t block_bytes_ = 0;
  uint32_t pool_blocks_ = 0, rows_ = 0, max_splits_ = 1;
  std::vector<kvrm_slot> slots_;
  std::vector<kvrm_group> groups_;
  std::vector<AttentionUnit> units_;
  StepCounts counts_ = {};
  std::unique_ptr<Buffer> pool_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  Buffer *slot_, *groups_buffer_, *units_buffer_, *counts_buffer_, *q_, *out_, *acc_, *stat_, *arrivals_, *work_;
  StepView view_ = {};
  AttentionArgs args_ = {};
};

}  // namespace kvrm::cuda::test
#endif  // KVRM_CUDA_ATTENTION_TEST_UTIL_H_
