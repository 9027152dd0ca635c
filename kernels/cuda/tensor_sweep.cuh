// How a block comes through its chunks: rows are loaded and triangles made ahead of the warps that walk.
#pragma once

#include "kernels/cuda/tensor_triangles.cuh"

namespace comba::kernels::cuda {

// Rows that lie in the place of V.
struct ValueRows {
  const void* data;
  const RowStrides& strides;
};

// Barriers in shared memory, one for each group of chunks of a block of both directions; every sweep or turn is a phase
// of them.
struct GroupBarriers {
  uint32_t at;

  __device__ void init(int arrivals) const {
    for (int n = 0; n < kBarriers; ++n) {
      asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at + 8 * n), "r"(arrivals));
    }
  }
  __device__ void arrive(int group) const {
    asm volatile(
        "{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(at + 8 * group)
        : "memory");
  }
  // Once what this thread has begun to copy is there.
  __device__ void arrive_when_copied(int group) const {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at + 8 * group)
                 : "memory");
  }
  __device__ void wait(int group, int phase) const {
    uint32_t done = 0;
    while (done == 0) {
#if __CUDA_ARCH__ >= 900
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
#else
      asm volatile(
          "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; "
          "}"
#endif
          : "=r"(done)
          : "r"(at + 8 * group), "r"(phase)
          : "memory");
    }
  }
};
// Rows are there, products are made (all makers arrive), nobody needs either any more (all walkers arrive).
template <typename Block>
__device__ GroupBarriers rows_barriers(const Block& b) {
  return {b.base + b.chunks * (Block::Rows::kBytes + Block::Products::kBytes) +
          Block::Rows::kTensor};
}
template <typename Block>
__device__ GroupBarriers made_barriers(const Block& b) {
  return {rows_barriers(b).at + 8 * kBarriers};
}
template <typename Block>
__device__ GroupBarriers free_barriers(const Block& b) {
  return {rows_barriers(b).at + 16 * kBarriers};
}
// Chunks of a group: one for each maker. A step of both walks takes two.
template <typename Block>
__device__ int group_count(const Block& b) {
  return (b.chunks + Block::kMakers - 1) / Block::kMakers;
}

// The makers' part of a task: a group is loaded while the one before it is made, or all at first.
template <typename T, int D>
__device__ void make_chunks(const TensorBlock<T, D, 2>& b, const ValueRows& values) {
  using Block = TensorBlock<T, D, 2>;
  using Rows = typename Block::Rows;
  constexpr int kMakers = Block::kMakers;
  const int groups = group_count(b), maker = b.warp - Block::kWalkers;
  const auto load_own_gates = [&](int group) {
    const int own = group * kMakers + maker;
    return load_gates(b, own < b.chunks ? b.chunk_of(own, false) : -1, b.lane >> 4);
  };
  int loaded = 0;
  const auto load_until = [&](int end_group) {
    for (; loaded < min(end_group, groups); ++loaded) {
      const int first = loaded * kMakers, end = min(first + kMakers, b.chunks);
      if (b.turn > 0) {  // the last task's chunks of these places, see resident_slot
        free_barriers(b).wait(max(b.chunks - first - kMakers, 0) / kMakers, (b.turn - 1) % 2);
      }
      b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides},
                   {Rows::kQuery, b.p.q, b.p.q_strides},
                   {Rows::kValue, values.data, values.strides}},
                  first, end, false);
      rows_barriers(b).arrive_when_copied(loaded);
    }
  };
  RawGates raw = load_own_gates(0);
  for (int group = 0; group < groups; ++group) {
    const int own = group * kMakers + maker;
    const TokenGates gates = sum_gates(b, raw);
    raw = load_own_gates(group + 1);
    load_until(b.turn == 0 ? groups : group + 2);
    rows_barriers(b).wait(group, b.turn % 2);
    if (own < b.chunks) {
      const int chunk = b.chunk_of(own, false);
      const ChunkPlace place = b.place(own, chunk);
      char* const products = b.memory + b.products_offset(place);
      store_gates(b, gates, products);
      __syncwarp();
      make_triangles(b, b.rows_address(place), products);
    }
    made_barriers(b).arrive(group);
  }
}

// Their part of a second sweep, whose products are still there: other rows in the place of V, once the first sweep is done
// with a group; the middle is first.
template <typename T, int D>
__device__ void replace_values(const TensorBlock<T, D, 2>& b, const ValueRows& values) {
  using Block = TensorBlock<T, D, 2>;
  for (int group = group_count(b) - 1; group >= 0; --group) {
    const int first = group * Block::kMakers, end = min(first + Block::kMakers, b.chunks);
    free_barriers(b).wait(group, 0);
    b.load_rows({{Block::Rows::kValue, values.data, values.strides}}, first, end, false);
    rows_barriers(b).arrive_when_copied(group);
  }
}

