# LibTorch as one target, for our own build and for those who find the installed package.

# find_package(Torch) looks for a GPU unless the architectures are named, and fails where there is none.
if(NOT TORCH_CUDA_ARCH_LIST)
  set(TORCH_CUDA_ARCH_LIST "8.0;9.0a")
endif()
set(ENV{TORCH_CUDA_ARCH_LIST} "${TORCH_CUDA_ARCH_LIST}")

# Comba::torch, from what find_package(Torch) and find_package(OpenMP) found. at::parallel_for is an inline template that
# runs serially in files compiled without OpenMP; --no-as-needed keeps libtorch_cuda, whose only users are registrations.
function(comba_torch_target)
  if(NOT TARGET Comba::torch)
    add_library(Comba::torch INTERFACE IMPORTED GLOBAL)
    target_link_libraries(Comba::torch INTERFACE "-Wl,--no-as-needed" ${TORCH_LIBRARIES} "-Wl,--as-needed"
      OpenMP::OpenMP_CXX)
    target_include_directories(Comba::torch INTERFACE ${TORCH_INCLUDE_DIRS})
  endif()
endfunction()
