// A warp has 32 neighbouring channels of one batch element, a lane the 16 states of one of them in registers, and walks over
// time: exponentials are what it costs, and every channel and batch element is a walk of its own, so the device is full at the
// batches that are trained with. Tokens come kScanSteps at a time: the rows of one chunk are on their way to registers, all at
// once, while the warp works on those of the chunk before, in shared memory, where B_t and C_t are broadcast to all lanes.
//
// Backward, a first walk leaves the states each chunk of kScanSteps begins with in a scratch tensor. Then chunks are taken from
// the last: their states are computed again into shared memory, and a walk back over them yields, with g the gradient of h_t,
//
//   dC_t = dy_t h_t      dB_t = g dt_t u_t      ddt_t = g (A a_t h_{t-1} + u_t B_t)      dA += g dt_t a_t h_{t-1}
//   du_t = g dt_t B_t + D dy_t                  g <- g a_t + dy_{t-1} C_{t-1}            a_t = exp(dt_t A)
//
// The gradients of B and C are sums over channels: the warp turns 32 sums over its lanes (16 states, two gradients) into one
// per lane with 31 exchanges, and leaves it as a part that a later launch adds up; those of A, D and the bias are parts of
// each batch element. Nothing is atomic.
//
// Shared memory a block (one warp): forward 3 KiB, backward 16 KiB.
#include "kernels/block/columns.cuh"
#include "kernels/selective_scan/selective_scan_kernels.h"

namespace comba::kernels::cuda {
namespace {

constexpr int kN = kScanStates, kLanes = kScanChannels, kSteps = kScanSteps;
constexpr int kGradientBlocks =
    12;  // an SM: what registers allow without spilling, and shared memory
constexpr unsigned kAll = ~0u;
static_assert(2 * kN == kLanes, "a lane for each state's two gradients");
constexpr float kLog2e = 1.4426950408889634f;

__device__ float wide(float x) { return x; }
__device__ float wide(__half x) { return __half2float(x); }
__device__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void store(float* target, float x) { *target = x; }
__device__ void store(__half* target, float x) { *target = __float2half_rn(x); }
__device__ void store(__nv_bfloat16* target, float x) { *target = __float2bfloat16_rn(x); }

__device__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// log(1 + x) for x in [0, 1] to 3 parts in 10^7, without the branches of log1pf: 2 artanh(x / (2 + x)) as a series.
__device__ float log1p_fast(float x) {
  const float s = __fdividef(x, 2.f + x), square = s * s;
  float sum = 1.f / 15.f;
#pragma unroll
  for (int odd = 13; odd >= 1; odd -= 2) {
    sum = fmaf(sum, square, 1.f / static_cast<float>(odd));
  }
  return 2.f * s * sum;
}
__device__ float softplus(float x) { return fmaxf(x, 0.f) + log1p_fast(expf(-fabsf(x))); }

// Rows of a chunk's tokens, as the walk meets them.
struct Chunk {
  float u[kSteps][kLanes], dt[kSteps][kLanes], z[kSteps][kLanes];
  alignas(16) float write_read[kSteps][2 * kN];  // B_t, then C_t
};

// Those of the next chunk, as they are in memory.
template <typename T>
struct Fetched {
  T u[kSteps], delta[kSteps], z[kSteps], write_read[kSteps];
};

// What a warp walks over. Lanes beyond the channels read the last one's columns and store nothing.
template <typename T>
struct Walk {
  const SelectiveScanParams& p;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t block = int64_t{blockIdx.x} % p.channel_blocks();
  const int64_t batch = int64_t{blockIdx.x} / p.channel_blocks();
  const int64_t channel = block * kLanes + lane;
  const bool inside = channel < p.channels;
  const float bias = inside && p.delta_bias != nullptr ? p.delta_bias[channel] : 0.f;
  const float D = inside && p.D != nullptr ? p.D[channel] : 0.f;

