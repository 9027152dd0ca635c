// The whole mixer of a (batch, head) in one block: convolution, SiLU and norm of raw q, k and v, the scan of both
// directions, merge, RMS norm and gate (mixer.h). For half-width inputs, D = 64, sm_90a; any length.
//
// Every warp has one role, and chunks go from role to role through rings in shared memory, a ring a direction, on into the
// next (batch, head):
//   row makers   q, k or v: 19 raw tokens come by the tensor memory accelerator, 16 rows go out
//   triangles    tensor_triangles.cuh, of a chunk of each direction at a time
//   walkers      four of each direction, as in tensor_forward.cuh; where a direction comes first it leaves its output in the
//                place of `merged`, where it comes second it adds what was left and hands 16 tokens on
//   finishers    two a direction: norm, gate and stores of whole rows
//
// Convolution on tensor cores: a tile [16 tokens, 8 channels] is the sum over the taps of the raw rows, begun one token later
// for each tap, times a diagonal matrix of eight channels' taps. A product of depth 16 takes two taps. Taps are split into a
// half-width number and what rounding has left of it, and halved beforehand, as
//   SiLU(x) = x / 2 + x / 2 tanh(x / 2)
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/cuda/mixer_output.cuh"
#include "kernels/cuda/tensor_forward.cuh"

namespace comba::kernels::cuda {

constexpr int kRowMakers = 9;  // three for each of q, k and v

template <typename T>
struct TensorMixer {
  TensorScan<T> scan;  // q, k, v: raw; scale: times the output's factor; o: merged
  RowConvolution convolution;
  MixerOutput<float> output;  // its o and factor are not used
};

// Shared memory and the barriers in it.
template <typename T, int D>
struct MixerMemory {
  using Block = TensorBlock<T, D, 1>;
  static_assert(D == 64, "rows as wide as the swizzle, walkers of a warpgroup");
  static constexpr int kSlots =
      2 * Block::kGroup;  // chunks of a direction's ring, see TensorBlock::products_offset
  static constexpr int kRawSlots = 2, kOutputSlots = 3;
  static constexpr int kRawTokens = kTensorChunk + kMixerTaps - 1;
  static constexpr int kRawBytes = kRawTokens * D * 2, kRawPlace = 3 * 1024;
  static constexpr int kTile = TensorRows<D, 1>::kTensor;
  // Of q, k or v: [2 pairs of taps][8 groups] operands of 8 channels, 16 bytes each, and zeros in two places, so that those
  // who read them do not meet others in their banks.
  static constexpr int kZeros = 8, kOtherZeros = 10;
  static constexpr int kTapGroup = 11 * 16, kTapPair = 8 * kTapGroup, kTapBytes = 2 * kTapPair;

  static constexpr int kRing =
      (kSlots * (TensorRows<D, 1>::kBytes + TensorProducts<1>::kBytes) + 1023) / 1024 * 1024;
  static constexpr int kRaw = 2 * kRing;  // [kRowMakers][kRawSlots]
  static constexpr int kOutput =
      kRaw + kRowMakers * kRawSlots * kRawPlace;  // [2][kOutputSlots] tiles
  static constexpr int kSpare =
      kOutput + 2 * kOutputSlots * kTile;           // of every other task, see OutputTile
  static constexpr int kTaps = kSpare + 2 * kTile;  // [2][3]
  static constexpr int kBarriers = kTaps + 6 * kTapBytes;
  static constexpr int kRawBarriers = kRowMakers * kRawSlots;
  static constexpr int kDirectionBarriers = 3 * kSlots + 2 * kOutputSlots;
  static constexpr int kBytes = kBarriers + (kRawBarriers + 2 * kDirectionBarriers) * 8;

  uint32_t base;
  int direction;

