// q_r, k_r, v_r of both directions from the raw projections, and back: short convolution, SiLU, L2 norm (mixer.h).
//
// A group of lanes walks a piece of the line of all samples' tokens (TokenLine) in rounds of four steps. At step n the tokens
// n .. n + 3, which stay in registers, give the forward direction's row n + 3 and the other's row n: a token is read once for
// all taps of both directions. The round of tokens t .. t + 3 has the steps t - 3 .. t. Tokens come by asynchronous copies, a
// round ahead of their use; those that do not exist are zeros, which keeps one sample's sums apart from the next one's.
//
// Taps are halved: SiLU(2 x) = x + x tanh(x), its derivative is half of 1 + tanh(x) + SiLU(2 x) (1 - tanh(x)). A
// direction that is not there has taps of zero, and its rows are not touched.
#pragma once

#include "kernels/cuda/mixer_cuda.h"
#include "kernels/cuda/mixer_lanes.cuh"
#include "kernels/mixer_params.h"

namespace comba::kernels::cuda {

constexpr int kRowsBlocks = 5, kRowsBackwardBlocks = 3;  // an SM, that registers are kept for
constexpr int kRound = 4;                                // steps

// What a walk adds to its places in memory, in bytes.
struct LineSteps {
  int64_t token,
      turn;      // of x: to the next token; from behind a sample's last round to the next sample
  uint32_t row;  // of rows and their gradients

  LineSteps(const MixerRows<float>& p, const TokenLine& line, int64_t element)
      : token(p.time_stride * element),
        turn(p.batch_stride * element - kRound * line.rounds * token),
        row(static_cast<uint32_t>(p.shape.heads * p.shape.dim * element)) {}
};

// The lanes of a part of a head: what does not change on their way. kUsual: both directions and a convolution, known to the
// compiler.
template <typename T, int D, bool kUsual>
struct RowLanes {
  static constexpr int E = kRowsChannels;
  using Element = T;
  using Group = LaneGroup<D, E>;
  using Lane = Packed<T, E>;
  const MixerRows<float>& p;
  const MixerShape& s = p.shape;
  const TokenLine& line;
  const LineSteps& steps;
  int piece, head, part, column;
  LaneTaps<E> taps[2];  // halved, in the order of time

  // Heads are neighbours in memory and so are their groups. The part is the block's, so that a block sums over rows or does
  // not.
  __device__ RowLanes(const MixerRows<float>& rows, const TokenLine& l, const LineSteps& b)
      : p(rows),
        line(l),
        steps(b),
        piece(static_cast<int>(Group::group() / s.heads)),
        head(static_cast<int>(Group::group() % s.heads)),
        part(static_cast<int>(blockIdx.y)),
        column(Group::column()),
        taps{LaneTaps<E>(p.taps, channel(0)), LaneTaps<E>(p.taps, channel(1))} {
    taps[0].halve();
    taps[1].halve();
    taps[1].reverse();
  }
  __device__ int64_t channel(int direction) const {
    return ((direction * 3 + part) * s.heads + head) * D + column;
  }
  __device__ bool normal() const { return p.normalize && part < 2; }
  __device__ bool both() const { return kUsual || s.directions == 2; }
  __device__ bool silu() const { return kUsual || p.silu; }
  // Half the convolution's output at a step.
  __device__ Channels<E> convolve(const Channels<E>* window, int direction) const {
    Channels<E> sum = {};
#pragma unroll
    for (int j = 0; j < kMixerTaps; ++j) {
      add_product(sum, taps[direction].w[j], window[j]);
    }
    return sum;
  }
};

// A place on the way. Tokens of all samples are fewer than 2^31; the rounds before the line and behind it have none.
template <typename Rows>
struct LinePlace {
  using T = typename Rows::Element;
  const Rows& r;
  const char* x;  // of the round's first token
  int sample, token;

