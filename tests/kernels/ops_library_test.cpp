// libcomba_ops.so loaded into a program that knows nothing of Comba: ops_library_test PATH
#include "tests/kernels/registered_operators.h"

#include <iostream>

#include <dlfcn.h>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: ops_library_test PATH_TO_LIBCOMBA_OPS\n";
    return 2;
  }
  if (comba::kernels::test::missing_registrations().empty()) {
    std::cerr << "the operators are there before the library is loaded: this test proves nothing\n";
    return 1;
  }
  if (dlopen(argv[1], RTLD_NOW) == nullptr) {
    std::cerr << "loading " << argv[1] << ": " << dlerror() << "\n";
    return 1;
  }
  const std::string missing = comba::kernels::test::missing_registrations();
  std::cout << (missing.empty() ? "every operator resolves" : missing) << "\n";
  return missing.empty() ? 0 : 1;
}
