// A block has two warpgroups of 64 rows each, whose result stays in accumulators while they go through the hidden units in
// chunks of 64; a third warpgroup copies. For every chunk j of rows x (and dy):
//
//   forward    u = x W1_j^T + b1;  h = GELU(u);                          y += h W2_j^T
//   backward   the same u;  dh = dy W2_j;  du = dh GELU'(u);  h, du to memory;  dx += du W1_j
//
// h and du are an operand of the next product in the registers in which they are made. That product is taken together with the
// next chunk's first ones, and the two warpgroups take turns: while one multiplies, the other is at its GELU.
#include "kernels/block/mlp_block.cuh"
#include "kernels/block/mlp_products.cuh"
#include "kernels/block/normal.cuh"

#include <algorithm>

namespace comba::kernels::cuda {
namespace {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// One of the warpgroups that multiply.
template <typename T, bool kBackward>
struct MlpGroup {
  using Block = MlpBlock<kBackward>;
  using Memory = MlpMemory<kBackward>;
  using Product = MlpProduct<T>;
  const Block& block;
  const MlpParams& p;
  const int group, warp, quad, pair;
  MlpRing rows, first, second;
  // Of the chunk before: what its last product takes.
  MlpRing last;
  uint32_t operand[4][4] = {};
  bool adds = false;  // that product is not its tile's first
  float sum[24][4];

  __device__ MlpGroup(const Block& b, int own)
      : block(b),
        p(b.p),
        group(own),
        warp(static_cast<int>(threadIdx.x) / 32 % 4),
        quad(static_cast<int>(threadIdx.x) % 32 / 4),
        pair(static_cast<int>(threadIdx.x) % 4),
        rows(b.rows(own)),
        first(b.first()),
        second(b.second()),
        last(kBackward ? first : second) {}

  // Products of one warpgroup are begun after those of the other.
  __device__ void take_turn() const {
    asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory");
  }
  __device__ void give_turn() const {
    asm volatile("bar.arrive %0, 256;" ::"r"(2 - group) : "memory");
  }
  __device__ void release(const MlpRing& ring) const {
    __syncwarp();
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane < 2) {
      ring.empty().arrive_at(lane);
    }
  }

  __device__ void add_last() {
    const uint32_t at = last.address(Memory::kChunkBytes);
#pragma unroll
    for (int s = 0; s < kMlpChunk / 16; ++s) {
      const int add = s > 0 || adds;
      if constexpr (kBackward) {
        Product::template to_192<1>(sum, operand[s],
                                    column_descriptor(at + 16 * 128 * s, Memory::kBlock), add);
      } else {
        Product::template to_192<0>(sum, operand[s], matrix_descriptor(at, s), add);
      }
    }
  }
  __device__ void begin_chunk(float (&u)[8][4], float (&dh)[8][4]) const {
    const uint32_t x = rows.base, weights = first.address(Memory::kChunkBytes);
#pragma unroll
    for (int s = 0; s < kMlpWidth / 16; ++s) {
      const int at = s / 4 * Memory::kBlock;
      Product::template to_64<0>(u, matrix_descriptor(x + at, s % 4),
                                 matrix_descriptor(weights + at, s % 4), s > 0);
    }
    if constexpr (kBackward) {
      const uint32_t columns = second.address(Memory::kChunkBytes);
#pragma unroll
      for (int s = 0; s < kMlpWidth / 16; ++s) {
        Product::template to_64<1>(
            dh, matrix_descriptor(x + Memory::kGradY + s / 4 * Memory::kBlock, s % 4),
            matrix_descriptor(columns + 16 * 128 * s), s > 0);
      }
    }
  }