  // The raw rows of a row maker are there.
  __device__ ChunkBarriers raw(int maker) const {
    return {base + kBarriers + 8 * maker * kRawSlots};
  }
  __device__ ChunkBarriers barriers(int first) const {
    return {base + kBarriers + 8 * (kRawBarriers + direction * kDirectionBarriers + first)};
  }
  // q and k of a chunk are made; all of it is made; no walker needs it any more.
  __device__ ChunkBarriers rows() const { return barriers(0); }
  __device__ ChunkBarriers made() const { return barriers(kSlots); }
  __device__ ChunkBarriers free() const { return barriers(2 * kSlots); }
  // An output tile is full; it may be written again.
  __device__ ChunkBarriers full() const { return barriers(3 * kSlots); }
  __device__ ChunkBarriers emptied() const { return barriers(3 * kSlots + kOutputSlots); }
  __device__ uint32_t raw_place(int maker, int slot) const {
    return base + kRaw + (maker * kRawSlots + slot) * kRawPlace;
  }
  __device__ int output_place(int slot) const {
    return kOutput + (direction * kOutputSlots + slot) * kTile;
  }
  __device__ int taps_place(int part) const { return kTaps + (3 * direction + part) * kTapBytes; }
};

// The steps of a block: chunk after chunk of one (batch, head) after the other. `phase`: of what fills the slot. Whoever fills
// it waits for the other phase of what empties it; in the first round a new barrier counts that as past.
template <int kPlaces>
struct RingStep {
  int slot = 0, phase = 0;

  __device__ void next(int by = 1) {
    slot += by;
    if (slot >= kPlaces) {
      slot -= kPlaces;
      phase ^= 1;
    }
  }
};

template <typename T, int D>
struct MixerRoles {
  static constexpr int kWalkers = 8, kTriangles = 3, kFinishers = 4;
  static constexpr int kThreads = 32 * (kWalkers + kRowMakers + kTriangles + kFinishers);
  static constexpr int kWalkerRegisters = 112, kOtherRegisters = 64;
};

// What a warp of a role needs: a view of its direction's ring for each (batch, head) in turn.
template <typename T, int D>
struct MixerWarp {
  using Block = TensorBlock<T, D, 1>;
  using Memory = MixerMemory<T, D>;
  const TensorMixer<T>& mixer;
  char* shared;
  Memory memory;
  int warp;  // of its role and direction

  __device__ MixerWarp(const TensorMixer<T>& m, char* s, int direction, int w)
      : mixer(m),
        shared(s),
        memory{static_cast<uint32_t>(__cvta_generic_to_shared(s)), direction},
        warp(w) {}
  __device__ uint32_t count() const {
    return static_cast<uint32_t>(mixer.scan.params.batch * mixer.scan.params.heads);
  }
  __device__ Block block(uint32_t n) const {
    Block b(mixer.scan, shared + memory.direction * Memory::kRing, n + memory.direction * count());
    b.warp = warp;
    return b;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

__device__ inline void store_matrices(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2,
                                      uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}
__device__ inline void store_matrices_transposed(uint32_t address, uint32_t r0, uint32_t r1,
                                                 uint32_t r2, uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
               "r"(r0), "r"(r1), "r"(r2), "r"(r3)
               : "memory");
}
__device__ inline uint4 load_shared(uint32_t address) {
  uint4 x;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "r"(address));
  return x;
}

// The taps of q, k and v of the block's head and a direction as operands b: two taps' pairs of channels, of which a lane's
// column is one or none. All threads.
template <typename T, int D>
__device__ void store_taps(const TensorMixer<T>& mixer, char* shared, int direction) {
  using Memory = MixerMemory<T, D>;
  const auto heads = static_cast<uint32_t>(mixer.scan.params.heads);
  const bool reversed = (direction == 1) != mixer.scan.params.reverse;
  for (int i = static_cast<int>(threadIdx.x); i < 3 * D; i += static_cast<int>(blockDim.x)) {
    const int part = i / D, channel = i % D;
    const float4 four = reinterpret_cast<const float4*>(
        mixer.convolution
            .taps)[((direction * 3 + part) * heads + blockIdx.x % heads) * D + channel];
    const float in_time[4] = {four.x, four.y, four.z, four.w};
    const auto place = [&](float x) {
      return channel % 2 == 0 ? Half<T>::pack(x, 0.f) : Half<T>::pack(0.f, x);
    };
    uint32_t values[4], rests[4];
#pragma unroll
    for (int tap = 0; tap < 4; ++tap) {
      const float half = 0.5f * (reversed ? in_time[3 - tap] : in_time[tap]);
      values[tap] = place(half);
      rests[tap] = place(half - Half<T>::unpack(Half<T>::pack(half, 0.f)).x);
    }
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      auto* const group =
          reinterpret_cast<uint4*>(shared + Memory{0, direction}.taps_place(part) +
                                   pair * Memory::kTapPair + channel / 8 * Memory::kTapGroup);
      group[channel % 8] =
          make_uint4(values[2 * pair], values[2 * pair + 1], rests[2 * pair], rests[2 * pair + 1]);
      if (channel % 8 == 0) {
        group[Memory::kZeros] = group[Memory::kOtherZeros] = make_uint4(0, 0, 0, 0);
      }
    }
  }
}

