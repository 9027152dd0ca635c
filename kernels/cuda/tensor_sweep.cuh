// How a block comes through its chunks: rows are loaded and triangles made ahead of the warps that walk.
#pragma once

#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/tensor_triangles.cuh"

namespace comba::kernels::cuda {

// Rows that lie in the place of V.
struct ValueRows {
  const void* data;
  const RowStrides& strides;
};

// Barriers in shared memory, one for each chunk of a block of both directions in the order in which they are made ready.
struct ChunkBarriers {
  uint32_t at;

  __device__ void init(int n, int arrivals) const {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at + 8 * n), "r"(arrivals));
  }
  __device__ void arrive(int n) const {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(at + 8 * n)
                 : "memory");
  }
  // Arrives, and leaves the phase open until `bytes` have been copied besides.
  __device__ void expect(int n, uint32_t bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at + 8 * n), "r"(bytes)
                 : "memory");
  }
  // Once what this thread has begun to copy is there.
  __device__ void arrive_when_copied(int n) const {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at + 8 * n) : "memory");
  }
  __device__ bool test(int n, int phase) const {
    uint32_t done;
    asm volatile(
        "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(at + 8 * n), "r"(phase)
        : "memory");
    return done != 0;
  }
  __device__ void wait(int n, int phase) const {
#if __CUDA_ARCH__ >= 900
    uint32_t done = 0;
    while (done == 0) {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(at + 8 * n), "r"(phase)
          : "memory");
    }
#else
    while (!test(n, phase)) {
    }
#endif
  }
};
// Rows are there, products are made, no walker needs either any more: of a task and the next one, as makers may be ahead by
// more than a task.
template <typename Block>
__device__ ChunkBarriers rows_barriers(const Block& b, int turn) {
  return {b.base + b.scan.slots * (Block::Rows::kBytes + Block::Products::kBytes) +
          2 * Block::Rows::kTensor + turn % 2 * 8 * b.chunks};
}
template <typename Block>
__device__ ChunkBarriers made_barriers(const Block& b, int turn) {
  return {rows_barriers(b, turn).at + 16 * b.chunks};
}
template <typename Block>
__device__ ChunkBarriers free_barriers(const Block& b, int turn) {
  return {rows_barriers(b, turn).at + 32 * b.chunks};
}
__device__ inline int phase_of(int turn) { return turn / 2 % 2; }

// Whether both walks are done with what lay in the place of b's n-th chunk: one of the task before or, where that had none,
// the same of the one before it.
template <typename Block>
__device__ bool is_free(const Block& b, int n, bool wait) {
  const int other = b.scan.slots - 1 - n;
  const int turn = b.turn - (other < b.chunks ? 1 : 2);
  if (turn < 0) {
    return true;
  }
  const int of = other < b.chunks ? other : n;
  const ChunkBarriers free = free_barriers(b, turn);
  if (wait) {
    free.wait(of, phase_of(turn));
    return true;
  }
  return __all_sync(~0u, free.test(of, phase_of(turn)));
}

// Copies a chunk of a (batch, head) to shared memory. One thread.
__device__ inline void copy_chunk(uint32_t to, const CUtensorMap& map, int head, int token,
                                  int batch, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(&map), "r"(0), "r"(head), "r"(token), "r"(batch), "r"(barrier)
      : "memory");
}

// The copier's part of a task: one thread.
template <typename T, int D>
__device__ void copy_chunks(const TensorBlock<T, D, 2>& b, const RowMaps& maps) {
  using Rows = TensorRows<D, 2>;
  const ChunkBarriers barriers = rows_barriers(b, b.turn);
  const int head = static_cast<int>(b.head), batch = static_cast<int>(b.batch);
  for (int n = 0; n < b.chunks; ++n) {
    is_free(b, n, true);
    const int chunk = b.chunk_of(n, false), token = chunk * kTensorChunk;
    const uint32_t rows = b.rows_address(b.place(n, chunk)), barrier = barriers.at + 8 * n;
    barriers.expect(n, Rows::kBytes);
    copy_chunk(rows + Rows::kKey, maps.key, head, token, batch, barrier);
    copy_chunk(rows + Rows::kQuery, maps.query, head, token, batch, barrier);
    copy_chunk(rows + Rows::kValue, maps.value, head, token, batch, barrier);
  }
}

