// What a block of mlp.cu shares: its place in a cluster, its shared memory with the barriers, and the copies that fill it.
//
// Blocks come in clusters of two that go through the same chunks of the weights at the same time, each on 128 rows of its
// own. Each copies half of every chunk into the shared memory of both.
#pragma once

#include "kernels/block/mlp_kernels.h"
#include "kernels/cuda/warpgroup_matrix.cuh"

#include <cuda.h>

namespace comba::kernels::cuda {

constexpr int kMlpGroups = 2, kMlpRows = 64;  // warpgroups that multiply, and the rows of each
constexpr int kMlpThreads = 128 * (kMlpGroups + 1);
constexpr int kMlpBlocks = kMlpWidth / 64;  // of 64 columns, in shared memory one behind the other

// For the tensor memory accelerator, in boxes of 64 columns: of rows kMlpRows, of weights half a chunk.
struct MlpMaps {
  CUtensorMap x, grad_y, first, second;
};

// Byte offsets. A chunk's weights of one of the products are used until the next chunk's other products are under way: they
// have a place more.
template <bool kBackward>
struct MlpMemory {
  static constexpr int kBlock = kMlpRows * 128;          // 64 rows or units of 64 columns
  static constexpr int kRowBytes = kMlpBlocks * kBlock;  // of a warpgroup
  static constexpr int kChunkBytes = kMlpWidth * kMlpChunk * 2;
  static constexpr int kFirstPlaces = kBackward ? 3 : 2, kSecondPlaces = kBackward ? 2 : 3;
  static constexpr int kX = 0, kGradY = kMlpGroups * kRowBytes;
  static constexpr int kFirst = kGradY + (kBackward ? kMlpGroups * kRowBytes : 0);
  static constexpr int kSecond = kFirst + kFirstPlaces * kChunkBytes;
  static constexpr int kBarriers = kSecond + kSecondPlaces * kChunkBytes;
  static constexpr int kBytes = kBarriers + 16 * (kFirstPlaces + kSecondPlaces + kMlpGroups);
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
  // At the barrier in the same place of a block of the cluster, once what was read is read: it tells of no writes.
  __device__ void arrive_at(int block) const {
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; "
        "mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(at),
        "r"(block)
        : "memory");
  }
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

__device__ inline int cluster_rank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// Of all threads of the cluster that have not ended.
__device__ inline void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// A box whose first element is (column, row).
__device__ inline void copy_box(uint32_t to, const CUtensorMap& map, int column, int row,
                                MlpBarrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier.at)
      : "memory");
}
// To the same place of both blocks, each of whose barriers counts it.
__device__ inline void copy_box_to_both(uint32_t to, const CUtensorMap& map, int column, int row,
                                        MlpBarrier barrier) {
  constexpr uint16_t kBoth = 3;
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier.at), "h"(kBoth)
      : "memory");
}

template <bool kBackward>
struct MlpBlock {
  using Memory = MlpMemory<kBackward>;
  const MlpParams& p;
  uint32_t base;  // shared address
  int rank;       // within the cluster
  int chunks;
  int pairs;  // of tiles, one a block of the cluster

  __device__ MlpBlock(const MlpParams& params, char* shared)
      : p(params),
        base(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        rank(cluster_rank()),
        chunks(static_cast<int>(params.units / kMlpChunk)) {
    constexpr int64_t kPair = 2 * kMlpGroups * kMlpRows;
    pairs = static_cast<int>((params.rows + kPair - 1) / kPair);
  }
  __device__ int first_pair() const { return static_cast<int>(blockIdx.x) / 2; }
  __device__ int pair_step() const { return static_cast<int>(gridDim.x) / 2; }
  __device__ int row(int pair, int group) const {
    return ((2 * pair + rank) * kMlpGroups + group) * kMlpRows;
  }

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
    init(first(), 2 * 4 * kMlpGroups);  // a lane of each warp of both blocks
    init(second(), 2 * 4 * kMlpGroups);
    for (int group = 0; group < kMlpGroups; ++group) {
      init(rows(group), 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }

  // One thread: the weights, chunk by chunk, as often as there are tiles.
  __device__ void copy_weights(const MlpMaps& maps) const {
    MlpRing first = this->first(), second = this->second();
    for (int pair = first_pair(); pair < pairs; pair += pair_step()) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const int unit = chunk * kMlpChunk, part = rank * kMlpChunk / 2;
        first.empty().wait(first.phase ^ 1);
        first.full().expect(Memory::kChunkBytes);
        for (int i = 0; i < kMlpBlocks; ++i) {
          copy_box_to_both(first.address(Memory::kChunkBytes) + i * Memory::kBlock + part * 128,
                           maps.first, 64 * i, unit + part, first.full());
        }
        first.advance();
        const int column = rank * kMlpWidth / 2;
        second.empty().wait(second.phase ^ 1);
        second.full().expect(Memory::kChunkBytes);
        copy_box_to_both(second.address(Memory::kChunkBytes) + column * 128, maps.second, unit,
                         column, second.full());
        second.advance();
      }
    }
  }

  // One thread: the rows of each warpgroup, and of the gradient behind those of all.
  __device__ void copy_rows(const MlpMaps& maps) const {
    MlpRing rings[kMlpGroups] = {rows(0), rows(1)};
    for (int pair = first_pair(); pair < pairs; pair += pair_step()) {
#pragma unroll
      for (int group = 0; group < kMlpGroups; ++group) {
        MlpRing& ring = rings[group];
        ring.empty().wait(ring.phase ^ 1);
        ring.full().expect((kBackward ? 2 : 1) * Memory::kRowBytes);
        for (int i = 0; i < kMlpBlocks; ++i) {
          const uint32_t to = ring.base + i * Memory::kBlock;
          copy_box(to, maps.x, 64 * i, row(pair, group), ring.full());
          if constexpr (kBackward) {
            copy_box(to + Memory::kGradY, maps.grad_y, 64 * i, row(pair, group), ring.full());
          }
        }
        ring.advance();
      }
    }
  }
};

#endif

}  // namespace comba::kernels::cuda
