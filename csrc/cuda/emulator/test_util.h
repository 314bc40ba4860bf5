// test_util.h - what the emulator's own tests share.
#ifndef KVRM_CUDA_EMULATOR_TEST_UTIL_H_
#define KVRM_CUDA_EMULATOR_TEST_UTIL_H_

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../device_test_util.h"

namespace kvrm::cuda::emulator {

// Sets a variable of the environment and starts the emulator afresh; puts it back at the end.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) {
    setenv(name, value.c_str(), 1);
    Reset();
  }
  ~Setting() {
    unsetenv(name_);
    Reset();
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

// What a process says that runs this test again with KVRM_TEST_CHILD=which and is ended by abort(). In
// that process, Child() is `which`; elsewhere 0.
inline int Child() {
  const char* which = std::getenv("KVRM_TEST_CHILD");
  return which == nullptr ? 0 : std::atoi(which);
}

inline std::string LastWords(const char* test, int which) {
  char self[4096] = {};
  CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
  const std::string command =
      "ulimit -c 0; KVRM_TEST_CHILD=" + std::to_string(which) + " exec '" + self + "' " + test + " 2>&1";
  FILE* out = popen(command.c_str(), "r");
  CHECK(out != nullptr);
  std::string text;
  for (int c; (c = std::fgetc(out)) != EOF;) text.push_back(static_cast<char>(c));
  const int status = pclose(out);
  if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)) test::Fail(__FILE__, __LINE__, "did not abort: " + text);
  return text;
}

inline void CheckContains(const std::string& text, const std::string& part) {
  ++test::checks;
  if (text.find(part) == std::string::npos) test::Fail(__FILE__, __LINE__, "no \"" + part + "\" in: " + text);
}

}  // namespace kvrm::cuda::emulator
#endif  // KVRM_CUDA_EMULATOR_TEST_UTIL_H_