// A maker's part of a task: every kMakers-th chunk. kCopied: the copier copies rows; else each maker those of its chunks.
template <bool kCopied, typename T, int D>
__device__ void make_chunks(const TensorBlock<T, D, 2>& b) {
  using Block = TensorBlock<T, D, 2>;
  using Rows = typename Block::Rows;
  constexpr int kMakers = Block::kMakers;
  const int maker = b.warp - Block::kWalkers;
  int asked = maker;  // the next chunk to copy
  const auto ask = [&] {
    if (asked < b.chunks) {
      b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides},
                   {Rows::kQuery, b.p.q, b.p.q_strides},
                   {Rows::kValue, b.p.v, b.p.v_strides}},
                  asked, asked + 1, false);
      rows_barriers(b, b.turn).arrive_when_copied(asked);
    }
    asked += kMakers;
  };
  const auto ask_until = [&](int needed, int wanted) {
    while (asked <= wanted && (asked >= b.chunks || is_free(b, asked, asked <= needed))) {
      ask();
    }
  };
  const auto load_own_gates = [&](int n) {
    return load_gates(b, n < b.chunks ? b.chunk_of(n, false) : -1, b.lane >> 4);
  };
  RawGates raw = load_own_gates(maker);
  for (int n = maker; n < b.chunks; n += kMakers) {
    if constexpr (!kCopied) {
      ask_until(n, b.turn == 0 ? b.chunks : n + kMakers);
    }
    const TokenGates gates = sum_gates(b, raw);
    raw = load_own_gates(n + kMakers);
    const int chunk = b.chunk_of(n, false);
    const ChunkPlace place = b.place(n, chunk);
    char* const products = b.memory + b.products_offset(place);
    rows_barriers(b, b.turn).wait(n, phase_of(b.turn));
    if constexpr (!kCopied) {
      show_to_products();
    }
    store_gates(b, gates, products);
    __syncwarp();
    make_triangles(b, b.rows_address(place), products);
    made_barriers(b, b.turn).arrive(n);
  }
}

// Before a second sweep of a block's only task, for which products stay: other rows in the place of V, once the first is
// done with a chunk; the middle is first. By the copier or by the makers.
template <typename T, int D>
__device__ void copy_values(const TensorBlock<T, D, 2>& b, const CUtensorMap& values) {
  const ChunkBarriers barriers = rows_barriers(b, 0);
  for (int n = b.chunks - 1; n >= 0; --n) {
    free_barriers(b, 0).wait(n, 0);
    const int chunk = b.chunk_of(n, false);
    barriers.expect(n, TensorRows<D, 2>::kTensor);
    copy_chunk(b.rows_address(b.place(n, chunk)) + TensorRows<D, 2>::kValue, values,
               static_cast<int>(b.head), chunk * kTensorChunk, static_cast<int>(b.batch),
               barriers.at + 8 * n);
  }
}
template <typename T, int D>
__device__ void load_values(const TensorBlock<T, D, 2>& b, const ValueRows& values) {
  using Block = TensorBlock<T, D, 2>;
  for (int n = b.chunks - 1 - (b.warp - Block::kWalkers); n >= 0; n -= Block::kMakers) {
    free_barriers(b, 0).wait(n, 0);
    b.load_rows({{Block::Rows::kValue, values.data, values.strides}}, n, n + 1, false);
    rows_barriers(b, 0).arrive_when_copied(n);
  }
}

// The walkers' way through chunks that others make ready, down or up the sequence.
template <typename Block>
struct ReadySweep {
  const Block& b;
  bool down;
  ChunkBarriers ready, free;
  int phase;
  int middle;  // steps before the other direction has been there too
  int done = 0;
  int left_behind = -1;  // the last step's chunk

  __device__ ReadySweep(const Block& block, bool goes_down, const ChunkBarriers& made, int of)
      : b(block),
        down(goes_down),
        ready(made),
        free(free_barriers(block, block.turn)),
        phase(of),
        middle(goes_down ? block.chunks / 2 : (block.chunks + 1) / 2) {}

  // step(chunk, place) for every step before the one numbered `end`. A chunk's place is given free a step later: loads of it
  // that nothing has waited for yet may still be under way at the end of its own step, and arriving does not wait for them,
  // while what the next step stores has come from all of them.
  template <typename Step>
  __device__ void run(int end, const Step& step) {
    while (done < end) {
      const int until = done < middle ? min(middle, end) : end;
      int chunk = down ? b.chunks - 1 - done : done;
      // Chunks are made ready from both ends in turn: on either side of the middle every other one is this direction's.
      const int by = done < middle ? 2 : -2, left = b.chunks - 1 - done;
      int n = down == (done < middle) ? 2 * min(done, left) + 1 : 2 * min(done, left);
      for (; done < until; ++done) {
        ready.wait(n, phase);
        const int slot = b.resident_slot(n);
        step(chunk, ChunkPlace{slot, slot});
        if (left_behind >= 0) {
          free.arrive(left_behind);
        }
        left_behind = n;
        chunk += down ? -1 : 1;
        n += by;
      }
    }
    if (done == b.chunks) {
      __threadfence_block();  // waits for them
      free.arrive(left_behind);
    }
  }
};