  __device__ LinePlace(const Rows& rows, int64_t round) : r(rows) {
    const int64_t rounds = r.line.rounds;
    const int64_t of = (round + 2 * rounds) / rounds - 2;  // rounded down, also before the line
    const int64_t from = of < r.s.batch ? of : r.s.batch;
    sample = static_cast<int>(from);
    token = of < r.s.batch ? static_cast<int>(round - from * rounds) * kRound : 0;
    x = static_cast<const char*>(r.p.qkv) + token * r.steps.token +
        (from * r.p.batch_stride + r.part * r.p.part_stride + r.head * r.p.head_stride + r.column) *
            static_cast<int64_t>(sizeof(T));
  }
  __device__ int row() const { return sample * static_cast<int>(r.s.length) + token; }
  // The round's tokens, or more.
  __device__ int present() const {
    const bool inside = static_cast<unsigned>(sample) < static_cast<unsigned>(r.s.batch);
    return (inside ? static_cast<int>(r.s.length) : 0) - token;
  }
  // Those of the round before it.
  __device__ int before() const { return token > 0 ? present() + kRound : 0; }
  // The three tokens before it.
  template <int N>
  __device__ void load_before(Channels<Rows::E> (&window)[N]) const {
    using Lane = typename Rows::Lane;
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      const auto* const at = reinterpret_cast<const T*>(x + (k - 3) * r.steps.token);
      window[k] = (k + 1 < before() ? Lane::load(at) : Lane{}).unpack();
    }
  }
  __device__ void next() {
    token += kRound;
    x += kRound * r.steps.token;
    if (token == kRound * r.line.rounds) {
      token = 0;
      ++sample;
      x += r.steps.turn;
    }
  }
};

// The tokens three before those of a round: of x, and where the other direction's rows are.
struct ThreeBefore {
  int present, before;

  template <typename Rows>
  __device__ explicit ThreeBefore(const LinePlace<Rows>& place, bool any = true)
      : present(any ? place.present() : 0), before(any ? place.before() : 0) {}
  // Before the k-th.
  __device__ bool exists(int k) const { return k < 3 ? k + 1 < before : present > 0; }
};

// One of four walks: with SiLU or without, with norm or without.
template <typename Rows, typename Ring>
__device__ void walk_rows(Rows& rows, Ring& ring) {
  if (!rows.silu()) {
    rows.normal() ? rows.template walk<false, true>(ring) : rows.template walk<false, false>(ring);
  } else {
    rows.normal() ? rows.template walk<true, true>(ring) : rows.template walk<true, false>(ring);
  }
}

template <typename T, int D, bool kUsual>
struct RowsForward : RowLanes<T, D, kUsual> {
  using Base = RowLanes<T, D, kUsual>;
  using Base::E;
  using typename Base::Group, typename Base::Lane;
  using Place = LinePlace<Base>;
  using Round = Lane[kRound][kMixerThreads];
  static constexpr int kRounds = 3;       // in use and on their way
  static constexpr int kStepsAtOnce = 2;  // whose sums over a row are four with both directions
  using Base::Base;

  __device__ void copy(const Place& place, Round& round, bool wanted) const {
    if (wanted) {
      const int here = place.present();
#pragma unroll
      for (int k = 0; k < kRound; ++k) {
        copy_async(round[k][threadIdx.x], place.x + k * this->steps.token, k < here);
      }
    }
    commit_copies();
  }

  template <bool kSilu, bool kNormal>
  __device__ void walk(Round (&ring)[kRounds]) const {
    Place next(*this, this->line.share * this->piece), place = next;
    Channels<E> window[3 + kStepsAtOnce];
    next.load_before(window);
    int left = static_cast<int>(this->line.share);
#pragma unroll
    for (int k = 0; k < kRounds - 1; ++k) {
      copy(next, ring[k], left > k);
      next.next();
    }
    auto* const rows = static_cast<T*>(this->p.rows[this->part]) + this->head * D + this->column;
    auto* const others = rows + (this->s.batch * this->s.length - 3) * this->s.heads * D;
    int slot = 0, free = kRounds - 1;
    for (; left > 0; --left) {
      copy(next, ring[free], left > kRounds - 1);
      next.next();
      free = free == kRounds - 1 ? 0 : free + 1;
      wait_for_copies<kRounds - 1>();
      const int row = place.row(), present = place.present();
      const ThreeBefore other(place, this->both());
      place.next();
      const char* const target[2] = {advanced(rows, row, this->steps.row),
                                     advanced(others, row, this->steps.row)};
#pragma unroll
      for (int k = 0; k < kRound; k += kStepsAtOnce) {
        Channels<E> u[2 * kStepsAtOnce];
        float squares[2 * kStepsAtOnce];
#pragma unroll
        for (int m = 0; m < 2 * kStepsAtOnce; ++m) {
          const int step = m / 2;
          window[3 + step] = ring[slot][k + step][threadIdx.x].unpack();
          u[m] = this->convolve(window + step, m % 2);
          add_product(u[m], u[m], kSilu ? tanh<T>(u[m]) : ones<E>());
          squares[m] = dot(u[m], u[m]);
        }
        if constexpr (kNormal) {
          Group::template sum_four<T>(squares);
        }
#pragma unroll
        for (int m = 0; m < 2 * kStepsAtOnce; ++m) {
          const int step = k + m / 2;
          const Lane made = finished<kNormal>(u[m], squares[m]);
          auto* const at = reinterpret_cast<T*>(advanced(target[m % 2], this->steps.row, step));
          if (m % 2 == 0 ? step < present : other.exists(step)) {
            made.store(at);
          }
        }
#pragma unroll
        for (int j = 0; j < 3; ++j) {
          window[j] = window[j + kStepsAtOnce];
        }
      }
      slot = slot == kRounds - 1 ? 0 : slot + 1;
    }
  }
  template <bool kNormal>
  __device__ static Lane finished(const Channels<E>& u, float square) {
    return Lane::pack(kNormal ? product(rsqrt_fast(square + static_cast<float>(kRowNormEps)), u)
                              : u);
  }
};