// A place in a row maker's work: a chunk of a batch in scan order, and its direction. Makers take turns in the directions of
// all chunks.
struct RowJob {
  int batch, chunk, direction;

  // This maker's next; returns the chunks that are passed. `stride`: from a block's batch to its next one.
  __device__ int next(int chunks, int stride) {
    static_assert(kRowMakers == 9);
    const int passed = 1 + direction;
    direction ^= 1;
    chunk += passed;
    if (chunk >= chunks) {  // of which there are two at least
      chunk -= chunks;
      batch += stride;
    }
    return passed;
  }
};

// Makes q, k or v.
template <typename T, int D>
struct RowMaker {
  using Memory = MixerMemory<T, D>;
  using Rows = TensorRows<D, 1>;
  const TensorMixer<T>& mixer;
  const CUtensorMap& map;
  Memory memory;  // of either direction
  int maker, part, lane;
  uint32_t taps;  // this lane's, of the first direction
  uint32_t offsets
      [2];  // of this lane's matrix row in a raw place: for the first two taps, and the others

  __device__ RowMaker(const TensorMixer<T>& x, const RowMaps& maps, char* shared, int m)
      : mixer(x),
        map(m % 3 == 0   ? maps.query
            : m % 3 == 1 ? maps.key
                         : maps.value),
        memory{static_cast<uint32_t>(__cvta_generic_to_shared(shared)), 0},
        maker(m),
        part(m % 3) {
    asm volatile("mov.u32 %0, %%tid.x;"
                 : "=r"(lane));  // once: reading it again takes longer than keeping it
    lane %= 32;
    const int channel = lane >> 2, pair = lane & 3;
    taps = memory.base + memory.taps_place(part) +
           16 * (channel >> 1 == pair ? channel
                 : channel < 2        ? Memory::kOtherZeros
                                      : Memory::kZeros);
    const int row = (lane & 15) + (lane >> 4);
    offsets[0] = row_piece<D>(row, 0);
    offsets[1] = row_piece<D>(row + 2, 0);
  }

  // Starts copying a job's raw rows. One lane.
  __device__ void copy(const RowJob& job, int head, int slot) const {
    const bool reversed = (job.direction == 1) != mixer.scan.params.reverse;
    const int chunks = tensor_chunks(mixer.scan.params.length);
    const int first = reversed ? (chunks - 1 - job.chunk) * kTensorChunk
                               : job.chunk * kTensorChunk - static_cast<int>(kMixerTaps - 1);
    const ChunkBarriers ready = memory.raw(maker);
    ready.expect(slot, Memory::kRawBytes);
    copy_chunk(memory.raw_place(maker, slot), map, head, first, job.batch, ready.at + 8 * slot);
  }

  // Operands of two neighbouring tiles and a pair of taps.
  struct Operands {
    uint32_t rows[2][4];
    uint4 taps[2];  // the taps, and what rounding has left of them

