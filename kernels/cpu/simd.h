// Vectors of W lanes for the CPU kernels; unaligned loads and stores.
//
// Compiled under several instruction sets, so everything lives in an unnamed namespace: an inline function shared across
// them could be linked in the wrong version.
#pragma once

#include <cstdint>
#include <cstring>

namespace comba::kernels {
namespace {

template <typename Scalar, int W>
struct Simd {
  typedef Scalar Vector
      __attribute__((vector_size(W * sizeof(Scalar)), aligned(sizeof(Scalar)), may_alias));
};
template <typename Scalar, int W>
using Vector = typename Simd<Scalar, W>::Vector;

template <typename Scalar, int W>
inline Vector<Scalar, W>& lanes(Scalar* p) {
  return *reinterpret_cast<Vector<Scalar, W>*>(p);
}
template <typename Scalar, int W>
inline const Vector<Scalar, W>& lanes(const Scalar* p) {
  return *reinterpret_cast<const Vector<Scalar, W>*>(p);
}

// Sum of all lanes, halving.
template <typename Scalar, int W>
inline Scalar horizontal_sum(const Vector<Scalar, W>& x) {
  if constexpr (W == 2) {
    return x[0] + x[1];
  } else {
    Vector<Scalar, W / 2> low, high;
    std::memcpy(&low, &x, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
    return horizontal_sum<Scalar, W / 2>(low + high);
  }
}

template <typename Scalar, int W>
inline Scalar dot(const Scalar* a, const Scalar* b, int64_t n) {
  Vector<Scalar, W> sum{};
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    sum += lanes<Scalar, W>(a + i) * lanes<Scalar, W>(b + i);
  }
  Scalar total = horizontal_sum<Scalar, W>(sum);
  for (; i < n; ++i) {
    total += a[i] * b[i];
  }
  return total;
}

}  // namespace
}  // namespace comba::kernels
