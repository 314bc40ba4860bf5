// test.h - the whole test framework. Include it once per binary:
//
//   TEST(Name) { CHECK(x > 0); CHECK_EQ(a, b); }
//
// Prints one line per test, "ok - name (N checks)" or "not ok - name: why", then
// "native: N passed, M failed"; exits with 1 when a test failed. Arguments select tests by substring.
#ifndef KVRM_COMMON_TEST_H_
#define KVRM_COMMON_TEST_H_

#include <cmath>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvrm::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& Cases() {
  static std::vector<Case> cases;
  return cases;
}

inline bool Register(const char* name, void (*run)()) {
  Cases().push_back({name, run});
  return true;
}

inline size_t checks = 0;          // of the running test
inline size_t failures = 0;        // of the running test
inline std::string first_failure;  // of the running test

// Ends the running test: what follows a failed check seldom means anything.
struct Failed {};

[[noreturn]] inline void Fail(const char* file, int line, const std::string& why) {
  std::ostringstream out;
  out << file << ":" << line << ": " << why;
  first_failure = out.str();
  ++failures;
  throw Failed{};
}

template <typename T>
std::string Show(const T& value) {
  std::ostringstream out;
  out.precision(9);
  if constexpr (std::is_enum_v<T>) {
    out << static_cast<long long>(value);
  } else if constexpr (std::is_same_v<T, int8_t> || std::is_same_v<T, uint8_t>) {
    out << int{value};
  } else {
    out << value;
  }
  return out.str();
}

template <typename A, typename B>
bool Equal(const A& a, const B& b) {
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B> && !std::is_same_v<A, bool> &&
                !std::is_same_v<B, bool>) {
    return std::cmp_equal(a, b);
  } else {
    return a == b;
  }
}

template <typename A, typename B>
void CheckEqual(const A& a, const B& b, const char* text, const char* file, int line) {
  ++checks;
  if (!Equal(a, b)) Fail(file, line, std::string(text) + ": found " + Show(a) + ", wanted " + Show(b));
}

inline void CheckNear(double a, double b, double tolerance, const char* text, const char* file, int line) {
  ++checks;
  if (!(std::fabs(a - b) <= tolerance)) {
    Fail(file, line, std::string(text) + ": found " + Show(a) + ", wanted " + Show(b) + " within " + Show(tolerance));
  }
}

inline int RunAll(int argc, char** argv) {
  size_t passed = 0, failed = 0;
  for (const Case& test : Cases()) {
    bool selected = argc < 2;
    for (int i = 1; i < argc; ++i) selected = selected || std::strstr(test.name, argv[i]) != nullptr;
    if (!selected) continue;
    checks = failures = 0;
    first_failure.clear();
    try {
      test.run();
    } catch (const Failed&) {
    } catch (const std::exception& e) {
      ++failures;
      first_failure = e.what();
    }
    if (failures == 0) {
      ++passed;
      std::printf("ok - %s (%zu checks)\n", test.name, checks);
    } else {
      ++failed;
      std::printf("not ok - %s: %s\n", test.name, first_failure.c_str());
    }
    std::fflush(stdout);
  }
  std::printf("native: %zu passed, %zu failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace kvrm::test

#define TEST(name)                                                                                  \
  static void Test##name();                                                                         \
  [[maybe_unused]] static const bool registered##name = ::kvrm::test::Register(#name, &Test##name); \
  static void Test##name()

#define CHECK(condition)                                                             \
  do {                                                                               \
    ++::kvrm::test::checks;                                                          \
    if (!(condition)) ::kvrm::test::Fail(__FILE__, __LINE__, "not so: " #condition); \
  } while (false)

#define CHECK_EQ(a, b) ::kvrm::test::CheckEqual((a), (b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) ::kvrm::test::CheckNear((a), (b), (tolerance), #a " ~ " #b, __FILE__, __LINE__)

int main(int argc, char** argv) { return ::kvrm::test::RunAll(argc, argv); }

#endif  // KVRM_COMMON_TEST_H_
