// A block has two or three warpgroups of 64 rows each, whose result stays in accumulators while they go through the hidden
// units in chunks of 64; one more warpgroup copies. For every chunk j of rows x (and dy):
//
//   forward    u = x W1_j^T + b1;  h = GELU(u);                          y += h W2_j^T
//   backward   the same u;  dh = dy W2_j;  du = dh GELU'(u);  h, du to memory;  dx += du W1_j
//
// h goes to the last product through shared memory, du in the registers in which it is made. That product is taken together with
// the next chunk's first ones, and the warpgroups take turns: while one multiplies, others are at their GELU.
#include "kernels/block/mlp_group.cuh"
#include "kernels/cuda/mixer_lanes.cuh"

#include <algorithm>

namespace comba::kernels::cuda {
namespace {

template <typename T, bool kBackward>
__global__ void __launch_bounds__(MlpRoles<kBackward>::kThreads, 1)
    mlp_kernel(const __grid_constant__ MlpParams p, const __grid_constant__ MlpMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Roles = MlpRoles<kBackward>;
  extern __shared__ __align__(1024) char mlp_memory[];
  const MlpBlock<kBackward> block(p, mlp_memory);
  if (threadIdx.x == 0) {
    block.init_barriers();
  }
  __syncthreads();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4 * Roles::kGroups) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Roles::kRegisters));
    MlpGroup<T, kBackward>(block, warp / 4).run();
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Roles::kCopierRegisters));
    if (threadIdx.x % 32 == 0) {
      if (warp == 4 * Roles::kGroups) {
        block.copy_weights(maps);
      } else if (warp == 4 * Roles::kGroups + 1) {
        block.copy_rows(maps);
      }
    }
  }
#endif
}

// A thread has eight columns of a row of each of the weights.
template <typename T>
__global__ void arrange_kernel(const MlpWeights p) {
  using Lane = Packed<T, 8>;
  const int64_t at = 8 * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (at >= p.units * kMlpWidth) {
    return;
  }
  const int64_t row = at / kMlpWidth, unit = row / 32 * 32 + mlp_unit(static_cast<int>(row % 32));
  const float* const first = p.first + unit * kMlpWidth + at % kMlpWidth;
  const float* const second = p.second + at / 32 * 32;
  Channels<8> x, y;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x.at[i] = first[i];
    y.at[i] = second[mlp_unit(static_cast<int>(at % 32) + i)];
  }
  Lane::pack(x).store(static_cast<T*>(p.arranged_first) + at);
  Lane::pack(y).store(static_cast<T*>(p.arranged_second) + at);
}

// [rows, columns] contiguous in boxes of `box` rows and 64 columns.
bool encode(CUtensorMap& map, const void* data, int64_t rows, int64_t columns, int box) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                                12000, cudaEnableDefault, &found);
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess
               ? reinterpret_cast<Encode>(function)
               : nullptr;
  }();
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t step[] = {2 * sizes[0]};
  const cuuint32_t boxes[] = {64, static_cast<cuuint32_t>(box)}, every[] = {1, 1};
  return encode != nullptr &&
         encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<void*>(data), sizes, step,
                boxes, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <typename T, bool kBackward>
cudaError_t launch(const MlpParams& p, cudaStream_t stream) {
  using Memory = MlpMemory<kBackward>;
  constexpr int64_t kTile = int64_t{MlpRoles<kBackward>::kGroups} * kMlpRows;
  MlpMaps maps{};
  if (!encode(maps.x, p.x, p.rows, kMlpWidth, kMlpRows) ||
      (kBackward && !encode(maps.grad_y, p.grad_y, p.rows, kMlpWidth, kMlpRows)) ||
      !encode(maps.first, p.first, p.units, kMlpWidth, kMlpChunk) ||
      !encode(maps.second, p.second, kMlpWidth, p.units, kMlpWidth)) {
    return cudaErrorInvalidConfiguration;
  }
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const auto kernel = mlp_kernel<T, kBackward>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Memory::kBytes);
  if (status != cudaSuccess) {
    return status;
  }
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>((p.rows + kTile - 1) / kTile, processors));
  kernel<<<blocks, MlpRoles<kBackward>::kThreads, Memory::kBytes, stream>>>(p, maps);
  return cudaGetLastError();
}

}  // namespace

bool mlp_takes(int device, Element element, int64_t rows, int64_t width, int64_t units) {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  constexpr int64_t kMost = (int64_t{1} << 31) - (int64_t{1} << 20);  // and a tile of each block
  return major == 9 && minor == 0 && element != Element::float32 && width == kMlpWidth &&
         units > 0 && units % kMlpChunk == 0 && rows > 0 && rows < kMost;
}

cudaError_t launch_mlp_arrange(Element element, const MlpWeights& p, cudaStream_t stream) {
  constexpr int kThreads = 128;
  const auto blocks = static_cast<unsigned>(p.units * kMlpWidth / 8 / kThreads);
  if (element == Element::bfloat16) {
    arrange_kernel<__nv_bfloat16><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    arrange_kernel<__half><<<blocks, kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

cudaError_t launch_mlp(Element element, const MlpParams& p, cudaStream_t stream) {
  return element == Element::bfloat16 ? launch<__nv_bfloat16, false>(p, stream)
                                      : launch<__half, false>(p, stream);
}

cudaError_t launch_mlp_backward(Element element, const MlpParams& p, cudaStream_t stream) {
  return element == Element::bfloat16 ? launch<__nv_bfloat16, true>(p, stream)
                                      : launch<__half, true>(p, stream);
}

}  // namespace comba::kernels::cuda