    __device__ void load(const RowMaker& m, uint32_t raw, uint32_t taps_at, int step) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int pair = step % 2, group = step / 2 * 2 + i;
        load_matrices(rows[i], raw + (m.offsets[pair] ^ 16 * group));
        taps[i] = load_shared(taps_at + pair * Memory::kTapPair + group * Memory::kTapGroup);
      }
    }
    __device__ void multiply(float (&u)[D / 8][4], int step) const {
      const int group = step / 2 * 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Half<T>::multiply(u[group + i], rows[i], taps[i].z, taps[i].w);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Half<T>::multiply(u[group + i], rows[i], taps[i].x, taps[i].y);
      }
    }
  };
  // SiLU of the convolution of a chunk: rows quad + 8 half, channels 8 group + 2 pair + x at [group][2 half + x].
  __device__ void convolve(float (&u)[D / 8][4], uint32_t raw, int direction) const {
    constexpr int kGroups = D / 8;
    Operands of[2];
    const uint32_t taps_at = taps + direction * 3 * Memory::kTapBytes;
    of[0].load(*this, raw, taps_at, 0);
#pragma unroll
    for (int step = 0; step < kGroups; ++step) {
      if (step + 1 < kGroups) {
        of[(step + 1) % 2].load(*this, raw, taps_at, step + 1);
      }
      of[step % 2].multiply(u, step);
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u[group][i] = fmaf(u[group][i], tanh_fast(u[group][i]), u[group][i]);
      }
    }
  }
  // Rows to length 1.
  __device__ static void normalise(float (&u)[D / 8][4]) {
    float squares[2] = {};
#pragma unroll
    for (int group = 0; group < D / 8; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        squares[i >> 1] = fmaf(u[group][i], u[group][i], squares[i >> 1]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      squares[half] += __shfl_xor_sync(~0u, squares[half], 1);
      squares[half] += __shfl_xor_sync(~0u, squares[half], 2);
      squares[half] = rsqrt_fast(squares[half] + static_cast<float>(kRowNormEps));
    }
#pragma unroll
    for (int group = 0; group < D / 8; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        u[group][i] *= squares[i >> 1];
      }
    }
  }
  __device__ static void store(const float (&u)[D / 8][4], uint32_t rows, uint32_t tile) {
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      const float(&low)[4] = u[2 * step], (&high)[4] = u[2 * step + 1];
      store_matrices(rows + (tile ^ 32 * step), Half<T>::pack(low[0], low[1]),
                     Half<T>::pack(low[2], low[3]), Half<T>::pack(high[0], high[1]),
                     Half<T>::pack(high[2], high[3]));
    }
  }

  // Rows have been stored: q and k for triangles and products, v for the walkers alone.
  __device__ void give_on(int direction, int slot) const {
    const Memory own{memory.base, direction};
    if (part < 2) {
      show_to_products();
      own.rows().arrive(slot);
    } else {
      own.made().arrive(slot);
    }
  }

  __device__ void run() const {
    const ScanParams<float>& p = mixer.scan.params;
    const ChunkBarriers ready = memory.raw(maker);
    const uint32_t place = memory.base + (part == 0   ? Rows::kQuery
                                          : part == 1 ? Rows::kKey
                                                      : Rows::kValue);
    const uint32_t tile = tile_offset<D, kPairColumns>(lane);
    const bool normal = part < 2 && mixer.convolution.normalize;
    const int chunks = tensor_chunks(p.length), batches = static_cast<int>(p.batch);
    const auto heads = static_cast<uint32_t>(p.heads);
    const int head = static_cast<int>(blockIdx.x % heads);
    const int stride = static_cast<int>(gridDim.x / heads);
    RingStep<Memory::kRawSlots> raw;
    RingStep<Memory::kSlots> step;
    RowJob job{static_cast<int>(blockIdx.x / heads), maker / 6, maker / 3 % 2}, ahead = job;
    step.next(job.chunk);
    const auto copy_next = [&](int slot) {
      if (lane == 0 && ahead.batch < batches) {
        copy(ahead, head, slot);
      }
      ahead.next(chunks, stride);
    };
    for (int slot = 0; slot < Memory::kRawSlots; ++slot) {
      copy_next(slot);
    }
    // Rows are given on once the next job's are there, so that nothing waits for their stores.
    int made = -1;
    while (job.batch < batches) {
      float u[D / 8][4] = {};
      ready.wait(raw.slot, raw.phase);
      if (made >= 0) {
        give_on(job.direction ^ 1, made);
      }
      convolve(u, memory.raw_place(maker, raw.slot), job.direction);
      __syncwarp();
      copy_next(raw.slot);
      raw.next();
      if (normal) {
        normalise(u);
      }
      Memory{memory.base, job.direction}.free().wait(step.slot, step.phase ^ 1);
      store(u, place + job.direction * Memory::kRing + step.slot * Rows::kBytes, tile);
      made = step.slot;
      step.next(job.next(chunks, stride));
    }
    if (made >= 0) {
      give_on(job.direction ^ 1, made);
    }
  }
};

