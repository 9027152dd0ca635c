// The chunk-parallel half of the backward scan on tensor cores: every gradient of 16 tokens from S before the chunk, dS
// after it, V' and dR (tensor_walks.cuh). Rows are tokens in time order, i > j means that i is scanned later; E_ij = exp(g_i - g_j), E0_ij = exp(e_i - g_j):
//   dX = E o (dO V'^T)  (i >= j),   N0 = -E0 o (dR V'^T)  (i > j),   N = diag(c) N0,   s = scale
//   dQ = s (dX K + diag(exp(g)) dO S)
//   dK = (N + N^T - s d dX^T) K + s dX^T Q + diag(exp(G - g)) V' dS - diag(c exp(e)) dR S - d dQ
//   dV = diag(beta) dR,   dbeta_i = <dR_i, v_i>,   dc_i = sum_j N0_ij <k_i, k_j> - exp(e_i) <(dR S)_i, k_i>
//   dd = - sum_i <dQ_i, k_i>
// and dlog_alpha_t the sum of every term whose decay contains alpha_t, as in scan_gradients.cuh: none of them cancel.
//
// A block serves one chunk of a (batch, head): for each direction D / 32 warps, each 32 columns of Dk. S and dS come
// from global memory as the fragments they are used as. Both directions add up in shared memory.
#pragma once

#include "kernels/cuda/tensor_walks.cuh"

namespace comba::kernels::cuda {

// Sums over Dk that the warps of a direction share, one value a token.
enum RowSum { kOutput, kRead, kWrite, kCorrection, kBeta, kFeedback, kRowSums };

template <int D, int kDirections>
struct GradientBlock {
  static constexpr int kParts = D / 32;  // warps of a direction
  static constexpr int kThreads = 32 * kParts * kDirections;
  // Blocks an SM that registers are kept for; at D = 128 shared memory admits no more.
  static constexpr int kMinBlocks = (D == 128 ? 256 : 384) / kThreads;
  static constexpr int kRowBytes = 16 * D * 2;
  static constexpr int kStride =
      D + 8;  // of the rows in which gradients add up, against bank conflicts
  enum Rows { kKey, kQuery, kValue, kGradO };

  alignas(128) char rows[4][kRowBytes];
  ChunkScratch<D> fragments[kDirections];
  float gradients[3][16][kStride];        // dQ, dK, dV in time order
  float weights[kDirections][2][16][17];  // terms of dlog_alpha by the pair (i, j)
  float row_sums[kDirections][kParts][kRowSums][16];
  float state_products[kDirections][kParts];  // <S, dS>
};

__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    x += __shfl_xor_sync(~0u, x, step);
  }
  return x;
}
template <typename T>
__device__ float pair_product(uint32_t x, uint32_t y) {
  const float2 a = Half<T>::unpack(x), b = Half<T>::unpack(y);
  return a.x * b.x + a.y * b.y;
}

// One warp: `part`, 32 columns of Dk, of direction `local`.
template <typename T, int D, int kDirections>
struct GradientWarp {
  using Memory = GradientBlock<D, kDirections>;
  using Block = TensorBlock<T, D, kDirections>;
  const TensorBackward<T>& backward;
  const Block& b;
  Memory& memory;
  int chunk, local, part, quad, pair;
  bool reversed;
  TokenGates gates;
  // [16, 16]: dO V'^T, dR V'^T, then dX, N0
  float dx[2][4] = {}, n0[2][4] = {};
  // [16, 32]: dO S, dR S, V' dS, then dQ and dK
  float output[4][4] = {}, read[4][4] = {}, write[4][4] = {};
  float value[2][4][2];  // dR of 32 columns of Dv
  float beta_sum[2] = {};
  float state_product = 0.f;

  __device__ GradientWarp(const TensorBackward<T>& all, const Block& block, Memory& shared,
                          int chunk_at)
      : backward(all),
        b(block),
        memory(shared),
        chunk(chunk_at),
        local(block.warp / Memory::kParts),
        part(block.warp % Memory::kParts),
        quad(block.lane >> 2),
        pair(block.lane & 3),
        reversed(block.reversed(local)),
        gates(sum_gates(block, load_gates(block, chunk_at, local))) {}

