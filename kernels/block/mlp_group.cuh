// A warpgroup that multiplies in the kernels of mlp.cu.
#pragma once

#include "kernels/block/mlp_block.cuh"
#include "kernels/block/mlp_products.cuh"
#include "kernels/block/normal.cuh"

#include <type_traits>

namespace comba::kernels::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// One of the warpgroups that multiply.
template <typename T, bool kBackward>
struct MlpGroup {
  using Block = MlpBlock<kBackward>;
  using Memory = MlpMemory<kBackward>;
  using Product = MlpProduct<T>;
  static constexpr int kGroups = Block::kGroups;
  const Block& block;
  const MlpParams& p;
  const int group, warp, quad, pair;
  MlpRing rows, first, second;
  // Of the chunk before: what its last product takes.
  MlpRing last;
  uint32_t operand
      [4]
      [4];  // backward; forward it lies in shared memory, which leaves registers for a third group
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

  // Products of one warpgroup are begun after those of the one before.
  __device__ void take_turn() const {
    asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory");
  }
  __device__ void give_turn() const {
    asm volatile("bar.arrive %0, 256;" ::"r"(1 + (group + 1) % kGroups) : "memory");
  }
  __device__ void release(const MlpRing& ring) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      ring.empty().arrive();
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
        Product::to_192(sum, matrix_descriptor(hidden_rows(), s), matrix_descriptor(at, s), add);
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

  // A thread has eight neighbouring units of two rows, twice. Leaves in `u` what the chunk's last product takes.
  __device__ void activate(float (&u)[8][4], const float (&dh)[8][4], int row, int chunk) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t unit = chunk * kMlpChunk + 32 * half + 8 * pair;
      add_bias(u, half, unit);
      uint32_t hidden[2][4], grads[2][4];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float &a = u[4 * half + m][2 * r], &b = u[4 * half + m][2 * r + 1];
          const float beyond_a = beyond<T>(a), beyond_b = beyond<T>(b);
          const float h_a = gelu(a, beyond_a), h_b = gelu(b, beyond_b);
          if constexpr (kBackward) {
            a = dh[4 * half + m][2 * r] * gelu_slope(a, beyond_a);
            b = dh[4 * half + m][2 * r + 1] * gelu_slope(b, beyond_b);
            hidden[r][m] = Half<T>::pack(h_a, h_b);
            grads[r][m] = Half<T>::pack(a, b);
          } else {
            a = h_a;
            b = h_b;
          }
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
  // Without a bias that of zeros: no branch while products are under way, or the compiler has them wait for each other.
  __device__ void add_bias(float (&u)[8][4], int half, int64_t unit) const {
    float4 low = make_float4(0.f, 0.f, 0.f, 0.f), high = low;
    if (p.bias1 != nullptr) {
      low = *reinterpret_cast<const float4*>(p.bias1 + unit);
      high = *reinterpret_cast<const float4*>(p.bias1 + unit + 4);
    }
    const float b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u[4 * half + m][i] += b[2 * m + i % 2];
      }
    }
  }
  __device__ uint32_t hidden_rows() const {
    return block.base + Memory::kHidden + group * Memory::kBlock;
  }
  // Not before the products under way have read the last one: volatile, or the compiler makes it at once and has every product
  // wait for the one before.
  __device__ void make_operand(const float (&u)[8][4]) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        uint32_t& two = operand[n / 2][n % 2 * 2 + r];
        if constexpr (std::is_same_v<T, __half>) {
          asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;"
                       : "=r"(two)
                       : "f"(u[n][2 * r + 1]), "f"(u[n][2 * r]));
        } else {
          asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;"
                       : "=r"(two)
                       : "f"(u[n][2 * r + 1]), "f"(u[n][2 * r]));
        }
      }
    }
  }
  // The first chunk adds nothing.
  __device__ void clear_operand() {
    const float zeros[8][4] = {};
    if constexpr (kBackward) {
      make_operand(zeros);
    } else {
      write_operand(zeros);
    }
  }
  // Forward, once the products that read the last ones are done in all warps.
  __device__ void write_operand(const float (&u)[8][4]) const {
    asm volatile("bar.sync %0, 128;" ::"r"(1 + kGroups + group) : "memory");
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t at = hidden_rows() + 16 * 128 * warp, own = tile_offset<64, kPairColumns>(lane);
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const auto two = [&](int n, int r) { return Half<T>::pack(u[n][2 * r], u[n][2 * r + 1]); };
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                       at + (own ^ 32 * s)),
                   "r"(two(2 * s, 0)), "r"(two(2 * s, 1)), "r"(two(2 * s + 1, 0)),
                   "r"(two(2 * s + 1, 1))
                   : "memory");
    }
    show_to_products();
  }
  static __device__ void store(void* target, int64_t at, const uint32_t (&words)[4]) {
    *reinterpret_cast<uint4*>(static_cast<T*>(target) + at) =
        make_uint4(words[0], words[1], words[2], words[3]);
  }

  // Neighbouring lanes exchange halves of two blocks of eight columns: a quad then writes 32 bytes at a time.
  __device__ void store_sum(int row) {
    if (!kBackward && p.bias2 != nullptr) {
#pragma unroll
      for (int n = 0; n < 24; ++n) {
        const float2 bias = *reinterpret_cast<const float2*>(p.bias2 + 8 * n + 2 * pair);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[n][i] += i % 2 == 0 ? bias.x : bias.y;
        }
      }
    }
    const int odd = pair % 2;
