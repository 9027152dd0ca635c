#include "tools/machine.h"

#include <cstdlib>
#include <fstream>
#include <thread>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>
#include <jconfig.h>
#include <opencv2/core/version.hpp>
#include <sys/utsname.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#ifdef COMBA_CUDA
#include <cuda_runtime_api.h>
#endif

#include "kernels/cpu/isa.h"

#define COMBA_TEXT_OF(x) COMBA_TEXT(x)
#define COMBA_TEXT(x) #x

namespace comba::tools {

namespace {

// The value after `separator` on the first line of `path` that starts with `key`.
std::string value_in_file(const char* path, const std::string& key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t at = line.find(separator);
    if (line.compare(0, key.size(), key) == 0 && at != std::string::npos) {
      const size_t begin = line.find_first_not_of(" \t\"", at + 1);
      const size_t end = line.find_last_not_of(" \t\"");
      return begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
    }
  }
  return "unknown";
}

}  // namespace

ResidentMemory resident_memory() {
  const auto mib = [](const char* key) {
    return std::strtod(value_in_file("/proc/self/status", key, ':').c_str(), nullptr) /
           1024;  // from kB
  };
  return {mib("VmRSS"), mib("VmHWM")};
}

Facts machine_facts() {
  utsname system{};
  uname(&system);
  const double bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return {
      {"CPU", value_in_file("/proc/cpuinfo", "model name", ':')},
      {"cores", fmt::format("{} ({} threads used)", std::thread::hardware_concurrency(),
                            at::get_num_threads())},
      {"CPU kernels", fmt::format("{} (COMBA_CPU_ISA=default|avx2|avx512 asks for a lesser one)",
                                  kernels::isa_name(kernels::cpu_isa()))},
      {"memory", fmt::format("{:.1f} GiB", bytes / (1 << 30))},
      {"system", fmt::format("{}, {} {} {}", value_in_file("/etc/os-release", "PRETTY_NAME", '='),
                             system.sysname, system.release, system.machine)}};
}

namespace {
// 90100 -> 9.1.0
std::string dotted(long version, long major, long minor) {
  return fmt::format("{}.{}.{}", version / major, version % major / minor, version % minor);
}

}  // namespace

Facts library_facts() {
  Facts facts{{"comba", COMBA_VERSION}};
  facts.emplace_back("compiler", fmt::format("g++-compatible {}", __VERSION__));
  facts.emplace_back("LibTorch", TORCH_VERSION);
#ifdef COMBA_CUDA
  int runtime = 0;
  const bool known = cudaRuntimeGetVersion(&runtime) == cudaSuccess;
  facts.emplace_back("CUDA",
                     fmt::format("built with {}, runtime {}", dotted(CUDART_VERSION, 1000, 10),
                                 known ? dotted(runtime, 1000, 10) : "unknown"));
#else
  facts.emplace_back("CUDA", "not built in (COMBA_CUDA=OFF)");
#endif
  std::string cudnn = "none";
  try {
    cudnn = dotted(at::detail::getCUDAHooks().versionCuDNN(), 10000, 100);
  } catch (const std::exception&) {  // a LibTorch without cuDNN
  }
  facts.emplace_back("cuDNN", cudnn);
  facts.emplace_back("OpenCV", CV_VERSION);
#ifdef LIBJPEG_TURBO_VERSION
  facts.emplace_back("libjpeg", "turbo " COMBA_TEXT_OF(LIBJPEG_TURBO_VERSION));
#else
  facts.emplace_back("libjpeg", "not libjpeg-turbo");
#endif
  return facts;
}

std::string gpu_name([[maybe_unused]] const c10::Device& device) {
#ifdef COMBA_CUDA
  cudaDeviceProp gpu{};
  if (device.is_cuda() && cudaGetDeviceProperties(&gpu, device.index()) == cudaSuccess) {
    return gpu.name;
  }
#endif
  return "";
}

Facts gpu_facts() {
#ifdef COMBA_CUDA
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    return {{"GPU", fmt::format("none ({})",
                                status == cudaSuccess ? "no device" : cudaGetErrorString(status))}};
  }
  Facts facts;
  int driver = 0;
  cudaDriverGetVersion(&driver);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp gpu{};
    if (cudaGetDeviceProperties(&gpu, i) != cudaSuccess) {
      facts.emplace_back(fmt::format("GPU {}", i), "cannot be queried");
      continue;
    }
    facts.emplace_back(fmt::format("GPU {}", i),
                       fmt::format("{}, {:.1f} GiB, compute capability {}.{}, {} SMs", gpu.name,
                                   static_cast<double>(gpu.totalGlobalMem) / (1 << 30), gpu.major,
                                   gpu.minor, gpu.multiProcessorCount));
  }
  facts.emplace_back(
      "driver", fmt::format("CUDA {}; {}", dotted(driver, 1000, 10),
                            value_in_file("/proc/driver/nvidia/version", "NVRM version", ':')));
  return facts;
#else
  return {{"GPU", "this binary has no CUDA kernels"}};
#endif
}

}  // namespace comba::tools