template <typename T, int D, bool kUsual>
__global__ void __launch_bounds__(kMixerThreads, kRowsBlocks)
    mixer_rows_kernel(const __grid_constant__ MixerRows<float> p,
                      const __grid_constant__ TokenLine line,
                      const __grid_constant__ LineSteps steps) {
  using Rows = RowsForward<T, D, kUsual>;
  __shared__ typename Rows::Round ring[Rows::kRounds];
  const Rows rows(p, line, steps);
  walk_rows(rows, ring);
}

// The gradient of a direction's convolution output at a token, twice: first what is summed over the row, then the rest.
template <typename T, int E>
struct RowGradient {
  Channels<E> u, slope, grad;  // SiLU, twice its derivative less one, what the row was given

  template <bool kSilu>
  __device__ void begin(const Channels<E>& half, const Channels<E>& given) {
    grad = given;
#pragma unroll
    for (int i = 0; i < E; ++i) {
      const float h = kSilu ? tanh<T>(half.at[i]) : 1.f;
      u.at[i] = fmaf(half.at[i], h, half.at[i]);
      slope.at[i] = fmaf(u.at[i], 1.f - h, h);
    }
  }
  // `square`: <u, u>, `along`: <u, given>
  template <bool kNormal>
  __device__ Channels<E> end(float square, float along) const {
    Channels<E> out = grad;
    if constexpr (kNormal) {
      const float scale = rsqrt_fast(square + static_cast<float>(kRowNormEps));
      const float part = -along * (scale * scale);
#pragma unroll
      for (int i = 0; i < E; ++i) {
        out.at[i] = fmaf(part, u.at[i], grad.at[i]) * scale;
      }
    }
    add_product(out, out, slope);
    return out;
  }
};

template <typename T, int D, bool kUsual>
struct RowsBackward : RowLanes<T, D, kUsual> {
  using Base = RowLanes<T, D, kUsual>;
  using Base::E;
  using typename Base::Group, typename Base::Lane;
  using Place = LinePlace<Base>;
  // x and the forward direction's gradients; those of the other direction, of three tokens before.
  using Round = Lane[kRound][3][kMixerThreads];
  const MixerRowGradients<float>& g;
  Channels<E> grad_taps[2][kMixerTaps] = {};

  __device__ RowsBackward(const MixerRowGradients<float>& gradients, const TokenLine& l,
                          const LineSteps& b)
      : Base(gradients.forward, l, b), g(gradients) {}

  __device__ void copy(const Place& place, Round& round) const {
    const auto* const grads =
        static_cast<const T*>(g.grad_rows[this->part]) + this->head * D + this->column;
    const auto* const others = grads + (this->s.batch * this->s.length - 3) * this->s.heads * D;
    const uint32_t bytes = this->steps.row;
    const int here = place.present();
    const ThreeBefore other(place, this->both());
    const char *const forward = advanced(grads, place.row(), bytes), *const reverse = advanced(
                                                                         others, place.row(),
                                                                         bytes);
#pragma unroll
    for (int k = 0; k < kRound; ++k) {
      copy_async(round[k][0][threadIdx.x], place.x + k * this->steps.token, k < here);
      copy_async(round[k][1][threadIdx.x], advanced(forward, bytes, k), k < here);
      copy_async(round[k][2][threadIdx.x], advanced(reverse, bytes, k), other.exists(k));
    }
  }