#pragma unroll
    for (int n = 0; n < 24; n += 2) {
      const int column = 8 * (n + odd) + 4 * (pair / 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const uint32_t low = Half<T>::pack(sum[n][2 * r], sum[n][2 * r + 1]),
                       high = Half<T>::pack(sum[n + 1][2 * r], sum[n + 1][2 * r + 1]);
        const uint32_t other = __shfl_xor_sync(~0u, odd ? low : high, 1);
        const int64_t own = row + 16 * warp + quad + 8 * r;
        if (own < p.rows) {
          *reinterpret_cast<uint2*>(static_cast<T*>(p.out) + own * kMlpWidth + column) =
              odd ? make_uint2(other, high) : make_uint2(low, other);
        }
      }
    }
  }

  // A chunk's first products and the last one of the chunk before; what these need must be there. Returns once the first ones
  // are done; backward, where there are registers for it, the last one may then still be under way.
  __device__ void multiply(float (&u)[8][4], float (&dh)[8][4]) {
    take_turn();
    hold(sum);
    hold(u);
    hold(dh);
    begin_products();
    if constexpr (kBackward) {
      begin_chunk(u, dh);
      commit_products();
      add_last();
    } else {
      add_last();
      begin_chunk(u, dh);
    }
    commit_products();
    give_turn();
    if constexpr (kBackward) {
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    } else {
      wait_for_last();
    }
    hold(u);
    hold(dh);
  }
  __device__ void wait_for_last() {
    wait_products();
    hold(sum);
  }
  __device__ void finish() {
    take_turn();
    hold(sum);
    begin_products();
    add_last();
    commit_products();
    if (group < kGroups - 1) {
      give_turn();
    }
    wait_for_last();
  }

  // `before`: the tile that `sum` is of, or -1.
  __device__ void run_chunk(int row, int chunk, int before) {
    float u[8][4], dh[8][4];
    if (chunk == 0) {
      rows.full().wait(rows.phase);
    }
    first.full().wait(first.phase);
    (kBackward ? second : last).full().wait(kBackward ? second.phase : last.phase);
    multiply(u, dh);
    release(kBackward ? second : first);
    if (chunk == block.chunks - 1) {
      release(rows);
      rows.advance();
    }
    activate(u, dh, row, chunk);
    if constexpr (kBackward) {
      wait_for_last();
      make_operand(u);
    } else {
      write_operand(u);
    }
    if (before >= 0) {
      release(last);
      last.advance();
    }
    if (chunk == 0 && before >= 0) {
      store_sum(before);
    }
    adds = chunk > 0;
    first.advance();
    second.advance();
  }

  __device__ void run() {
    if (group == kGroups - 1) {
      give_turn();
    }
    clear_operand();
    int before = -1;
    for (int tile = block.first_tile(); tile < block.tiles; tile += block.tile_step()) {
      const int row = block.row(tile, group);
      for (int chunk = 0; chunk < block.chunks; ++chunk) {
        run_chunk(row, chunk, before);
        before = row;
      }
    }
    last.full().wait(last.phase);
    finish();
    store_sum(before);
  }
};

#endif

}  // namespace comba::kernels::cuda
