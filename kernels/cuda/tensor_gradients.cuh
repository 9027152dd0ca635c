// The parallel half of the backward scan on tensor cores: every gradient of a span of 32 tokens from S before it, dS after
// it, V' and dR (tensor_walks.cuh). Rows are tokens in time order, i > j means that i is scanned later;
// E_ij = exp(g_i - g_j), E0_ij = exp(e_i - g_j), g summed from the span's start:
//   dX = E o (dO V'^T)  (i >= j),   N0 = -E0 o (dR V'^T)  (i > j),   N = diag(c) N0,   s = scale
//   dQ = s (dX K + diag(exp(g)) dO S)
//   dK = (N + N^T - s d dX^T) K + s dX^T Q + diag(exp(G - g)) V' dS - diag(c exp(e)) dR S - d dQ
//   dV = diag(beta) dR,   dbeta_i = <dR_i, v_i>,   dc_i = sum_j N0_ij <k_i, k_j> - exp(e_i) <(dR S)_i, k_i>
//   dd = - sum_i <dQ_i, k_i>
// and dlog_alpha_t the sum of every term whose decay contains alpha_t, as in scan_gradients.cuh: none of them cancel.
//
// A block serves one span of a (batch, head): for each direction and each of the span's two chunks D / 32 warps, each 32
// columns of Dk. Pairs of tokens lie in three blocks of 16 x 16 (two chunks, and both of them); a warp each makes their
// operands for all others. Both directions add up in shared memory.
#pragma once

#include "kernels/cuda/tensor_span.cuh"

namespace comba::kernels::cuda {

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
__device__ inline void unpack_fragment(uint32_t (&x)[4], const uint4& four) {
  x[0] = four.x;
  x[1] = four.y;
  x[2] = four.z;
  x[3] = four.w;
}

// One warp: `chunk` of the span, `part`: 32 columns of Dk, of direction `local`.
template <typename T, int D, int kDirections>
struct GradientWarp {
  using Memory = SpanMemory<T, D, kDirections>;
  using Block = TensorBlock<T, D, kDirections>;
  const TensorBackward<T>& backward;
  const Block& b;
  Memory& memory;
  int span, local, index, chunk, part, quad, pair;
  bool reversed;
  TokenGates gates;
  // [16, 32]: dO S, dR S, V' dS, then dQ and dK
  float output[4][4] = {}, read[4][4] = {}, write[4][4] = {};

  __device__ GradientWarp(const TensorBackward<T>& all, const Block& block, Memory& shared,
                          int span_at)
      : backward(all),
        b(block),
        memory(shared),
        span(span_at),
        local(block.warp / Memory::kDirectionWarps),
        index(block.warp % Memory::kDirectionWarps),
        chunk(index % 2),
        part(index / 2),
        quad(block.lane >> 2),
        pair(block.lane & 3),
        reversed(block.reversed(local)),
        gates(sum_gates<kTensorSpan>(block, load_gates<kTensorSpan>(block, span_at, local))) {}

