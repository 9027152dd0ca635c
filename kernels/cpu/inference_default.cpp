// The inference kernels for one instruction set; the build gives this file its flags.
#include "kernels/cpu/inference_kernel.h"

namespace comba::kernels::isa_default {

InferenceKernels inference() { return inference_kernels_of<4, 2>(); }

}  // namespace comba::kernels::isa_default
