#include "vision/base/error.h"

#include <string_view>

namespace comba {

std::string Error::where() const {
  std::string_view file = where_.file_name();
  if (const size_t slash = file.rfind('/'); slash != std::string_view::npos) {
    file.remove_prefix(slash + 1);
  }
  return fmt::format("{}:{}", file, where_.line());
}

}  // namespace comba