  // Place of token i of the span in scan order, which is that of its gates' lane.
  __device__ int scan_order(int i) const { return reversed ? kTensorSpan - 1 - i : i; }
  __device__ float of_token(float x, int i) const { return __shfl_sync(~0u, x, scan_order(i)); }
  __device__ uint32_t matrix(int which, int of_chunk, int piece) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(memory.rows[which])) +
           row_piece<D>(kTensorChunk * of_chunk + (b.lane & 15), piece + (b.lane >> 4));
  }
  __device__ float2 element(int which, int i, int piece) const {
    const char* at = memory.rows[which] + row_piece<D>(i, piece) + 4 * pair;
    return Half<T>::unpack(*reinterpret_cast<const uint32_t*>(at));
  }
  __device__ int first_token() const { return kTensorChunk * chunk + quad; }  // and that + 8

  // dX and N0 of pairs, rows of chunk `later` and columns of chunk `earlier`; <k_i, k_j> and <q_i, k_j>.
  struct Pairs {
    float dx[2][4] = {}, n0[2][4] = {}, kk[2][4] = {}, qk[2][4] = {};
  };
  __device__ void multiply_pairs(Pairs& x, int later, int earlier) const {
    const auto &rows = memory.updates[local][later], &columns = memory.updates[local][earlier];
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t grad_o[4], r[4], u[4], k[4], q[4], other[4];
      load_matrices(grad_o, matrix(Memory::kGradO, later, 2 * step));
      load_matrices(k, matrix(Memory::kKey, later, 2 * step));
      load_matrices(q, matrix(Memory::kQuery, later, 2 * step));
      load_matrices(other, matrix(Memory::kKey, earlier, 2 * step));
      unpack_fragment(r, rows.grad_update[step][b.lane]);
      unpack_fragment(u, columns.update[step][b.lane]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Half<T>::multiply(x.dx[half], grad_o, u[half], u[half + 2]);
        Half<T>::multiply(x.n0[half], r, u[half], u[half + 2]);
        Half<T>::multiply(x.kk[half], k, other[half], other[half + 2]);
        Half<T>::multiply(x.qk[half], q, other[half], other[half + 2]);
      }
    }
  }

  // Decays a block of pairs, N0 becoming N, and leaves its part of the gates' gradients.
  template <bool kCross>
  __device__ void weigh_pairs(Pairs& x, int later, int earlier) const {
    const float d = b.correction(local);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = kTensorChunk * later + quad + 8 * half, row = scan_order(i);
      const float g_i = of_token(gates.g, i), e_i = of_token(gates.e, i),
                  c_i = of_token(gates.c, i);
      float sums[kPairSums] = {};
#pragma unroll
      for (int at = 0; at < 4; ++at) {
        const int j = column_token(earlier, at), r = 2 * half + (at & 1), column = scan_order(j);
        const bool after = kCross || row > column;
        const float g_j = of_token(gates.g, j), key = x.kk[at >> 1][r];
        float &grad = x.dx[at >> 1][r], &feedback = x.n0[at >> 1][r];
        const float product = b.p.scale * (x.qk[at >> 1][r] - d * key);
        grad = after ? grad * exp2_fast(g_i - g_j) : row == column ? grad : 0.f;
        feedback = after ? -feedback * exp2_fast(e_i - g_j) : 0.f;
        sums[kCorrections] += grad * key;
        sums[kFeedback] += feedback * key;
        feedback *= c_i;
        const float write = after ? grad * product : 0.f, both = write + feedback * key;
        sums[kOwnRow] += b.p.decayed_feedback ? both : write;
        memory.weights[local][row][column] = both;
      }
#pragma unroll
      for (int kind = 0; kind < kPairSums; ++kind) {
        const float sum = quad_sum(sums[kind]);
        if (pair == 0) {
          memory.pair_sums[local][kCross ? 1 : 0][kind][row] = sum;
        }
      }
    }
  }
  // The token of this lane's accumulators at columns of a chunk.
  __device__ int column_token(int of_chunk, int at) const {
    return kTensorChunk * of_chunk + 8 * (at >> 1) + 2 * pair + (at & 1);
  }

  __device__ void store_operands(const Pairs& x, PairBlock block) const {
    const float scale = b.p.scale, correction = scale * b.correction(local);
    uint32_t out[kPairOperands][4];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float x0 = x.dx[n][2 * half], x1 = x.dx[n][2 * half + 1];
        const float n0 = x.n0[n][2 * half], n1 = x.n0[n][2 * half + 1];
        out[kPairOutput][2 * n + half] = Half<T>::pack(x0, x1);
        out[kPairWrite][2 * n + half] = Half<T>::pack(n0, n1);
        out[kPairKey][n + 2 * half] =
            transposed(Half<T>::pack(n0 - correction * x0, n1 - correction * x1));
        out[kPairQuery][n + 2 * half] = transposed(Half<T>::pack(scale * x0, scale * x1));
      }
    }
