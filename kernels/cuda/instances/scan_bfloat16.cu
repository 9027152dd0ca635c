#include "kernels/cuda/scan_launch.cuh"

template struct comba::kernels::cuda::ScanLauncher<__nv_bfloat16>;
