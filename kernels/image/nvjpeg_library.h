// nvJPEG's functions, loaded when first needed: a program that decodes nothing on a GPU runs without the library.
#pragma once

#include <string>

#include <nvjpeg.h>

namespace comba::kernels {

#define COMBA_NVJPEG_FUNCTIONS(X) \
  X(CreateEx)                     \
  X(Destroy)                      \
  X(GetHardwareDecoderInfo)       \
  X(JpegStateCreate)              \
  X(JpegStateDestroy)             \
  X(JpegStreamCreate)             \
  X(JpegStreamDestroy)            \
  X(JpegStreamParseHeader)        \
  X(JpegStreamGetFrameDimensions) \
  X(JpegStreamGetComponentsNum)   \
  X(DecodeBatchedSupported)       \
  X(DecodeBatchedInitialize)      \
  X(DecodeBatched)

struct NvJpegLibrary {
#define COMBA_NVJPEG_MEMBER(name) decltype (&nvjpeg##name)(name) = nullptr;
  COMBA_NVJPEG_FUNCTIONS(COMBA_NVJPEG_MEMBER)
#undef COMBA_NVJPEG_MEMBER
  std::string problem;  // why it cannot be used; empty: it can
};

// Looked for where the loader looks, then beside the CUDA runtime in use, as in NVIDIA's Python packages.
const NvJpegLibrary& nvjpeg_library();

}  // namespace comba::kernels