  __device__ int64_t column() const { return inside ? channel : p.channels - 1; }
  __device__ int64_t token(int64_t step) const { return p.reverse ? p.length - 1 - step : step; }
  // In a contiguous [B, T, channels].
  __device__ int64_t place(int64_t step) const {
    return (batch * p.length + token(step)) * p.channels + channel;
  }
  // One column of kSteps tokens; after the walk's last token, that one again.
  __device__ void fetch(const TokenRows& rows, int64_t first, int64_t column,
                        T (&values)[kSteps]) const {
    const T* row = static_cast<const T*>(rows.data) + batch * rows.batch_stride +
                   token(first) * rows.time_stride + column;
    const int64_t stride = p.reverse ? -rows.time_stride : rows.time_stride;
    const int last = steps_from(first) - 1;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      values[k] = row[min(k, last) * stride];
    }
  }
  // A, times log2(e), so that powers of two do.
  __device__ void load_rates(float (&rates)[kN]) const {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      rates[n] = inside ? p.A[channel * kN + n] * kLog2e : 0.f;
    }
  }
  // Asks for the tokens from `first` on. Nothing branches on a lane or waits: all loads are under way together.
  __device__ void fetch_chunk(int64_t first, Fetched<T>& fetched) const {
    fetch(p.u, first, column(), fetched.u);
    fetch(p.delta, first, column(), fetched.delta);
    if (p.z.data != nullptr) {
      fetch(p.z, first, column(), fetched.z);
    }
    fetch(lane < kN ? p.B : p.C, first, lane % kN, fetched.write_read);
  }
  // Puts them where the walk reads them; all lanes have to call it.
  __device__ void keep_chunk(const Fetched<T>& fetched, Chunk& chunk) const {
    __syncwarp();  // nobody reads the chunk before any more
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      chunk.u[k][lane] = inside ? wide(fetched.u[k]) : 0.f;
      chunk.dt[k][lane] = inside ? softplus(wide(fetched.delta[k]) + bias) : 0.f;
      chunk.z[k][lane] = inside && p.z.data != nullptr ? wide(fetched.z[k]) : 0.f;
      chunk.write_read[k][lane] = wide(fetched.write_read[k]);
    }
    __syncwarp();
  }
  __device__ int steps_from(int64_t first) const {
    return static_cast<int>(p.length - first < kSteps ? p.length - first : kSteps);
  }
};

// Over one token.
__device__ void advance(float (&state)[kN], const float (&rates)[kN], float dt, float u,
                        const float* write) {
  const float x = dt * u;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    state[n] = fmaf(exp2_fast(dt * rates[n]), state[n], x * write[n]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kLanes)
    selective_scan_kernel(const __grid_constant__ SelectiveScanParams p) {
  __shared__ Chunk chunk;
  const Walk<T> walk{p};
  float rates[kN], state[kN] = {};
  walk.load_rates(rates);
  Fetched<T> next;
  walk.fetch_chunk(0, next);
  for (int64_t first = 0; first < p.length; first += kSteps) {
    const int steps = walk.steps_from(first);
    walk.keep_chunk(next, chunk);
    if (first + steps < p.length) {
      walk.fetch_chunk(first + steps, next);
    }
    for (int k = 0; k < steps; ++k) {
      const float u = chunk.u[k][walk.lane];
      advance(state, rates, chunk.dt[k][walk.lane], u, chunk.write_read[k]);
      float y = walk.D * u;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        y = fmaf(chunk.write_read[k][kN + n], state[n], y);
      }
      if (p.z.data != nullptr) {
        const float z = chunk.z[k][walk.lane];
        y *= z * sigmoid(z);
      }
      if (walk.inside) {
        store(static_cast<T*>(p.y) + walk.place(first + k), y);
      }
    }
  }
}

// Every lane has kCount numbers, as many as there are lanes; lane i gets the sum over all lanes of number i. Each exchange
// halves the numbers of a lane.
template <int kCount>
__device__ float sums_over_lanes(const float (&x)[kCount], int lane) {
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kHalf) != 0;
    float y[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float kept = upper ? x[i + kHalf] : x[i], given = upper ? x[i] : x[i + kHalf];
      y[i] = kept + __shfl_xor_sync(kAll, given, kHalf);
    }
    return sums_over_lanes(y, lane);
  }
}

struct GradientMemory {
  Chunk chunk;
  float grad_y[kSteps][kLanes];
  float before[kSteps][kN][kLanes];  // h_{t-1}
};

// What a lane adds up on its way back.
struct LaneGradients {
  float state[kN] = {};  // of the states after the token at hand, from all later tokens
  float rates[kN] = {};
  float D = 0.f, bias = 0.f;
};

// The walk to the states that each chunk begins with.
template <typename T>
__device__ void leave_states(const SelectiveScanGradientParams& p, const Walk<T>& walk,
                             const float (&rates)[kN], Chunk& chunk) {
  float state[kN] = {};
  Fetched<T> next;
  walk.fetch_chunk(0, next);
  for (int64_t first = 0, c = 0; first < p.forward.length; first += kSteps, ++c) {
    if (walk.inside) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        p.states[((walk.batch * p.forward.chunks() + c) * kN + n) * p.forward.channels +
                 walk.channel] = state[n];
      }
    }
    const int steps = walk.steps_from(first);
    if (first + steps < p.forward.length) {
      walk.keep_chunk(next, chunk);
      walk.fetch_chunk(first + steps, next);
      for (int k = 0; k < steps; ++k) {
        advance(state, rates, chunk.dt[k][walk.lane], chunk.u[k][walk.lane], chunk.write_read[k]);
      }
    }
  }
}