// Where a sweep of one direction has its chunks from: k as it is, `values` and, where the sweep needs P or q, q.
template <typename T, int D, bool kQueries = true>
struct StoredRows {
  using Block = TensorBlock<T, D, 1>;
  using Rows = typename Block::Rows;
  const Block& b;
  bool down;
  ValueRows values;

  // Starts copying chunks first .. end - 1 of the sweep.
  __device__ void load(int first, int end) const {
    if constexpr (kQueries) {
      b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides},
                   {Rows::kQuery, b.p.q, b.p.q_strides},
                   {Rows::kValue, values.data, values.strides}},
                  first, end, down);
    } else {
      b.load_rows({{Rows::kKey, b.p.k, b.p.k_strides}, {Rows::kValue, values.data, values.strides}},
                  first, end, down);
    }
  }
};

// Where a sweep has the triangles from: it makes them, makes them and keeps them for other kernels, or takes kept ones.
enum class Triangles { kMake, kKeep, kTake };

// What a warp does for its chunk of a group, once it is there.
template <Triangles kTriangles, bool kQueries, typename T, int D>
__device__ void prepare_chunk(const TensorBlock<T, D, 1>& b, int chunk, const ChunkPlace& place,
                              const TokenGates& gates, const uint4 (&taken)[2]) {
  constexpr int kCount = kQueries ? 2 : 1;  // M^T, and P
  char* const products = b.memory + b.products_offset(place);
  auto* const triangles =
      reinterpret_cast<uint4*>(products + TensorProducts<1>::triangle(0)) + b.lane;
  store_gates(b, gates, products);
  __syncwarp();
  if constexpr (kTriangles != Triangles::kTake) {
    make_triangles<kQueries>(b, b.rows_address(place), products);
  }
  if constexpr (kTriangles == Triangles::kKeep) {
    __syncwarp();
  }
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
    if constexpr (kTriangles == Triangles::kKeep) {
      b.kept_triangles(chunk)[32 * n] = triangles[32 * n];
    } else if constexpr (kTriangles == Triangles::kTake) {
      triangles[32 * n] = taken[n];
    }
  }
}

// All warps of a block of one direction load, make and walk: step(chunk, place) for every step, down or up.
template <Triangles kTriangles, typename T, int D, bool kQueries, typename Step>
__device__ void sweep_groups(const TensorBlock<T, D, 1>& b, bool down,
                             const StoredRows<T, D, kQueries>& source, const Step& step) {
  using Block = TensorBlock<T, D, 1>;
  const int last = b.end(down);
  const auto load = [&](int first) {
    source.load(first, min(first + Block::kGroup, last));
    asm volatile("cp.async.commit_group;");
  };
  __syncthreads();  // an earlier sweep is over
  load(b.begin(down));
  for (int first = b.begin(down); first < last; first += Block::kGroup) {
    const int end = min(first + Block::kGroup, last), own = first + b.warp;
    const int chunk = b.chunk_of(own, down);
    // A warp makes one chunk of a group at most. Its gates are asked for before the rows are waited for, and stored once
    // no warp needs those of the last group.
    const TokenGates gates = sum_gates(b, load_gates(b, own < end ? chunk : -1, 0));
    uint4 taken[2] = {};
    if (kTriangles == Triangles::kTake && own < end) {
      taken[0] = b.kept_triangles(chunk)[0];
      taken[1] = b.kept_triangles(chunk)[32];
    }
    asm volatile("cp.async.wait_group 0;");
    show_to_products();
    __syncthreads();
    load(end);
    if (own < end) {
      prepare_chunk<kTriangles, kQueries>(b, chunk, b.place(own, chunk), gates, taken);
    }
    __syncthreads();
    for (int n = first; n < end; ++n) {
      const int at = b.chunk_of(n, down);
      step(at, b.place(n, at));
    }
  }
}

// Makers leave registers to walkers where these need more than all have and the device lets them. To be called at the
// beginning of a role's own branch: the compiler allots registers by it.
template <int D>
__device__ void be_walker() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  if constexpr (D == 128) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 208;");
  }
#endif
}
template <int D>
__device__ void be_maker() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  if constexpr (D == 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
  }
#endif
}

// `copying`: threads that arrive for a chunk's rows.
template <typename T, int D>
__device__ void begin_block(const TensorBlock<T, D, 2>& b, int copying) {
  using Block = TensorBlock<T, D, 2>;
  for (int n = static_cast<int>(threadIdx.x); n < 2 * b.chunks; n += Block::kThreads) {
    rows_barriers(b, 0).init(n, copying);
    made_barriers(b, 0).init(n, 32);
    free_barriers(b, 0).init(n, 32 * Block::kWalkers);
  }
  show_to_products();
  __syncthreads();
}

}  // namespace comba::kernels::cuda
