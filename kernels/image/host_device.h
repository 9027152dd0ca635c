// Functions of a pixel are written once and compiled for both sides, so that a CPU and a GPU make the same bits. What
// includes them is compiled without contraction (kernels/CMakeLists.txt).
#pragma once

#ifdef __CUDACC__
#define COMBA_HOST_DEVICE __host__ __device__
#else
#define COMBA_HOST_DEVICE
#endif