// Both directions' chunks of a step: as of a block of both, but in a ring each.
template <typename T, int D>
struct MixerPair : TensorBlock<T, D, 2> {
  struct Products {
    using Own = TensorProducts<1>;
    static constexpr int kRing = MixerMemory<T, D>::kRing;
    static __device__ constexpr int triangle(int local) { return Own::triangle(0) + local * kRing; }
    static __device__ constexpr int factors(int local) { return Own::factors(0) + local * kRing; }
    static __device__ constexpr int decay(int local) { return Own::decay(0) + local * kRing; }
  };
  using TensorBlock<T, D, 2>::TensorBlock;
};

// Makes triangles of both directions, every kShare-th step's.
template <int kShare, typename T, int D>
__device__ void make_mixer_triangles(const MixerWarp<T, D>& warp) {
  using Memory = MixerMemory<T, D>;
  using Pair = MixerPair<T, D>;
  const Memory &memory = warp.memory, other{memory.base, 1};
  RingStep<Memory::kSlots> step;
  step.next(warp.warp);
  int chunk = warp.warp;  // of the task, in scan order
  uint32_t n = blockIdx.x;
  const int chunks = tensor_chunks(warp.mixer.scan.params.length);
  const auto load = [&] {
    while (chunk >= chunks) {
      chunk -= chunks;
      n += gridDim.x;
    }
    if (n >= warp.count()) {
      return RawGates{};
    }
    const Pair b(warp.mixer.scan, warp.shared, n);
    const int local = b.lane >> 4;
    return load_gates(b, b.reversed(local) ? chunks - 1 - chunk : chunk, local);
  };
  RawGates raw = load();
  while (n < warp.count()) {
    const Pair b(warp.mixer.scan, warp.shared, n);
    const TokenGates gates = sum_gates(b, raw);
    chunk += kShare;
    raw = load();
    const uint32_t rows = memory.base + step.slot * TensorRows<D, 1>::kBytes;
    char* const products = warp.shared +
                           2 * TensorBlock<T, D, 1>::kGroup * TensorRows<D, 1>::kBytes +
                           step.slot * TensorProducts<1>::kBytes;
    memory.rows().wait(step.slot, step.phase);
    other.rows().wait(step.slot, step.phase);
    store_gates(b, gates, products);
    __syncwarp();
    const int after = b.reversed(0) ? Memory::kRing : 0;
    const Gram gram_after = make_gram<T, D>(rows + after, b.lane);
    const Gram gram_before = make_gram<T, D>(rows + Memory::kRing - after, b.lane);
    make_triangles<T>(b, gram_after, gram_before, products);
    memory.made().arrive(step.slot);
    other.made().arrive(step.slot);
    step.next(kShare);
  }
}

