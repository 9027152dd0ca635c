#include "kernels/block/column_sums_kernel.h"
#include "kernels/block/columns.cuh"

namespace comba::kernels::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kColumnLanes* kColumnWarps)
    column_sums_kernel(const T* x, int64_t rows, int64_t width, float* sums) {
  const Columns<T> columns;
  using Lane = typename Columns<T>::Lane;
  Channels<Columns<T>::E> own = {};
  columns.walk(
      rows, width, [&](int64_t at) { return Lane::load(x + at); },
      [&](int64_t, const Lane& lane) {
        const auto values = lane.unpack();
#pragma unroll
        for (int i = 0; i < Columns<T>::E; ++i) {
          own.at[i] += values.at[i];
        }
      });
  Columns<T>::store_sums(own, width, sums, width);
}

}  // namespace

cudaError_t launch_column_sums(Element element, const void* x, int64_t rows, int64_t width,
                               int64_t partials, float* sums, cudaStream_t stream) {
  const dim3 grid(column_blocks(element, width), static_cast<unsigned>(partials));
  return with_element(element, [&](auto number) {
    using T = decltype(number);
    column_sums_kernel<T><<<grid, dim3(kColumnLanes, kColumnWarps), 0, stream>>>(
        static_cast<const T*>(x), rows, width, sums);
  });
}

int64_t column_sums_partials(Element element, int64_t rows, int64_t width) {
  return row_blocks(element, rows, width);
}

}  // namespace comba::kernels::cuda