  // GELU of eight neighbouring units of two rows, twice.
  __device__ void activate(const float (&u)[8][4], const float (&dh)[8][4], int row, int chunk) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t unit = chunk * kMlpChunk + 32 * half + 8 * pair;
      float bias[8] = {};
      if (p.bias1 != nullptr) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          *reinterpret_cast<float4*>(bias + 4 * i) =
              *reinterpret_cast<const float4*>(p.bias1 + unit + 4 * i);
        }
      }
      uint32_t hidden[2][4], grads[2][4];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const int n = 4 * half + m;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float a = u[n][2 * r] + bias[2 * m], b = u[n][2 * r + 1] + bias[2 * m + 1];
          const Normal<T> of_a(a), of_b(b);
          hidden[r][m] = Half<T>::pack(a * of_a.below, b * of_b.below);
          if constexpr (kBackward) {
            grads[r][m] =
                Half<T>::pack(dh[n][2 * r] * of_a.slope(a), dh[n][2 * r + 1] * of_b.slope(b));
          }
          operand[n / 2][n % 2 * 2 + r] = kBackward ? grads[r][m] : hidden[r][m];
        }
      }
      if constexpr (kBackward) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int64_t own = row + 16 * warp + quad + 8 * r, at = own * p.units + unit;
          if (own < p.rows) {
            store(p.hidden, at, hidden[r]);
            store(p.grad_hidden, at, grads[r]);
          }
        }
      }
    }
  }
  static __device__ void store(void* target, int64_t at, const uint32_t (&words)[4]) {
    *reinterpret_cast<uint4*>(static_cast<T*>(target) + at) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }

  // Neighbouring lanes exchange halves of two blocks of eight columns: a quad then writes 32 bytes at a time.
  __device__ void store_sum(int row) const {
    const int odd = pair % 2;
#pragma unroll
    for (int n = 0; n < 24; n += 2) {
      const int column = 8 * (n + odd) + 4 * (pair / 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const uint32_t low = packed_sum(n, r), high = packed_sum(n + 1, r);
        const uint32_t other = __shfl_xor_sync(~0u, odd ? low : high, 1);
        const int64_t own = row + 16 * warp + quad + 8 * r;
        if (own < p.rows) {
          *reinterpret_cast<uint2*>(static_cast<T*>(p.out) + own * kMlpWidth + column) =
              odd ? make_uint2(other, high) : make_uint2(low, other);
        }
      }
    }
  }
  __device__ uint32_t packed_sum(int n, int r) const {
    float2 bias = make_float2(0.f, 0.f);
    if (!kBackward && p.bias2 != nullptr) {
      bias = *reinterpret_cast<const float2*>(p.bias2 + 8 * n + 2 * pair);
    }
    return Half<T>::pack(sum[n][2 * r] + bias.x, sum[n][2 * r + 1] + bias.y);
  }

  // A chunk's products with the last one of the chunk before; what these need must be there.
  __device__ void multiply(float (&u)[8][4], float (&dh)[8][4]) {
    take_turn();
    hold(sum);
    hold(u);
    hold(dh);
    begin_products();
    add_last();
    begin_chunk(u, dh);
    commit_products();
    give_turn();
    wait_products();
    hold(sum);
    hold(u);
    hold(dh);
  }
  __device__ void finish() {
    take_turn();
    hold(sum);
    begin_products();
    add_last();
    commit_products();
    if (group == 0) {
      give_turn();
    }
    wait_products();
    hold(sum);
  }

  __device__ void run() {
    if (group == 1) {
      give_turn();
    }
    int before = -1;  // the tile that `sum` is of
    for (int tile = block.first_pair(); tile < block.pairs; tile += block.pair_step()) {
      const int row = block.row(tile, group);
      for (int chunk = 0; chunk < block.chunks; ++chunk) {
        float u[8][4], dh[8][4];
        if (chunk == 0) {
          rows.full().wait(rows.phase);
        }
        first.full().wait(first.phase);
        (kBackward ? second : last).full().wait(kBackward ? second.phase : last.phase);
        multiply(u, dh);
        release(kBackward ? second : first);
        if (before >= 0) {
          release(last);
          last.advance();
        }
        if (chunk == block.chunks - 1) {
          __syncwarp();
          if (threadIdx.x % 32 == 0) {
            rows.empty().arrive();
          }
          rows.advance();
        }
        if (chunk == 0 && before >= 0) {
          store_sum(before);
        }
        before = row;
        activate(u, dh, row, chunk);
        adds = chunk > 0;
        first.advance();
        second.advance();
      }
    }
    last.full().wait(last.phase);
    finish();
    store_sum(before);
  }
};

#endif

template <typename T, bool kBackward>
__global__ void __launch_bounds__(kMlpThreads, 1)
    mlp_kernel(const __grid_constant__ MlpParams p, const __grid_constant__ MlpMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) char mlp_memory[];
  const MlpBlock<kBackward> block(p, mlp_memory);
  if (threadIdx.x == 0) {
    block.init_barriers();
  }
  meet_cluster();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4 * kMlpGroups) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    MlpGroup<T, kBackward>(block, warp / 4).run();
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x % 32 == 0) {
      if (warp == 4 * kMlpGroups) {
        block.copy_weights(maps);
      } else if (warp == 4 * kMlpGroups + 1) {
        block.copy_rows(maps);
      }
    }
    __syncwarp();
  }
  meet_cluster();  // a block that has ended takes no arrivals
#endif
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
  MlpMaps maps{};
  if (!encode(maps.x, p.x, p.rows, kMlpWidth, kMlpRows) ||
      (kBackward && !encode(maps.grad_y, p.grad_y, p.rows, kMlpWidth, kMlpRows)) ||
      !encode(maps.first, p.first, p.units, kMlpWidth, kMlpChunk / 2) ||
      !encode(maps.second, p.second, kMlpWidth, p.units, kMlpWidth / 2)) {
    return cudaErrorInvalidConfiguration;
  }
  int device = 0, processors = 2;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  constexpr int64_t kPair = 2 * kMlpGroups * kMlpRows;
  const int64_t pairs = std::min<int64_t>((p.rows + kPair - 1) / kPair, processors / 2);
  const auto kernel = mlp_kernel<T, kBackward>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Memory::kBytes);
  if (status != cudaSuccess) {
    return status;
  }
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = 2;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(2 * pairs);
  config.blockDim = kMlpThreads;
  config.dynamicSmemBytes = Memory::kBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, p, maps);
}

}  // namespace

bool mlp_takes(int device, Element element, int64_t rows, int64_t width, int64_t units) {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  constexpr int64_t kMost = (int64_t{1} << 31) - 4 * kMlpGroups * kMlpRows;
  return major == 9 && minor == 0 && element != Element::float32 && width == kMlpWidth &&
         units > 0 && units % kMlpChunk == 0 && rows > 0 && rows < kMost;
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