// The walkers' way through chunks that others make ready: step(n, chunk, place) for every step of a direction that goes
// down or up.
template <typename T, int D, typename Step>
__device__ void sweep_ready(const TensorBlock<T, D, 2>& b, bool down, const GroupBarriers& ready,
                            int phase, const Step& step) {
  constexpr int kSteps = TensorBlock<T, D, 2>::kMakers / 2;  // for which a group is enough
  const int last = group_count(b) - 1;
  const auto chunk_of = [&](int n) { return down ? b.chunks - 1 - n : n; };
  ChunkPlace next = b.place(0, chunk_of(0));
  for (int n = 0; n < b.chunks; ++n) {
    if (n % kSteps == 0 && n / kSteps <= last) {
      ready.wait(n / kSteps, phase);
    }
    const ChunkPlace place = next;
    next = b.place(n + 1, chunk_of(n + 1));  // early: the loads at a step's beginning wait for it
    step(n, chunk_of(n), place);
    const int left = b.chunks - 1 - n;  // steps; a group's outer chunks are its last
    if (left % kSteps == 0 && left / kSteps <= last) {
      free_barriers(b).arrive(left / kSteps);
    }
  }
}

// Where a sweep of one direction has its chunks from: q and k as they are, and `values`.
template <typename T, int D>
struct StoredRows {
  static constexpr bool kPrepared = true;
  using Block = TensorBlock<T, D, 1>;
  using Rows = typename Block::Rows;
  const Block& b;
  bool down;
  ValueRows values;

  // Starts copying chunks first .. end - 1 of the sweep.
  __device__ void load(int first, int end) const {
    b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides},
                 {Rows::kQuery, b.p.q, b.p.q_strides},
                 {Rows::kValue, values.data, values.strides}},
                first, end, down);
  }
};

// All warps of a block of one direction load, make and walk: step(n, chunk, place) for every step, down or up.
// `source`: StoredRows or, to be prepared when they have come, ConvolvedRows.
template <typename T, int D, typename Source, typename Step>
__device__ void sweep_groups(const TensorBlock<T, D, 1>& b, bool down, const Source& source,
                             const Step& step) {
  using Block = TensorBlock<T, D, 1>;
  const auto load = [&](int first) {
    source.load(first, min(first + Block::kGroup, b.end));
    asm volatile("cp.async.commit_group;");
  };
  __syncthreads();  // an earlier sweep is over
  load(b.begin);
  for (int first = b.begin; first < b.end; first += Block::kGroup) {
    const int end = min(first + Block::kGroup, b.end), own = first + b.warp;
    const int chunk = b.chunk_of(own, down);
    // A warp makes one chunk of a group at most. Its gates are asked for before the rows are waited for, and stored once
    // no warp needs those of the last group.
    const TokenGates gates = sum_gates(b, load_gates(b, own < end ? chunk : -1, 0));
    asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    load(end);
    if constexpr (!Source::kPrepared) {
      source.prepare(first, end);
      __syncthreads();
    }
    if (own < end) {
      const ChunkPlace place = b.place(own, chunk);
      char* const products = b.memory + b.products_offset(place);
      store_gates(b, gates, products);
      __syncwarp();
      make_triangles(b, b.rows_address(place), products);
    }
    __syncthreads();
    for (int n = first; n < end; ++n) {
      const int at = b.chunk_of(n, down);
      step(n, at, b.place(n, at));
    }
  }
}

// Makers leave registers to walkers, or the other way round, where the device lets them. To be called at the beginning
// of a role's own branch: the compiler allots registers by it.
template <int kRegisters, int kBefore>
__device__ void set_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  if constexpr (kRegisters > kBefore) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
  } else {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
  }
#endif
}
template <int D>
__device__ void be_walker() {
  set_registers<D == 32 ? 72 : D == 64 ? 160 : 200, D == 32 ? 80 : D == 64 ? 128 : 168>();
}
template <int D>
__device__ void be_maker() {
  set_registers<D == 32 ? 88 : D == 64 ? 96 : 104, D == 32 ? 80 : D == 64 ? 128 : 168>();
}

template <typename T, int D>
__device__ void begin_block(const TensorBlock<T, D, 2>& b) {
  using Block = TensorBlock<T, D, 2>;
  if (threadIdx.x == 0) {
    rows_barriers(b).init(32 * Block::kMakers);
    made_barriers(b).init(32 * Block::kMakers);
    free_barriers(b).init(32 * Block::kWalkers);
  }
  __syncthreads();
}

}  // namespace comba::kernels::cuda
