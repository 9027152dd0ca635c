#include "vision/base/error.h"

#include <string_view>

namespace comba {

std::string Error::where() const {
  std::string_view file = file_;
  if (const size_t slash = file.rfind('/'); slash != std::string_view::npos) {
    file.remove_prefix(slash + 1);
  }
  return fmt::format("{}:{}", file, line_);
}

}  // namespace comba