template <typename T, int D>
__device__ void walk_mixer(const MixerWarp<T, D>& warp) {
  using Memory = MixerMemory<T, D>;
  using Walker = Walk<T, D, 1>;
  const Memory& memory = warp.memory;
  const ChunkBarriers made = memory.made(), free = memory.free();
  const ChunkBarriers full = memory.full(), emptied = memory.emptied();
  RingStep<Memory::kSlots> step;
  RingStep<Memory::kOutputSlots> output;
  int left_behind = -1, turn = 0;
  const int lane = threadIdx.x % 32;
  const uint32_t tile_row =
      row_piece<D>((lane & 7) + (lane >> 4) * 8, 2 * warp.warp + (lane >> 3 & 1));
  for (uint32_t n = blockIdx.x; n < warp.count(); n += gridDim.x, ++turn) {
    const auto b = warp.block(n);
    const Walker walk(b);
    const float d = b.correction(0);
    WarpState<T, D, 1> state;
    const int middle = walk.reversed ? b.chunks / 2 : (b.chunks + 1) / 2;
    OutputTile<T, D, 1> tile(walk, walk.reversed ? b.chunks - 1 : 0,
                             warp.shared + Memory::kSpare + turn % 2 * Memory::kTile);
    // finish(o): what becomes of a chunk's output; then `after(done)`.
    const auto walk_until = [&](int from, int end, const auto& finish, const auto& after) {
      for (int done = from; done < end; ++done) {
        made.wait(step.slot, step.phase);
        float o[1][2][4] = {};
        walk_chunk(walk, state, d, {step.slot, step.slot}, o);
        finish(o);
        tile.move_on(walk.reversed);
        after(done);
        if (left_behind >= 0) {  // a step late, see ReadySweep
          free.arrive(left_behind);
        }
        left_behind = step.slot;
        step.next();
      }
    };
    const int barriers = 1 + 2 * (turn % 2);
    const Meeting meeting{barriers + memory.direction, barriers + 1 - memory.direction, 256};
    walk_until(0, middle, [&](const auto& o) { tile.leave(o); }, [](int) {});
    meeting.arrive();
    meeting.sync();
    tile.ask();
    const auto hand_on = [&](auto& o) {
      tile.add_left(o);
      emptied.wait(output.slot, output.phase ^ 1);
      const float(&first)[4] = o[0][0], (&second)[4] = o[0][1];
      store_matrices_transposed(
          memory.base + memory.output_place(output.slot) + tile_row,
          Half<T>::pack(first[0], first[1]), Half<T>::pack(first[2], first[3]),
          Half<T>::pack(second[0], second[1]), Half<T>::pack(second[2], second[3]));
      full.arrive(output.slot);
      output.next();
    };
    walk_until(middle, b.chunks, hand_on, [&](int done) {
      if (done + 1 < b.chunks) {
        tile.ask();
      }
    });
  }
  if (left_behind >= 0) {
    __threadfence_block();
    free.arrive(left_behind);
  }
}

// Norm, gate and stores of what one direction hands on: of every chunk a warp has one of kShare parts.
template <int kShare, typename T, int D>
__device__ void finish_mixer(const MixerWarp<T, D>& warp) {
  using Memory = MixerMemory<T, D>;
  constexpr int E = 8, kLanes = D / E, kAtOnce = 32 / kLanes;
  constexpr int kTimes = kTensorChunk / kAtOnce / kShare;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerOutput<float>& p = warp.mixer.output;
  const ChunkBarriers full = warp.memory.full(), emptied = warp.memory.emptied();
  const int lane = threadIdx.x % 32, column = E * (lane % kLanes);
  const int row = warp.warp * kTimes * kAtOnce + lane / kLanes;
  const Channels<E> weight = load_floats<E>(p.weight + column);
  RingStep<Memory::kOutputSlots> step;
  const int length = static_cast<int>(p.shape.length);
  const int row_stride = static_cast<int>(p.shape.heads) * D;
  const int gate_stride = static_cast<int>(p.gate_time_stride);
  for (uint32_t n = blockIdx.x; n < warp.count(); n += gridDim.x) {
    const auto b = warp.block(n);
    const bool reversed = b.reversed(0);
    const int middle = reversed ? b.chunks / 2 : (b.chunks + 1) / 2;
    const T* const gates = static_cast<const T*>(p.gate) + b.batch * p.gate_batch_stride +
                           b.head * p.gate_head_stride + column;
    const int64_t first = (b.batch * p.shape.length * p.shape.heads + b.head) * D + column;
    Lane gate[kTimes] = {};
    const auto load = [&](int done) {
      if (p.gate != nullptr && done < b.chunks) {
        const int t = b.chunk_of(done, reversed) * kTensorChunk + row;
#pragma unroll
        for (int i = 0; i < kTimes; ++i) {
          gate[i] = Lane::load(gates + int64_t{min(t + kAtOnce * i, length - 1)} * gate_stride);
        }
      }
    };
    load(middle);
    for (int done = middle; done < b.chunks; ++done) {
      const char* const tile = warp.shared + warp.memory.output_place(step.slot);
      Lane merged[kTimes];
      float squares[1][kTimes];
      full.wait(step.slot, step.phase);
#pragma unroll
      for (int i = 0; i < kTimes; ++i) {
        merged[i] = Lane::load(
            reinterpret_cast<const T*>(tile + row_piece<D>(kAtOnce * i + row, lane % kLanes)));
        const Channels<E> x = merged[i].unpack();
        squares[0][i] = dot(x, x);
      }
      emptied.arrive(step.slot);
      step.next();
      Group::sum_all(squares);
      const int t = b.chunk_of(done, reversed) * kTensorChunk + row;
#pragma unroll
      for (int i = 0; i < kTimes; ++i) {
        const float scale = rsqrt_fast(fmaf(squares[0][i], 1.f / D, p.eps));
        Channels<E> y = product(product(scale, merged[i].unpack()), weight);
        if (p.gate != nullptr) {
          y = product(y, sigmoid(gate[i].unpack()));
        }
        if (t + kAtOnce * i < length) {
          const int64_t at = first + int64_t{t + kAtOnce * i} * row_stride;
          merged[i].store(static_cast<T*>(p.merged) + at);
          Lane::pack(y).store(static_cast<T*>(p.y) + at);
        }
      }
      load(done + 1);
    }
  }
}