#pragma unroll
    for (int which = 0; which < kPairOperands; ++which) {
      memory.operands[local][block][which][b.lane] =
          make_uint4(out[which][0], out[which][1], out[which][2], out[which][3]);
    }
  }

  template <bool kCross>
  __device__ void make_pairs(int later, int earlier, PairBlock block) const {
    Pairs x;
    multiply_pairs(x, later, earlier);
    weigh_pairs<kCross>(x, later, earlier);
    store_operands(x, block);
  }

  // <S, dS>: the diagonal of S^T dS, 16 columns of each at a time.
  __device__ void multiply_states() const {
    const auto& states = memory.states[local].span;
    float low[4] = {}, high[4] = {};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        const uint4 s = states.state[step][n][b.lane], g = states.grad_state[step][n][b.lane];
        const uint32_t a[4] = {g.x, g.z, g.y, g.w};
        Half<T>::multiply(low, a, s.x, s.y);
        Half<T>::multiply(high, a, s.z, s.w);
      }
    }
    const int column = quad - 2 * pair;
    const float product = warp_sum(column == 0   ? low[0] + high[2]
                                   : column == 1 ? low[1] + high[3]
                                                 : 0.f);
    if (b.lane == 0) {
      memory.state_products[local] = product;
    }
  }

  // What one warp of a direction makes for all of them.
  __device__ void share_work() const {
    for (int role = index; role < kPairBlocks + 1; role += Memory::kDirectionWarps) {
      if (role == kCrossPairs) {
        make_pairs<true>(reversed ? 0 : 1, reversed ? 1 : 0, kCrossPairs);
      } else if (role < kCrossPairs) {
        make_pairs<false>(role, role, static_cast<PairBlock>(role));
      } else {
        multiply_states();
      }
    }
  }

  // Every product of this warp that contracts over Dv.
  __device__ void multiply_values() {
    const auto& states = memory.states[local].span;
    const auto& updates = memory.updates[local][chunk];
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      uint32_t grad_o[4], r[4], u[4];
      load_matrices(grad_o, matrix(Memory::kGradO, chunk, 2 * step));
      unpack_fragment(u, updates.update[step][b.lane]);
      unpack_fragment(r, updates.grad_update[step][b.lane]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const uint4 s = states.state[step][2 * part + n][b.lane];
        const uint4 g = states.grad_state[step][2 * part + n][b.lane];
        Half<T>::multiply(output[2 * n], grad_o, s.x, s.y);
        Half<T>::multiply(output[2 * n + 1], grad_o, s.z, s.w);
        Half<T>::multiply(read[2 * n], r, s.x, s.y);
        Half<T>::multiply(read[2 * n + 1], r, s.z, s.w);
        Half<T>::multiply(write[2 * n], u, g.x, g.y);
        Half<T>::multiply(write[2 * n + 1], u, g.z, g.w);
      }
    }
  }

  __device__ void sum_rows() const {
    const auto& updates = memory.updates[local][chunk];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = first_token() + 8 * half;
      float sums[kRowSums] = {};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float2 k = element(Memory::kKey, i, 4 * part + n),
                     q = element(Memory::kQuery, i, 4 * part + n),
                     v = element(Memory::kValue, i, 4 * part + n),
                     dr = value_gradient(updates, n, half);
        const int r = 2 * half;
        sums[kOutputQuery] += output[n][r] * q.x + output[n][r + 1] * q.y;
        sums[kOutputKey] += output[n][r] * k.x + output[n][r + 1] * k.y;
        sums[kReadKey] += read[n][r] * k.x + read[n][r + 1] * k.y;
        sums[kWriteKey] += write[n][r] * k.x + write[n][r + 1] * k.y;
        sums[kBeta] += dr.x * v.x + dr.y * v.y;
      }
