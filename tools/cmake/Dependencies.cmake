# Everything Comba takes from others. tools/setup.sh installs all of it.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(OpenCV REQUIRED COMPONENTS core imgproc imgcodecs)
find_path(TURBOJPEG_INCLUDE_DIR jpeglib.h REQUIRED)
find_library(JPEG_LIBRARY NAMES jpeg REQUIRED)
# libzip's own package file wants command-line tools that its -dev package does not install.
find_path(ZIP_INCLUDE_DIR zip.h REQUIRED)
find_library(ZIP_LIBRARY NAMES zip REQUIRED)
add_library(libzip::zip UNKNOWN IMPORTED GLOBAL)
set_target_properties(libzip::zip PROPERTIES IMPORTED_LOCATION "${ZIP_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${ZIP_INCLUDE_DIR}")
if(COMBA_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

if(COMBA_TORCH)
  set(COMBA_PYTHON "${COMBA_DEPS_DIR}/venv/bin/python")
  if(EXISTS "${COMBA_PYTHON}" AND NOT Torch_DIR)
    execute_process(COMMAND "${COMBA_PYTHON}" -c "import torch; print(torch.utils.cmake_prefix_path, end='')"
      OUTPUT_VARIABLE COMBA_TORCH_PREFIX RESULT_VARIABLE COMBA_TORCH_PROBE ERROR_QUIET)
    if(COMBA_TORCH_PROBE EQUAL 0)
      list(APPEND CMAKE_PREFIX_PATH "${COMBA_TORCH_PREFIX}")
    endif()
  endif()

  # Without a system nvcc 13, the compiler comes from the wheels of tools/setup.sh.
  file(GLOB COMBA_CUDA_WHEELS "${COMBA_DEPS_DIR}/venv/lib/python3*/site-packages/nvidia/cu13")
  if(COMBA_CUDA)
    find_program(COMBA_NVCC nvcc HINTS "$ENV{CUDA_HOME}/bin" /usr/local/cuda/bin)
    if(NOT COMBA_NVCC AND NOT CMAKE_CUDA_COMPILER AND EXISTS "${COMBA_CUDA_WHEELS}/bin/nvcc")
      set(CMAKE_CUDA_COMPILER "${COMBA_CUDA_WHEELS}/bin/nvcc")
      set(CUDAToolkit_ROOT "${COMBA_CUDA_WHEELS}")
      set(CUDA_TOOLKIT_ROOT_DIR "${COMBA_CUDA_WHEELS}")
      set(ENV{LIBRARY_PATH} "${COMBA_CUDA_WHEELS}/lib:$ENV{LIBRARY_PATH}")
    elseif(COMBA_NVCC AND NOT CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER "${COMBA_NVCC}")
    endif()
    set(CMAKE_CUDA_ARCHITECTURES "${COMBA_CUDA_ARCHITECTURES}")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    # The header alone: the library is loaded when first needed.
    find_path(COMBA_NVJPEG_INCLUDE_DIR nvjpeg.h HINTS ${CUDAToolkit_INCLUDE_DIRS} "${COMBA_CUDA_WHEELS}/include")
    file(GLOB COMBA_NCCL_WHEEL "${COMBA_DEPS_DIR}/venv/lib/python3*/site-packages/nvidia/nccl/include")
    find_path(COMBA_NCCL_INCLUDE_DIR nccl.h HINTS ${COMBA_NCCL_WHEEL} ${CUDAToolkit_INCLUDE_DIRS})
    if(NOT COMBA_NCCL_INCLUDE_DIR)
      message(STATUS "nccl.h was not found: training runs on one GPU")
    endif()
  endif()

  # find_package(Torch) looks for a GPU unless the architectures are named, and fails where there is none.
  set(TORCH_CUDA_ARCH_LIST "8.0;9.0a")
  set(ENV{TORCH_CUDA_ARCH_LIST} "${TORCH_CUDA_ARCH_LIST}")
  find_package(Torch REQUIRED)
  set(CMAKE_CUDA_FLAGS "")  # torch appends -gencode flags of its own; ours are CMAKE_CUDA_ARCHITECTURES
  set(CMAKE_CUDA_ARCHITECTURES "${COMBA_CUDA_ARCHITECTURES}")

  # at::parallel_for is an inline template that runs serially in files compiled without OpenMP.
  find_package(OpenMP REQUIRED COMPONENTS CXX)

  # --no-as-needed keeps libtorch_cuda, whose only users are registrations.
  add_library(comba_torch INTERFACE)
  target_link_libraries(comba_torch INTERFACE "-Wl,--no-as-needed" ${TORCH_LIBRARIES} "-Wl,--as-needed"
    OpenMP::OpenMP_CXX)
  target_include_directories(comba_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
endif()
