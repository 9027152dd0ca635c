// What a block of mlp.cu shares: its shared memory with the barriers, and the copies that fill it.
#pragma once

#include "kernels/block/mlp_kernels.h"
#include "kernels/cuda/warpgroup_matrix.cuh"

#include <cuda.h>

namespace comba::kernels::cuda {

constexpr int kMlpRows = 64;                // of a warpgroup that multiplies
constexpr int kMlpBlocks = kMlpWidth / 64;  // of 64 columns, in shared memory one behind the other

// For the tensor memory accelerator, in boxes of 64 columns: of kMlpRows rows, of the weights of a chunk.
struct MlpMaps {
  CUtensorMap x, grad_y, first, second;
};

// Warpgroups that multiply, one more that copies, and registers of their threads: as many groups as accumulators allow.
template <bool kBackward>
struct MlpRoles {
  static constexpr int kGroups = kBackward ? 2 : 3;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kRegisters = kBackward ? 240 : 160, kCopierRegisters = 24;
};

// Byte offsets. A chunk's weights of one of the products are used until the next chunk's other products are under way: they
// have a place more.
template <bool kBackward>
struct MlpMemory {
  static constexpr int kGroups = MlpRoles<kBackward>::kGroups;
  static constexpr int kBlock = kMlpRows * 128;          // 64 rows or units of 64 columns
  static constexpr int kRowBytes = kMlpBlocks * kBlock;  // of a warpgroup
  static constexpr int kChunkBytes = kMlpWidth * kMlpChunk * 2;
  static constexpr int kFirstPlaces = kBackward ? 3 : 2, kSecondPlaces = kBackward ? 2 : 3;
  static constexpr int kX = 0, kGradY = kGroups * kRowBytes;
  static constexpr int kFirst = kGradY + (kBackward ? kGroups * kRowBytes : 0);
  static constexpr int kSecond = kFirst + kFirstPlaces * kChunkBytes;
  static constexpr int kHidden = kSecond + kSecondPlaces * kChunkBytes;  // forward
  static constexpr int kBarriers = kHidden + (kBackward ? 0 : kGroups * kBlock);
  static constexpr int kBytes = kBarriers + 16 * (kFirstPlaces + kSecondPlaces + kGroups);
};

struct MlpBarrier {
  uint32_t at;

  __device__ void init(int arrivals) const {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(arrivals));
  }
  __device__ void arrive() const {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(at) : "memory");
  }
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  // Arrives, and leaves the phase open until `bytes` have been copied besides.
  __device__ void expect(uint32_t bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at), "r"(bytes)
                 : "memory");
  }
  __device__ void wait(uint32_t phase) const {
    uint32_t done = 0;
    while (done == 0) {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; "
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(at), "r"(phase)
          : "memory");
    }
  }
#endif
};

// Places that are filled and emptied in turn: the n-th thing lies in place n % count.
struct MlpRing {
  uint32_t base, full_at, empty_at;
  int count;
  int place = 0;
  uint32_t phase = 0;

  __device__ uint32_t address(int bytes) const { return base + place * bytes; }
  __device__ MlpBarrier full() const { return {full_at + 8 * place}; }
  __device__ MlpBarrier empty() const { return {empty_at + 8 * place}; }
  __device__ void advance() {
    if (++place == count) {
      place = 0;
      phase ^= 1;
    }
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A box whose first element is (column, row).
__device__ inline void copy_box(uint32_t to, const CUtensorMap& map, int column, int row,
                                MlpBarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier.at)
      : "memory");
}
template <bool kBackward>
struct MlpBlock {
  using Memory = MlpMemory<kBackward>;
  static constexpr int kGroups = MlpRoles<kBackward>::kGroups, kTile = kGroups * kMlpRows;
  const MlpParams& p;
  uint32_t base;  // shared address
  int chunks, tiles;

  __device__ MlpBlock(const MlpParams& params, char* shared)
      : p(params),
        base(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        chunks(static_cast<int>(params.units / kMlpChunk)),
        tiles(static_cast<int>((params.rows + kTile - 1) / kTile)) {}
  // A block's tiles are `tile_step` apart.
  __device__ int first_tile() const { return static_cast<int>(blockIdx.x); }
  __device__ int tile_step() const { return static_cast<int>(gridDim.x); }
  __device__ int row(int tile, int group) const { return tile * kTile + group * kMlpRows; }

  __device__ MlpRing first() const {
    const uint32_t at = base + Memory::kBarriers;
    return {base + Memory::kFirst, at, at + 8 * Memory::kFirstPlaces, Memory::kFirstPlaces};
  }
  __device__ MlpRing second() const {
    const uint32_t at = base + Memory::kBarriers + 16 * Memory::kFirstPlaces;
    return {base + Memory::kSecond, at, at + 8 * Memory::kSecondPlaces, Memory::kSecondPlaces};
  }
  // Of a warpgroup: one place.
  __device__ MlpRing rows(int group) const {
    const uint32_t at =
        base + Memory::kBarriers + 16 * (Memory::kFirstPlaces + Memory::kSecondPlaces + group);
    return {base + Memory::kX + group * Memory::kRowBytes, at, at + 8, 1};
  }

  // One thread.
  __device__ void init_barriers() const {
    const auto init = [](MlpRing ring, int arrivals) {
      for (int i = 0; i < ring.count; ++i, ring.advance()) {
        ring.full().init(1);
        ring.empty().init(arrivals);
      }
    };
    init(first(), 4 * kGroups);  // a lane of each warp
    init(second(), 4 * kGroups);
    for (int group = 0; group < kGroups; ++group) {
      init(rows(group), 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }

  // One thread: the weights, chunk by chunk, as often as there are tiles.
  __device__ void copy_weights(const MlpMaps& maps) const {
    MlpRing first = this->first(), second = this->second();
    for (int tile = first_tile(); tile < tiles; tile += tile_step()) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const int unit = chunk * kMlpChunk;
        first.empty().wait(first.phase ^ 1);
        first.full().expect(Memory::kChunkBytes);
        for (int i = 0; i < kMlpBlocks; ++i) {
          copy_box(first.address(Memory::kChunkBytes) + i * Memory::kBlock, maps.first, 64 * i,
                   unit, first.full());
        }
        first.advance();
        second.empty().wait(second.phase ^ 1);
        second.full().expect(Memory::kChunkBytes);
        copy_box(second.address(Memory::kChunkBytes), maps.second, unit, 0, second.full());
        second.advance();
      }
    }
  }

  // One thread: the rows of each warpgroup, and of the gradient behind those of all.
  __device__ void copy_rows(const MlpMaps& maps) const {
    uint32_t phase = 0;
    for (int tile = first_tile(); tile < tiles; tile += tile_step()) {
      for (int group = 0; group < kGroups; ++group) {
        const MlpRing ring = rows(group);
        ring.empty().wait(phase ^ 1);
        ring.full().expect((kBackward ? 2 : 1) * Memory::kRowBytes);
        for (int i = 0; i < kMlpBlocks; ++i) {
          const uint32_t to = ring.base + i * Memory::kBlock;
          copy_box(to, maps.x, 64 * i, row(tile, group), ring.full());
          if constexpr (kBackward) {
            copy_box(to + Memory::kGradY, maps.grad_y, 64 * i, row(tile, group), ring.full());
          }
        }
      }
      phase ^= 1;
    }
  }
};

#endif

}  // namespace comba::kernels::cuda