  // Place of token i of the chunk in scan order, which is that of its gates' lane.
  __device__ int scan_order(int i) const { return reversed ? 15 - i : i; }
  __device__ uint32_t matrix(int which, int piece) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(memory.rows[which])) +
           row_piece<D>(b.lane & 15, piece + (b.lane >> 4));
  }
  __device__ float2 element(int which, int i, int piece) const {
    const char* at = memory.rows[which] + row_piece<D>(i, piece) + 4 * pair;
    return Half<T>::unpack(*reinterpret_cast<const uint32_t*>(at));
  }
  __device__ float of_token(float x, int i) const { return __shfl_sync(~0u, x, scan_order(i)); }

  // Every product that contracts over Dv.
  __device__ void multiply_values() {
    const auto& fragments = memory.fragments[local];
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t grad_o[4];
      load_matrices(grad_o, matrix(Memory::kGradO, 2 * step));
      const uint4 u4 = fragments.update[step][b.lane], r4 = fragments.grad_update[step][b.lane];
      const uint32_t u[4] = {u4.x, u4.y, u4.z, u4.w}, r[4] = {r4.x, r4.y, r4.z, r4.w};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(dx[half], grad_o, u[half], u[half + 2]);
        Half<T>::multiply(n0[half], r, u[half], u[half + 2]);
      }
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const uint4 s = fragments.state[step][2 * part + n][b.lane];
        const uint4 g = fragments.grad_state[step][2 * part + n][b.lane];
        Half<T>::multiply(output[2 * n], grad_o, s.x, s.y);
        Half<T>::multiply(output[2 * n + 1], grad_o, s.z, s.w);
        Half<T>::multiply(read[2 * n], r, s.x, s.y);
        Half<T>::multiply(read[2 * n + 1], r, s.z, s.w);
        Half<T>::multiply(write[2 * n], u, g.x, g.y);
        Half<T>::multiply(write[2 * n + 1], u, g.z, g.w);
        state_product += pair_product<T>(s.x, g.x) + pair_product<T>(s.y, g.y) +
                         pair_product<T>(s.z, g.z) + pair_product<T>(s.w, g.w);
      }
      if (step / 2 == part) {
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          const float2 v = element(Memory::kValue, quad + 8 * (x & 1), 2 * step + (x >> 1));
          const float2 dr = Half<T>::unpack(r[x]);
          beta_sum[x & 1] += dr.x * v.x + dr.y * v.y;
          value[step % 2][x][0] = dr.x;
          value[step % 2][x][1] = dr.y;
        }
      }
    }
  }

  // dX and N0 from their undecayed products.
  __device__ void apply_decay() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      const float g_i = of_token(gates.g, i), e_i = of_token(gates.e, i);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int j = 8 * (x >> 1) + 2 * pair + (x & 1), r = 2 * half + (x & 1);
        const bool later = scan_order(i) > scan_order(j);
        const float g_j = of_token(gates.g, j);
        float &grad = dx[x >> 1][r], &feedback = n0[x >> 1][r];
        grad = later ? grad * exp2_fast(g_i - g_j) : i == j ? grad : 0.f;
        feedback = later ? -feedback * exp2_fast(e_i - g_j) : 0.f;
      }
    }
  }

  // The pairs' terms of dlog_alpha and dc; by the first warp of a direction.
  __device__ void weigh_pairs() {
    float kk[2][4] = {}, qk[2][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t k[4], q[4];
      load_matrices(k, matrix(Memory::kKey, 2 * step));
      load_matrices(q, matrix(Memory::kQuery, 2 * step));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(kk[half], k, k[half], k[half + 2]);
        Half<T>::multiply(qk[half], q, k[half], k[half + 2]);
      }
    }
    const float d = b.correction(local);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      const float c_i = of_token(gates.c, i);
      float sum = 0.f;
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const int j = 8 * (x >> 1) + 2 * pair + (x & 1), r = 2 * half + (x & 1);
        const float key = kk[x >> 1][r], feedback = n0[x >> 1][r] * key;
        const float product = b.p.scale * (qk[x >> 1][r] - d * key);
        const int row = scan_order(i), column = scan_order(j);
        memory.weights[local][0][row][column] = row > column ? dx[x >> 1][r] * product : 0.f;
        // Without decayed feedback row i reads what row i - 1 left; nothing is in row 0.
        memory.weights[local][1][b.p.decayed_feedback ? row : (row + 15) % 16][column] =
            c_i * feedback;
        sum += feedback;
      }
      sum = quad_sum(sum);
      if (pair == 0) {
        memory.row_sums[local][0][kFeedback][scan_order(i)] = sum;
      }
    }
  }

  __device__ void sum_rows() {
    const float d = b.correction(local);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      float sums[3] = {};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float2 k = element(Memory::kKey, i, 4 * part + n),
                     q = element(Memory::kQuery, i, 4 * part + n);
        const int r = 2 * half;
        sums[0] += output[n][r] * (q.x - d * k.x) + output[n][r + 1] * (q.y - d * k.y);
        sums[1] += read[n][r] * k.x + read[n][r + 1] * k.y;
        sums[2] += write[n][r] * k.x + write[n][r + 1] * k.y;
      }
      const float o = quad_sum(sums[0]), x = quad_sum(sums[1]), w = quad_sum(sums[2]);
      const float beta = quad_sum(beta_sum[half]);
      if (pair == 0) {
        auto& rows = memory.row_sums[local][part];
        const int at = scan_order(i);
        rows[kOutput][at] = o;
        rows[kRead][at] = x;
        rows[kWrite][at] = w;
        rows[kBeta][at] = beta;
      }
    }
    const float product = warp_sum(state_product);
    if (b.lane == 0) {
      memory.state_products[local][part] = product;
    }
  }

  // `output` becomes dQ, `write` dK.
  __device__ void multiply_keys() {
    const float d = b.correction(local), scale = b.p.scale;
    uint32_t a_dx[4], a_n[4], a_key[4], a_query[4];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float c = of_token(gates.c, quad + 8 * half);
        const float x0 = dx[n][2 * half], x1 = dx[n][2 * half + 1];
        const float n0_0 = c * n0[n][2 * half], n0_1 = c * n0[n][2 * half + 1];
        a_dx[2 * n + half] = Half<T>::pack(x0, x1);
        a_n[2 * n + half] = Half<T>::pack(n0_0, n0_1);
        a_key[n + 2 * half] =
            transposed(Half<T>::pack(n0_0 - scale * d * x0, n0_1 - scale * d * x1));
        a_query[n + 2 * half] = transposed(Half<T>::pack(scale * x0, scale * x1));
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      const float g = of_token(gates.g, i), out = exp2_fast(g), in = exp2_fast(gates.end - g);
      const float back = of_token(gates.c, i) * exp2_fast(of_token(gates.e, i));
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int r = 2 * half; r < 2 * half + 2; ++r) {
          output[n][r] *= out;
          write[n][r] = in * write[n][r] - back * read[n][r];
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      uint32_t k[4], q[4];
      load_matrices_transposed(k, matrix(Memory::kKey, 4 * part + 2 * n));
      load_matrices_transposed(q, matrix(Memory::kQuery, 4 * part + 2 * n));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(output[2 * n + half], a_dx, k[2 * half], k[2 * half + 1]);
        Half<T>::multiply(write[2 * n + half], a_n, k[2 * half], k[2 * half + 1]);
        Half<T>::multiply(write[2 * n + half], a_key, k[2 * half], k[2 * half + 1]);
        Half<T>::multiply(write[2 * n + half], a_query, q[2 * half], q[2 * half + 1]);
      }
    }
    float sums[2] = {};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 k = element(Memory::kKey, quad + 8 * half, 4 * part + n);
        float &q0 = output[n][2 * half], &q1 = output[n][2 * half + 1];
        q0 *= scale;
        q1 *= scale;
        write[n][2 * half] -= d * q0;
        write[n][2 * half + 1] -= d * q1;
        sums[half] += q0 * k.x + q1 * k.y;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(sums[half]);
      if (pair == 0) {
        memory.row_sums[local][part][kCorrection][scan_order(quad + 8 * half)] = sum;
      }
    }
  }

  // Puts dQ, dK, dV into the block's rows, or adds them.
  template <bool kAdd>
  __device__ void put() {
    const auto put_pair = [&](int which, int i, int column, float x, float y) {
      float2& at = *reinterpret_cast<float2*>(&memory.gradients[which][i][column]);
      at = kAdd ? make_float2(at.x + x, at.y + y) : make_float2(x, y);
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = quad + 8 * half;
      const float beta = of_token(gates.beta, i);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int column = 32 * part + 8 * n + 2 * pair;
        put_pair(0, i, column, output[n][2 * half], output[n][2 * half + 1]);
        put_pair(1, i, column, write[n][2 * half], write[n][2 * half + 1]);
        // n = 2 (step % 2) + (x >> 1), half = x & 1
        const float(&v)[2] = value[n / 2][2 * (n % 2) + half];
        put_pair(2, i, column, beta * v[0], beta * v[1]);
      }
    }
  }

  // The gates' gradients; by one warp of a direction, after the others' sums are there.
  __device__ void store_gates() {
    const int t = b.lane & 15;
    float sums[kRowSums] = {}, product = 0.f;
#pragma unroll
    for (int from = 0; from < Memory::kParts; ++from) {
#pragma unroll
      for (int kind = 0; kind < kFeedback; ++kind) {
        sums[kind] += memory.row_sums[local][from][kind][t];
      }
      product += memory.state_products[local][from];
    }
    const float decay_e = exp2_fast(gates.e);
    const float out = b.p.scale * exp2_fast(gates.g) * sums[kOutput],
                back = gates.c * decay_e * sums[kRead];
    const float in = exp2_fast(gates.end - gates.g) * sums[kWrite];
    // Lane t first sums row t up to each column, then column t from row t on.
    float row = 0.f;
    for (int j = 0; j < 16; ++j) {
      const float w = memory.weights[local][0][t][j] + memory.weights[local][1][t][j];
      __syncwarp();
      memory.weights[local][0][t][j] =
          row;  // of the columns before j; both halves of the warp write the same
      row += w;
    }
    __syncwarp();
    float grad = exp2_fast(gates.end) * product;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float out_i = __shfl_sync(~0u, out, i), back_i = __shfl_sync(~0u, back, i),
                  in_i = __shfl_sync(~0u, in, i);
      grad += i >= t ? out_i + memory.weights[local][0][i][t] : in_i;
      grad -= i > t || (i == t && b.p.decayed_feedback) ? back_i : 0.f;
    }
    const int64_t time = int64_t{chunk} * kTensorChunk + scan_order(t);
    if (b.lane < 16 && time < b.p.length) {
      const int64_t at = b.gate_index(local, time);
      backward.grad_log_alpha[at] = grad;
      backward.grad_beta[at] = sums[kBeta];
      backward.grad_c[at] = memory.row_sums[local][0][kFeedback][t] - decay_e * sums[kRead];
    }
    const float correction = warp_sum(b.lane < 16 ? sums[kCorrection] : 0.f);
    if (b.lane == 0) {
      const int64_t task = ((b.first_direction + local) * b.p.batch + b.batch) * b.p.heads + b.head;
      backward.grad_d[task * b.chunks + chunk] = -correction;
    }
  }
};

