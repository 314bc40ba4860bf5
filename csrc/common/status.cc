#include "status.h"

#include <cstdarg>
#include <cstdio>

namespace kvrm {
namespace {
thread_local char last_error[1024];
}  // namespace

kvrm_status Fail(kvrm_status code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(last_error, sizeof(last_error), format, args);
  va_end(args);
  return code;
}

const char* LastError() { return last_error; }

}  // namespace kvrm