template <typename T, int D>
__device__ void begin_mixer(const TensorMixer<T>& mixer, char* shared) {
  using Memory = MixerMemory<T, D>;
  store_taps<T, D>(mixer, shared, 0);
  store_taps<T, D>(mixer, shared, 1);
  if (threadIdx.x < 2) {
    const Memory memory{static_cast<uint32_t>(__cvta_generic_to_shared(shared)),
                        static_cast<int>(threadIdx.x)};
    for (int i = threadIdx.x; i < Memory::kRawBarriers; i += 2) {
      memory.raw(0).init(i, 1);
    }
    for (int i = 0; i < Memory::kSlots; ++i) {
      memory.rows().init(i, 64);
      memory.made().init(i, 64);
      memory.free().init(i, 128);
    }
    for (int i = 0; i < Memory::kOutputSlots; ++i) {
      memory.full().init(i, 128);
      memory.emptied().init(i, 32 * MixerRoles<T, D>::kFinishers / 2);
    }
  }
  show_to_products();
  __syncthreads();
}

#endif

template <typename T, int D>
__global__ void __launch_bounds__(MixerRoles<T, D>::kThreads, 1)
    tensor_mixer_kernel(const __grid_constant__ TensorMixer<T> mixer,
                        const __grid_constant__ RowMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Roles = MixerRoles<T, D>;
  extern __shared__ __align__(1024) char mixer_memory[];
  begin_mixer<T, D>(mixer, mixer_memory);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < Roles::kWalkers) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Roles::kWalkerRegisters));
    walk_mixer(MixerWarp<T, D>(mixer, mixer_memory, warp / 4, warp % 4));
    return;
  }
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Roles::kOtherRegisters));
  const int other = warp - Roles::kWalkers;
  if (other < kRowMakers) {
    RowMaker<T, D>(mixer, maps, mixer_memory, other).run();
  } else if (other < kRowMakers + Roles::kTriangles) {
    make_mixer_triangles<Roles::kTriangles>(
        MixerWarp<T, D>(mixer, mixer_memory, 0, other - kRowMakers));
  } else {
    const int finisher = other - kRowMakers - Roles::kTriangles;
    finish_mixer<Roles::kFinishers / 2>(
        MixerWarp<T, D>(mixer, mixer_memory, finisher % 2, finisher / 2));
  }
#endif
}

}  // namespace comba::kernels::cuda