// Starts copying the chunk's rows of k, q, v and dO.
template <typename T, int D, int kDirections>
__device__ void load_chunk(GradientBlock<D, kDirections>& memory, const TensorBackward<T>& backward,
                           const TensorBlock<T, D, kDirections>& b, int chunk) {
  using Memory = GradientBlock<D, kDirections>;
  constexpr int kPieces = D / 8, kRowsAtOnce = Memory::kThreads / kPieces;
  const void* const sources[4] = {b.p.k, b.p.q, b.p.v, backward.grad_o};
  const RowStrides* const strides[4] = {&b.p.k_strides, &b.p.q_strides, &b.p.v_strides,
                                        &backward.grad_o_strides};
  const int piece = threadIdx.x % kPieces, first_row = threadIdx.x / kPieces;
  const int length = static_cast<int>(b.p.length);
#pragma unroll
  for (int which = 0; which < 4; ++which) {
    const RowStrides& stride = *strides[which];
    const T* const rows = static_cast<const T*>(sources[which]) +
                          b.first_direction * stride.direction + b.batch * stride.batch +
                          b.head * stride.head + piece * 8;
    const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(memory.rows[which]));
#pragma unroll
    for (int row = first_row; row < kTensorChunk; row += kRowsAtOnce) {
      const int t = chunk * kTensorChunk + row;
      copy_async(target + row_piece<D>(row, piece),
                 t < length ? rows + t * stride.time : sources[which], t < length);
    }
  }
}