#pragma unroll
      for (int kind = 0; kind < kRowSums; ++kind) {
        const float sum = quad_sum(sums[kind]);
        if (pair == 0) {
          memory.row_sums[local][part][kind][scan_order(i)] = sum;
        }
      }
    }
  }
  // dR of this lane's token and columns 8 n + 2 pair, + 1 of the warp's part, now of Dv.
  __device__ float2 value_gradient(const ChunkUpdates<D>& updates, int n, int half) const {
    const auto* const fragment =
        reinterpret_cast<const uint32_t*>(&updates.grad_update[2 * part + n / 2][b.lane]);
    return Half<T>::unpack(fragment[2 * (n % 2) + half]);
  }

  __device__ void wait_for_direction() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + local), "r"(32 * Memory::kDirectionWarps) : "memory");
  }

  // `output` becomes dQ, `write` dK.
  __device__ void multiply_keys() {
    const float d = b.correction(local), scale = b.p.scale;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = first_token() + 8 * half;
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
    add_pairs(static_cast<PairBlock>(chunk), chunk, true, true);
    const bool later = reversed == (chunk == 0);
    add_pairs(kCrossPairs, 1 - chunk, later, !later);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        output[n][r] *= scale;
        write[n][r] -= d * output[n][r];
      }
    }
  }
  // Adds what this chunk's rows get from pairs with the tokens of `other`: as the later of both, as the earlier.
  __device__ void add_pairs(PairBlock block, int other, bool as_later, bool as_earlier) {
    const auto& operands = memory.operands[local][block];
    uint32_t a[kPairOperands][4];
#pragma unroll
    for (int which = 0; which < kPairOperands; ++which) {
      unpack_fragment(a[which], operands[which][b.lane]);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      uint32_t k[4], q[4];
      load_matrices_transposed(k, matrix(Memory::kKey, other, 4 * part + 2 * n));
      load_matrices_transposed(q, matrix(Memory::kQuery, other, 4 * part + 2 * n));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float(&dq)[4] = output[2 * n + half], (&dk)[4] = write[2 * n + half];
        if (as_later) {
          Half<T>::multiply(dq, a[kPairOutput], k[2 * half], k[2 * half + 1]);
          Half<T>::multiply(dk, a[kPairWrite], k[2 * half], k[2 * half + 1]);
        }
        if (as_earlier) {
          Half<T>::multiply(dk, a[kPairKey], k[2 * half], k[2 * half + 1]);
          Half<T>::multiply(dk, a[kPairQuery], q[2 * half], q[2 * half + 1]);
        }
      }
    }
  }

  // Columns 16 half .. + 15 of dQ, dK and dV of this warp's part, as accumulators.
  __device__ void gather(float (&grads)[3][2][4], int half, const float (&value)[4][4]) const {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        grads[0][n][r] = half == 0 ? output[n][r] : output[n + 2][r];
        grads[1][n][r] = half == 0 ? write[n][r] : write[n + 2][r];
        grads[2][n][r] = half == 0 ? value[n][r] : value[n + 2][r];
      }
    }
  }
  // Rounds them and puts them into the block's rows.
  __device__ void put_half(const float (&grads)[3][2][4], int columns) const {
#pragma unroll
    for (int which = 0; which < 3; ++which) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          T* const at = &memory.gradients[which][first_token() + 8 * half]
                                         [32 * part + 16 * columns + 8 * n + 2 * pair];
          const float(&grad)[4] = grads[which][n];
          *reinterpret_cast<uint32_t*>(at) = Half<T>::pack(grad[2 * half], grad[2 * half + 1]);
        }
      }
    }
  }
  // Puts dQ, dK and dV into the block's rows. Where both directions add up, each finishes half of the columns.
  __device__ void put_rows() const {
    float value[4][4];  // dV
    const auto& updates = memory.updates[local][chunk];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float beta = of_token(gates.beta, first_token() + 8 * half);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float2 dr = value_gradient(updates, n, half);
        value[n][2 * half] = beta * dr.x;
        value[n][2 * half + 1] = beta * dr.y;
      }
    }
    float own[3][2][4];
    if constexpr (kDirections == 1) {
      __syncthreads();  // the rows are used
#pragma unroll
      for (int columns = 0; columns < 2; ++columns) {
        gather(own, columns, value);
        put_half(own, columns);
      }
    } else {
      float given[3][2][4];
      gather(given, 1 - local, value);
      gather(own, local, value);
      float4* const to = &memory.states[local].exchange[index][0][b.lane];
      const float4* const from = &memory.states[1 - local].exchange[index][0][b.lane];
#pragma unroll
      for (int x = 0; x < 6; ++x) {
        const float(&grad)[4] = given[x / 2][x % 2];
        to[32 * x] = make_float4(grad[0], grad[1], grad[2], grad[3]);
      }
      __syncthreads();  // so are the rows
#pragma unroll
      for (int x = 0; x < 6; ++x) {
        const float4 other = from[32 * x];
        float(&grad)[4] = own[x / 2][x % 2];
        grad[0] += other.x;
        grad[1] += other.y;
        grad[2] += other.z;
        grad[3] += other.w;
      }
      put_half(own, local);
    }
  }

  // The sum of the pairs' terms of rows i > t and columns j < t, for t = lane.
  __device__ float sum_weights() const {
    const int t = b.lane;
    auto& weights = memory.weights[local];
    float row = 0.f, sum = 0.f;
#pragma unroll 8
    for (int j = 0; j < kTensorSpan; ++j) {
      const float w = weights[t][j];
      weights[t][j] = row;  // of the columns before j
      row += w;
    }
    __syncwarp();
#pragma unroll 8
    for (int i = 1; i < kTensorSpan; ++i) {
      sum += i > t ? weights[i][t] : 0.f;
    }
    return sum;
  }

  // The gates' gradients; by one warp of a direction, after the others' sums are there.
  __device__ void store_gates() const {
    const int t = b.lane;
    float sums[kRowSums] = {}, pairs[kPairSums];
#pragma unroll
    for (int kind = 0; kind < kPairSums; ++kind) {
      const auto& of = memory.pair_sums[local];
      pairs[kind] = of[0][kind][t] + (t >= kTensorChunk ? of[1][kind][t] : 0.f);
    }
#pragma unroll
    for (int from = 0; from < Memory::kParts; ++from) {
#pragma unroll
      for (int kind = 0; kind < kRowSums; ++kind) {
        sums[kind] += memory.row_sums[local][from][kind][t];
      }
    }
    const float scale = b.p.scale, decay_g = exp2_fast(gates.g), decay_e = exp2_fast(gates.e);
    const float back = gates.c * decay_e * sums[kReadKey];
    // Without decayed feedback token i reads what token i - 1 left.
    const float shifted = __shfl_down_sync(~0u, back, 1),
                next = t + 1 < kTensorSpan ? shifted : 0.f;
    // Sums over the tokens from t on, and over those before t.
    float later = scale * decay_g * (sums[kOutputQuery] - b.correction(local) * sums[kOutputKey]) -
                  (b.p.decayed_feedback ? back : next);
    float earlier = exp2_fast(gates.end - gates.g) * sums[kWriteKey];
#pragma unroll
    for (int step = 1; step < kTensorSpan; step *= 2) {
      const float after = __shfl_down_sync(~0u, later, step),
                  before = __shfl_up_sync(~0u, earlier, step);
      later += t + step < kTensorSpan ? after : 0.f;
      earlier += t >= step ? before : 0.f;
    }
    earlier = __shfl_up_sync(~0u, earlier, 1);
    const float grad = sum_weights() + pairs[kOwnRow] +
                       exp2_fast(gates.end) * memory.state_products[local] + later +
                       (t > 0 ? earlier : 0.f);
    const int64_t time = int64_t{span} * kTensorSpan + scan_order(t);
    if (time < b.p.length) {
      const int64_t at = b.gate_index(local, time);
      backward.grad_log_alpha[at] = grad;
      backward.grad_beta[at] = sums[kBeta];
      backward.grad_c[at] = pairs[kFeedback] - decay_e * sums[kReadKey];
    }
    const float correction = warp_sum(decay_g * sums[kOutputKey] + pairs[kCorrections]);
    if (b.lane == 0) {
      const int64_t task = ((b.first_direction + local) * b.p.batch + b.batch) * b.p.heads + b.head;
      backward.grad_d[task * ((b.chunks + 1) / 2) + span] = -scale * correction;
    }
  }
};

