#include "kernels/cuda/mixer_launch.cuh"

template struct comba::kernels::cuda::MixerLauncher<__nv_bfloat16>;
