// status.h - every refusal is a code and a sentence: what was being done, the value found, the value
// wanted. The sentence waits in the calling thread until kvrm_last_error() fetches it.
#ifndef KVRM_COMMON_STATUS_H_
#define KVRM_COMMON_STATUS_H_

#include <cstddef>

#include "../kvrm.h"

namespace kvrm {

// Sets the calling thread's last error and returns code, so that `return Fail(...)` reads well.
// Never allocates; a sentence longer than 1,023 bytes is cut.
[[gnu::format(printf, 2, 3)]] kvrm_status Fail(kvrm_status code, const char* format, ...);

// The calling thread's last error; empty when there was none.
const char* LastError();

}  // namespace kvrm

// For functions that return kvrm_status: leaves with what a callee refused.
#define KVRM_TRY(expression)                                                          \
  do {                                                                                \
    if (const kvrm_status status_ = (expression); status_ != KVRM_OK) return status_; \
  } while (false)

#endif  // KVRM_COMMON_STATUS_H_