// Starts copying the chunk's fragments; `block`: that of the walks.
template <int D, int kDirections>
__device__ void load_fragments(GradientBlock<D, kDirections>& memory, void* scratch, int64_t block,
                               int chunks, int chunk) {
  constexpr int kThreads = GradientBlock<D, kDirections>::kThreads;
  constexpr int kCopies = sizeof(ChunkScratch<D>) / 16 / kThreads;
  static_assert(sizeof(ChunkScratch<D>) % (16 * kThreads) == 0);
#pragma unroll
  for (int local = 0; local < kDirections; ++local) {
    const auto* const from = reinterpret_cast<const uint4*>(&scratch_of<D, kDirections>(
                                 scratch, block, local, chunks, chunk)) +
                             threadIdx.x;
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(&memory.fragments[local])) +
                    16 * threadIdx.x;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      copy_async(to + 16 * kThreads * i, from + kThreads * i, true);
    }
  }
}

template <typename T, int D, int kDirections>
__device__ void store_chunk(const GradientBlock<D, kDirections>& memory,
                            const TensorBackward<T>& backward,
                            const TensorBlock<T, D, kDirections>& b, int chunk) {
  using Memory = GradientBlock<D, kDirections>;
  constexpr int kPieces = D / 8, kRowsAtOnce = Memory::kThreads / kPieces;
  T* const targets[3] = {backward.grad_q, backward.grad_k, backward.grad_v};
  const int direction = kDirections == 2 ? 0 : b.first_direction;
  const int piece = threadIdx.x % kPieces, length = static_cast<int>(b.p.length);
  const int64_t stride = b.p.heads * D;
  const int64_t first =
      (direction * b.p.batch + b.batch) * b.p.length * stride + b.head * D + piece * 8;
#pragma unroll
  for (int row = threadIdx.x / kPieces; row < kTensorChunk; row += kRowsAtOnce) {
    const int t = chunk * kTensorChunk + row;
    if (t < length) {
#pragma unroll
      for (int which = 0; which < 3; ++which) {
        const auto* const from =
            reinterpret_cast<const float4*>(memory.gradients[which][row] + piece * 8);
        const float4 low = from[0], high = from[1];
        *reinterpret_cast<uint4*>(targets[which] + first + t * stride) =
            make_uint4(Half<T>::pack(low.x, low.y), Half<T>::pack(low.z, low.w),
                       Half<T>::pack(high.x, high.y), Half<T>::pack(high.z, high.w));
      }
    }
  }
}

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(GradientBlock<D, kDirections>::kThreads,
                                  GradientBlock<D, kDirections>::kMinBlocks)
    scan_tensor_gradients_kernel(const __grid_constant__ TensorBackward<T> backward) {
  extern __shared__ __align__(128) char tensor_memory[];
  auto& memory = *reinterpret_cast<GradientBlock<D, kDirections>*>(tensor_memory);
  const int chunks = tensor_chunks(backward.scan.params.length);
  const int64_t block = blockIdx.x / static_cast<uint32_t>(chunks);
  const int chunk = static_cast<int>(blockIdx.x % static_cast<uint32_t>(chunks));
  const TensorBlock<T, D, kDirections> b(backward.scan, tensor_memory,
                                         static_cast<uint32_t>(backward.scan.first + block));
  load_chunk(memory, backward, b, chunk);
  load_fragments(memory, backward.scratch, block, chunks, chunk);
  asm volatile("cp.async.commit_group;");
  GradientWarp<T, D, kDirections> warp(backward, b, memory, chunk);
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  warp.multiply_values();
  warp.apply_decay();
  warp.sum_rows();
  if (warp.part == 0) {
    warp.weigh_pairs();
  }
  warp.multiply_keys();
  if (warp.local == kDirections - 1) {
    warp.template put<false>();
  }
  __syncthreads();
  if (kDirections == 2) {
    if (warp.local == 0) {
      warp.template put<true>();
    }
    __syncthreads();
  }
  store_chunk(memory, backward, b, chunk);
  if (warp.part == GradientBlock<D, kDirections>::kParts - 1) {
    warp.store_gates();
  }
}

}  // namespace comba::kernels::cuda
