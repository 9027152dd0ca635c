// What tensors consist of, for launches that know no torch.
#pragma once

namespace comba::kernels::cuda {

enum class Element { float32, float16, bfloat16 };

}  // namespace comba::kernels::cuda