// Loads chunk `c` and computes its states again.
template <typename T>
__device__ void recompute(const SelectiveScanGradientParams& p, const Walk<T>& walk,
                          const float (&rates)[kN], int64_t c, int steps, GradientMemory& memory) {
  Fetched<T> fetched;
  T grad_y[kSteps];
  walk.fetch_chunk(c * kSteps, fetched);
  walk.fetch({p.grad_y, p.forward.length * p.forward.channels, p.forward.channels}, c * kSteps,
             walk.column(), grad_y);
  float state[kN];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    state[n] = p.states[((walk.batch * p.forward.chunks() + c) * kN + n) * p.forward.channels +
                        walk.column()];
  }
  walk.keep_chunk(fetched, memory.chunk);
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    memory.grad_y[k][walk.lane] = walk.inside ? wide(grad_y[k]) : 0.f;
  }
  for (int k = 0; k < steps; ++k) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      memory.before[k][n][walk.lane] = state[n];
    }
    advance(state, rates, memory.chunk.dt[k][walk.lane], memory.chunk.u[k][walk.lane],
            memory.chunk.write_read[k]);
  }
}

// Back over token k of a chunk, `step` of the walk.
template <typename T>
__device__ void step_back(const SelectiveScanGradientParams& p, const Walk<T>& walk,
                          const float (&rates)[kN], int64_t step, int k,
                          const GradientMemory& memory, LaneGradients& g) {
  const Chunk& chunk = memory.chunk;
  const float u = chunk.u[k][walk.lane], dt = chunk.dt[k][walk.lane], x = dt * u;
  const float above = memory.grad_y[k][walk.lane], z = chunk.z[k][walk.lane], share = sigmoid(z);
  const bool gated = p.forward.z.data != nullptr;
  const float dy = gated ? above * z * share : above;
  float y = walk.D * u, written = 0.f, faded = 0.f, parts[2 * kN];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float write = chunk.write_read[k][n], read = chunk.write_read[k][kN + n];
    const float alpha = exp2_fast(dt * rates[n]);
    const float decayed = alpha * memory.before[k][n][walk.lane];
    const float state = fmaf(x, write, decayed), grad = fmaf(dy, read, g.state[n]);
    y = fmaf(read, state, y);
    parts[n] = grad * x;
    parts[kN + n] = dy * state;
    written = fmaf(grad, write, written);
    const float fading = grad * decayed;
    faded = fmaf(rates[n], fading, faded);
    g.rates[n] = fmaf(dt, fading, g.rates[n]);
    g.state[n] = grad * alpha;
  }
  const float du = fmaf(dt, written, walk.D * dy);
  const float ddt = fmaf(u, written, faded * (1.f / kLog2e));
  const float delta = ddt * -expm1f(-dt);  // softplus' derivative, 1 - exp(-dt)
  g.D = fmaf(dy, u, g.D);
  g.bias += delta;
  if (walk.inside) {
    const int64_t place = walk.place(step);
    store(static_cast<T*>(p.grad_u) + place, du);
    store(static_cast<T*>(p.grad_delta) + place, delta);
    if (gated) {
      store(static_cast<T*>(p.grad_z) + place, above * y * share * fmaf(z, 1.f - share, 1.f));
    }
  }
  const int64_t row =
      (walk.block * p.forward.batch + walk.batch) * p.forward.length + walk.token(step);
  p.write_read[row * 2 * kN + walk.lane] = sums_over_lanes(parts, walk.lane);
}

template <typename T>
__global__ void __launch_bounds__(kLanes, kGradientBlocks)
    selective_scan_backward_kernel(const __grid_constant__ SelectiveScanGradientParams p) {
  __shared__ GradientMemory memory;
  const Walk<T> walk{p.forward};
  float rates[kN];
  walk.load_rates(rates);
  leave_states(p, walk, rates, memory.chunk);
  LaneGradients g;
  for (int64_t c = p.forward.chunks() - 1; c >= 0; --c) {
    const int steps = walk.steps_from(c * kSteps);
    recompute(p, walk, rates, c, steps, memory);
    for (int k = steps - 1; k >= 0; --k) {
      step_back(p, walk, rates, c * kSteps + k, k, memory, g);
    }
  }
  if (walk.inside) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      p.rates[(walk.batch * kN + n) * p.forward.channels + walk.channel] = g.rates[n];
    }
    float* scalars = p.scalars + walk.batch * 2 * p.forward.channels + walk.channel;
    scalars[0] = g.D;
    scalars[p.forward.channels] = g.bias;
  }
}

unsigned blocks_of(const SelectiveScanParams& p) {
  return static_cast<unsigned>(p.batch * p.channel_blocks());
}

}  // namespace

cudaError_t launch_selective_scan(Element element, const SelectiveScanParams& p,
                                  cudaStream_t stream) {
  return with_element(element, [&](auto number) {
    selective_scan_kernel<decltype(number)><<<blocks_of(p), kLanes, 0, stream>>>(p);
  });
}

cudaError_t launch_selective_scan_backward(Element element, const SelectiveScanGradientParams& p,
                                           cudaStream_t stream) {
  return with_element(element, [&](auto number) {
    selective_scan_backward_kernel<decltype(number)>
        <<<blocks_of(p.forward), kLanes, 0, stream>>>(p);
  });
}

}  // namespace comba::kernels::cuda