  // Step n's gradients, the forward direction's at n + 3 and the other's at n, make parts of dx at n .. n + 3. A piece begins
  // with the round before it, for its parts of dx in the piece.
  template <bool kSilu, bool kNormal>
  __device__ void walk(Round (&ring)[2]) {
    Place next(*this, this->line.share * this->piece - 1);
    Channels<E> window[4], dx[4] = {};
    next.load_before(window);
    auto* const dx_first = static_cast<T*>(g.grad_qkv) +
                           ((this->part - 9) * this->s.heads + this->head) * D + this->column;
    copy(next, ring[0]);
    commit_copies();
    int slot = 0;
#pragma unroll 1
    for (int own = 0; own < 2; ++own) {
#pragma unroll 1
      for (int left = own ? static_cast<int>(this->line.share) : 1; left > 0; --left) {
        const int row = next.row();
        const ThreeBefore done(next);
        next.next();
        if (left > own) {
          copy(next, ring[slot ^ 1]);
        }
        commit_copies();
        wait_for_copies<1>();
        const char* const target = advanced(dx_first, row, 3 * this->steps.row);
#pragma unroll
        for (int k = 0; k < kRound; ++k) {
          step<kSilu, kNormal>(window, dx, ring[slot][k]);
          const Lane made = Lane::pack(dx[0]);
          auto* const at = reinterpret_cast<T*>(advanced(target, this->steps.row, 3 * k));
          if (own && done.exists(k)) {
            made.store(at);
          }
#pragma unroll
          for (int j = 0; j < 3; ++j) {
            window[j] = window[j + 1];
            dx[j] = dx[j + 1];
          }
        }
        slot ^= 1;
      }
      if (!own) {
        clear_taps();
      }
    }
  }
  template <bool kSilu, bool kNormal>
  __device__ void step(Channels<E> (&window)[4], Channels<E> (&dx)[4],
                       const Lane (&lanes)[3][kMixerThreads]) {
    RowGradient<T, E> rows[2];
    float sums[4];
    window[3] = lanes[0][threadIdx.x].unpack();
    dx[3] = {};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      rows[r].template begin<kSilu>(this->convolve(window, r), lanes[1 + r][threadIdx.x].unpack());
      sums[2 * r] = dot(rows[r].u, rows[r].u);
      sums[2 * r + 1] = dot(rows[r].u, rows[r].grad);
    }
    if constexpr (kNormal) {
      Group::template sum_four<T>(sums);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Channels<E> du = rows[r].template end<kNormal>(sums[2 * r], sums[2 * r + 1]);
#pragma unroll
      for (int j = 0; j < kMixerTaps; ++j) {
        add_product(grad_taps[r][j], du, window[j]);
        add_product(dx[j], du, this->taps[r].w[j]);
      }
    }
  }
  __device__ void clear_taps() {
#pragma unroll
    for (int i = 0; i < 2 * kMixerTaps; ++i) {
      grad_taps[i / kMixerTaps][i % kMixerTaps] = {};
    }
  }

  __device__ void store_taps() const {
#pragma unroll
    for (int direction = 0; direction < 2; ++direction) {
      const Channels<E>(&w)[kMixerTaps] = grad_taps[direction];
      auto* const target = reinterpret_cast<float4*>(g.grad_taps) +
                           this->piece * 6 * this->s.heads * D + this->channel(direction);
#pragma unroll
      for (int i = 0; i < E; ++i) {
        const auto tap = [&](int j) { return 0.5f * w[direction == 0 ? j : 3 - j].at[i]; };
        target[i] = make_float4(tap(0), tap(1), tap(2), tap(3));
      }
    }
  }
};

template <typename T, int D, bool kUsual>
__global__ void __launch_bounds__(kMixerThreads, kRowsBackwardBlocks)
    mixer_rows_backward_kernel(const __grid_constant__ MixerRowGradients<float> g,
                               const __grid_constant__ TokenLine line,
                               const __grid_constant__ LineSteps steps) {
  using Rows = RowsBackward<T, D, kUsual>;
  __shared__ typename Rows::Round ring[2];  // one in use, one on its way
  Rows rows(g, line, steps);
  walk_rows(rows, ring);
  if (rows.piece < g.partials) {
    rows.store_taps();
  }
}

}  // namespace comba::kernels::cuda
