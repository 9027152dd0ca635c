// Files that come with the program.
#pragma once

#include <filesystem>
#include <string>

namespace comba::tools {

// `name` relative to the source tree, as "tracking/weights/comba_t_synthetic.safetensors": beside the program in a bundle,
// below share/ where it is installed, or in the source tree it was built from (which may be gone).
std::filesystem::path shipped_file(const std::string& name);

inline std::filesystem::path shipped_tracker() {
  return shipped_file("tracking/weights/comba_t_synthetic.safetensors");
}

}  // namespace comba::tools
