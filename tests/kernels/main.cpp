// The tests' own main: COMBA_CPU_ISA decides which vector code the CPU operators run, and asking
// for one this CPU lacks skips visibly.
#include <cstdlib>
#include <iostream>
#include <string_view>

#include <gtest/gtest.h>

namespace {

// An unknown name is no reason to skip: the operators refuse it.
bool cpu_has(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx2") {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
  if (isa == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  }
#endif
  return isa != "avx2" && isa != "avx512";
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* wish = std::getenv("COMBA_CPU_ISA");
  if (wish != nullptr && *wish != '\0' && !cpu_has(wish)) {
    std::cout << "SKIPPED: this CPU has no " << wish << "\n";
    return 0;
  }
  return RUN_ALL_TESTS();
}