template <typename T, int D, int kDirections>
__global__ void __launch_bounds__(SpanMemory<T, D, kDirections>::kThreads,
                                  SpanMemory<T, D, kDirections>::kMinBlocks)
    scan_tensor_gradients_kernel(const __grid_constant__ TensorBackward<T> backward) {
  using Memory = SpanMemory<T, D, kDirections>;
  extern __shared__ __align__(1024) char tensor_memory[];
  auto& memory = *reinterpret_cast<Memory*>(tensor_memory);
  const auto spans = static_cast<uint32_t>(tensor_chunks(backward.scan.params.length) + 1) / 2;
  const int64_t block = blockIdx.x / spans;
  const int span = static_cast<int>(blockIdx.x % spans);
  const TensorBlock<T, D, kDirections> b(backward.scan, tensor_memory,
                                         static_cast<uint32_t>(backward.scan.first + block));
  load_span(memory, backward, b, span);
  load_scratch(memory, backward.scratch, block, b.chunks, span);
  asm volatile("cp.async.commit_group;");
  GradientWarp<T, D, kDirections> warp(backward, b, memory, span);
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  warp.share_work();
  warp.multiply_values();
  warp.sum_rows();
  warp.wait_for_direction();
  warp.multiply_keys();
  warp.put_rows();
  __syncthreads();
  store_span(memory, backward, b, span);
  if (warp.index == Memory::kDirectionWarps - 1) {
    warp.store_gates();
  }
}

}  // namespace comba::kernels::cuda
