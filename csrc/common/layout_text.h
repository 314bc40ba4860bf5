// layout_text.h - the records and constants of kvrm.h as text, for mirrors in other languages.
#ifndef KVRM_COMMON_LAYOUT_TEXT_H_
#define KVRM_COMMON_LAYOUT_TEXT_H_

#include <string>

namespace kvrm {

// Lines "record.field offset type", "record size N" and "NAME = value", record names without kvrm_.
const std::string& LayoutText();

}  // namespace kvrm
#endif  // KVRM_COMMON_LAYOUT_TEXT_H_
