// handle_table.h - objects behind small integers. A stale, foreign or made-up handle is not found; it
// never reaches an object.
#ifndef KVRM_COMMON_HANDLE_TABLE_H_
#define KVRM_COMMON_HANDLE_TABLE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace kvrm {

// A handle is generation << 9 | kind << 8 | index + 1. The generation of a place grows with every
// removal, so a handle stays dead after its place is reused (until 2^23 reuses of one place).
template <typename T>
class HandleTable {
 public:
  static constexpr uint32_t kCapacity = 255;

  // kind: 0 or 1, different for each table of the library.
  explicit HandleTable(uint32_t kind) : kind_(kind) {}

  // Returns 0 when the table is full.
  uint32_t Add(std::shared_ptr<T> object) {
    std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < kCapacity; ++i) {
      if (places_[i].object) continue;
      places_[i].object = std::move(object);
      return (places_[i].generation & kGenerations) << 9 | kind_ << 8 | (i + 1);
    }
    return 0;
  }

  // Null when the handle names nothing.
  std::shared_ptr<T> Get(uint32_t handle) {
    std::lock_guard lock(mutex_);
    Place* place = Find(handle);
    return place ? place->object : nullptr;
  }

  // Removes what condition(object) allows; returns what was removed. The condition runs under the
  // table's lock, so nobody can fetch the object between the check and the removal.
  template <typename Condition>
  std::shared_ptr<T> RemoveIf(uint32_t handle, Condition condition) {
    std::lock_guard lock(mutex_);
    Place* place = Find(handle);
    if (!place || !condition(place->object)) return nullptr;
    ++place->generation;
    return std::exchange(place->object, nullptr);
  }

 private:
  static constexpr uint32_t kGenerations = (1u << 23) - 1;

  struct Place {
    uint32_t generation = 0;
    std::shared_ptr<T> object;
  };

  Place* Find(uint32_t handle) {
    const uint32_t index = (handle & 0xff) - 1;
    if (index >= kCapacity || ((handle >> 8) & 1) != kind_) return nullptr;
    Place& place = places_[index];
    return place.object && (place.generation & kGenerations) == handle >> 9 ? &place : nullptr;
  }

  const uint32_t kind_;
  std::mutex mutex_;
  std::array<Place, kCapacity> places_;
};

}  // namespace kvrm
#endif  // KVRM_COMMON_HANDLE_TABLE_H_
