// Marks functions that are compiled for both sides, in code that hosts compile alone too.
#pragma once

#ifdef __CUDACC__
#define COMBA_HOST_DEVICE __host__ __device__
#else
#define COMBA_HOST_DEVICE
#endif
