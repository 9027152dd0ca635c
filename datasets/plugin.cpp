#include "datasets/plugin.h"

#include "vision/base/error.h"

#include <filesystem>
#include <vector>

#include <dlfcn.h>

namespace comba::datasets {
namespace {

void* open_library(const std::string& name, std::string& reason) {
  std::vector<std::string> places;
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    places.push_back((self.parent_path() / name).string());
    places.push_back((self.parent_path().parent_path() / "lib" / name).string());
  }
#ifdef COMBA_PLUGIN_DIR
  places.push_back(std::string(COMBA_PLUGIN_DIR) + "/" + name);
#endif
  places.push_back(name);
  for (const std::string& place : places) {
    if (void* handle = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      return handle;
    }
    if (const char* message = dlerror();
        message != nullptr && (reason.empty() || std::filesystem::exists(place))) {
      reason = message;
    }
  }
  return nullptr;
}

}  // namespace

void* load_plugin(const std::string& library, const std::string& entry, const std::string& purpose,
                  const std::string& remedy) {
  std::string reason;
  void* const handle = open_library(library, reason);
  COMBA_CHECK(handle != nullptr, "loading {} (needed for {}): {}; {}", library, purpose, reason,
              remedy);
  void* const found = dlsym(handle, entry.c_str());
  COMBA_CHECK(found != nullptr, "loading {}: it has no {}; it is of another version", library,
              entry);
  return found;
}

}  // namespace comba::datasets
