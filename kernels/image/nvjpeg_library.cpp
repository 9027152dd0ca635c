#include "kernels/image/nvjpeg_library.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#define COMBA_NVJPEG_TEXT_OF(x) COMBA_NVJPEG_TEXT(x)
#define COMBA_NVJPEG_TEXT(x) #x

namespace comba::kernels {
namespace {

constexpr const char* kName = "libnvjpeg.so." COMBA_NVJPEG_TEXT_OF(NVJPEG_VER_MAJOR);

std::string folder_of_cuda_runtime() {
  Dl_info info{};
  void* const function = dlsym(RTLD_DEFAULT, "cudaGetDevice");
  if (function == nullptr || dladdr(function, &info) == 0 || info.dli_fname == nullptr) {
    return {};
  }
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

NvJpegLibrary load() {
  NvJpegLibrary library;
  void* handle = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    handle = dlopen((folder_of_cuda_runtime() + kName).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (handle == nullptr) {
    const char* const reason = dlerror();
    library.problem = std::string("loading ") + kName + ": " + (reason != nullptr ? reason : "") +
                      "; install the Python package nvidia-nvjpeg, or CUDA's libnvjpeg, and name "
                      "its folder in LD_LIBRARY_PATH";
    return library;
  }
#define COMBA_NVJPEG_LOAD(name)                                                           \
  library.name = reinterpret_cast<decltype(library.name)>(dlsym(handle, "nvjpeg" #name)); \
  if (library.name == nullptr) {                                                          \
    library.problem = std::string(kName) + " has no nvjpeg" #name "; it is too old";      \
  }
  COMBA_NVJPEG_FUNCTIONS(COMBA_NVJPEG_LOAD)
#undef COMBA_NVJPEG_LOAD
  return library;
}

}  // namespace

const NvJpegLibrary& nvjpeg_library() {
  static const NvJpegLibrary library = load();
  return library;
}

}  // namespace comba::kernels
