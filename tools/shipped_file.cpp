#include "tools/shipped_file.h"

namespace comba::tools {

std::filesystem::path shipped_file(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path prefix = fs::read_symlink("/proc/self/exe", error).parent_path().parent_path();
  for (const fs::path& beside : {prefix / name, prefix / "share/comba" / name}) {
    if (!error && fs::exists(beside)) {
      return beside;
    }
  }
  return fs::path(COMBA_SOURCE_FOLDER) / name;
}

}  // namespace comba::tools
