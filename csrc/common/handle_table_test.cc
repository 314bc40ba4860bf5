#include "handle_table.h"

#include "test.h"

namespace kvrm {
namespace {

bool Always(const std::shared_ptr<int>&) { return true; }

TEST(HandlesAreSmallAndFindTheirObject) {
  HandleTable<int> table(0);
  const uint32_t one = table.Add(std::make_shared<int>(1)), two = table.Add(std::make_shared<int>(2));
  CHECK(one != 0 && two != 0 && one != two && one < 1000 && two < 1000);
  CHECK_EQ(*table.Get(one), 1);
  CHECK_EQ(*table.Get(two), 2);
}

TEST(RemovedHandlesStayDeadWhenTheirPlaceIsReused) {
  HandleTable<int> table(1);
  uint32_t old = table.Add(std::make_shared<int>(0));
  for (int i = 1; i < 1000; ++i) {
    CHECK(table.RemoveIf(old, Always) != nullptr);
    const uint32_t next = table.Add(std::make_shared<int>(i));
    CHECK(next != old);
    CHECK(table.Get(old) == nullptr);
    CHECK(table.RemoveIf(old, Always) == nullptr);
    CHECK_EQ(*table.Get(next), i);
    old = next;
  }
}

TEST(HandlesOfAnotherTableAndRandomOnesAreNotFound) {
  HandleTable<int> models(0), engines(1);
  const uint32_t model = models.Add(std::make_shared<int>(1));
  engines.Add(std::make_shared<int>(2));
  CHECK(engines.Get(model) == nullptr);
  uint32_t found = 0;
  for (uint64_t handle = 0; handle < (1u << 16); ++handle) found += models.Get(uint32_t(handle * 65537)) != nullptr;
  CHECK(found <= 1);
}

TEST(AFullTableRefuses) {
  HandleTable<int> table(0);
  for (uint32_t i = 0; i < HandleTable<int>::kCapacity; ++i) CHECK(table.Add(std::make_shared<int>(1)) != 0);
  CHECK_EQ(table.Add(std::make_shared<int>(1)), 0u);
}

TEST(RemoveIfAsksFirst) {
  HandleTable<int> table(0);
  const uint32_t handle = table.Add(std::make_shared<int>(5));
  CHECK(table.RemoveIf(handle, [](const std::shared_ptr<int>& i) { return *i != 5; }) == nullptr);
  CHECK_EQ(*table.Get(handle), 5);
}

}  // namespace
}  // namespace kvrm
