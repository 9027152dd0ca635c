// kKernels of one instruction set, see pixel_kernels.h; included once for each.
#pragma once

#include "datasets/pixel_kernels.h"

#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace comba::datasets {
namespace {

using Bytes4 = uint8_t __attribute__((vector_size(4)));
using Bytes8 = uint8_t __attribute__((vector_size(8)));
using Ints4 = int32_t __attribute__((vector_size(16)));
using Ints8 = int32_t __attribute__((vector_size(32)));
using Floats4 = float __attribute__((vector_size(16)));

// Four and eight bytes as integers and back (of values 0..255); compilers make scalar code of the general form.
#ifdef __AVX2__
Ints4 widen_four(const uint8_t* at) {
  int32_t bytes = 0;
  std::memcpy(&bytes, at, 4);
  return reinterpret_cast<Ints4>(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
}
Ints8 widen_eight(const uint8_t* at) {
  return reinterpret_cast<Ints8>(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
}
Bytes4 narrow(Ints4 x) {
  const __m128i words = _mm_packs_epi32(reinterpret_cast<__m128i>(x), reinterpret_cast<__m128i>(x));
  const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  Bytes4 out;
  std::memcpy(&out, &bytes, 4);
  return out;
}
Bytes8 narrow(Ints8 x) {
  const auto wide = reinterpret_cast<__m256i>(x);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  const int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
  Bytes8 out;
  std::memcpy(&out, &bytes, 8);
  return out;
}
#else
Ints4 widen_four(const uint8_t* at) {
  Bytes4 bytes;
  std::memcpy(&bytes, at, 4);
  return __builtin_convertvector(bytes, Ints4);
}
Ints8 widen_eight(const uint8_t* at) {
  Bytes8 bytes;
  std::memcpy(&bytes, at, 8);
  return __builtin_convertvector(bytes, Ints8);
}
Bytes4 narrow(Ints4 x) { return __builtin_convertvector(x, Bytes4); }
Bytes8 narrow(Ints8 x) { return __builtin_convertvector(x, Bytes8); }
#endif

// Not std::clamp: no function with a name that other files share may be built for one instruction set.
int clamped(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

constexpr int32_t kHalf = 1 << (kResampleBits - 1);

template <typename Ints>
Ints rounded(Ints sum) {
  sum >>= kResampleBits;
  sum = sum < 0 ? Ints{} : sum;
  return sum > 255 ? Ints{} + 255 : sum;
}

// RGB pixels to four bytes each.
void spread_pixels(const uint8_t* row, int width, uint8_t* spread) {
  int x = 0;
#ifdef __AVX2__
  const __m128i places = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
  for (; x + 6 <= width; x += 4) {  // loads 16 bytes of at least 18
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 3 * x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(spread + 4 * x), _mm_shuffle_epi8(four, places));
  }
#endif
  for (; x < width; ++x) {
    for (int c = 0; c < 3; ++c) {
      spread[4 * x + c] = row[3 * x + c];
    }
  }
}

// Of `count` pixels of four bytes, with the half that rounds; up to four bytes behind the last are read.
Ints4 weighted_sum(const uint8_t* pixels, const int32_t* weight, int count) {
  Ints4 sum = Ints4{} + kHalf;
  int j = 0;
#ifdef __AVX2__
  const __m256i twice = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  __m256i pairs = _mm256_setzero_si256();
  for (; j + 2 <= count; j += 2) {
    const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(weight + j));
    const __m256i by = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(two), twice);
    const auto values = reinterpret_cast<__m256i>(widen_eight(pixels + 4 * j));
    pairs = _mm256_add_epi32(pairs, _mm256_mullo_epi32(values, by));
  }
  sum += reinterpret_cast<Ints4>(
      _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1)));
#endif
  for (; j < count; ++j) {
    sum += widen_four(pixels + 4 * j) * weight[j];
  }
  return sum;
}

void resize_grey_row(const uint8_t* row, const ResampleWeights& w, uint8_t* out) {
  for (int i = 0; i < w.outputs; ++i) {
    const int32_t* const weight = w.weight + ptrdiff_t{i} * w.stride;
    int32_t sum = kHalf;
    for (int j = 0; j < w.count[i]; ++j) {
      sum += row[w.first[i] + j] * weight[j];
    }
    out[i] = static_cast<uint8_t>(clamped(sum >> kResampleBits, 0, 255));
  }
}

void resize_row(const uint8_t* row, int width, int channels, const ResampleWeights& w,
                uint8_t* spread, uint8_t* out) {
  if (channels == 1) {
    resize_grey_row(row, w, out);
    return;
  }
  spread_pixels(row, width, spread);
  for (int i = 0; i < w.outputs; ++i) {
    const int32_t* const weight = w.weight + ptrdiff_t{i} * w.stride;
    const uint8_t* const from = spread + ptrdiff_t{4} * w.first[i];
    const Bytes4 pixel = narrow(rounded(weighted_sum(from, weight, w.count[i])));
    std::memcpy(out + 3 * i, &pixel, 3);
  }
}

void resize_column(const uint8_t* rows, ptrdiff_t pitch, int bytes, const ResampleWeights& w,
                   int index, uint8_t* out) {
  const int32_t* const weight = w.weight + ptrdiff_t{index} * w.stride;
  const uint8_t* const from = rows + w.first[index] * pitch;
  const int count = w.count[index];
  int x = 0;
  for (; x + 8 <= bytes; x += 8) {
    Ints8 sum = Ints8{} + kHalf;
    for (int j = 0; j < count; ++j) {
      sum += widen_eight(from + j * pitch + x) * weight[j];
    }
    const Bytes8 eight = narrow(rounded(sum));
    std::memcpy(out + x, &eight, 8);
  }
  for (; x < bytes; ++x) {
    int32_t sum = kHalf;
    for (int j = 0; j < count; ++j) {
      sum += from[j * pitch + x] * weight[j];
    }
    out[x] = static_cast<uint8_t>(clamped(sum >> kResampleBits, 0, 255));
  }
}

// The cubic through four values at -1, 0, 1, 2 with a = -1, at `at` in [0, 1).
Floats4 cubic(Floats4 a, Floats4 b, Floats4 c, Floats4 d, float at) {
  return b + at * ((c - a) + at * ((2.f * (a - b) + c - d) + at * (b - a - c + d)));
}

void warp(const uint8_t* source, int height, int width, const AffineMap& m, uint8_t* out) {
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x, out += 3) {
      const double in_x = m.xx * (x + 0.5) + m.xy * (y + 0.5) + m.x0;
      const double in_y = m.yx * (x + 0.5) + m.yy * (y + 0.5) + m.y0;
      if (!(in_x >= 0 && in_x < width && in_y >= 0 && in_y < height)) {
        continue;
      }
      // The cast rounds up below zero, which only -1/2 .. 0 is.
      const int left = static_cast<int>(in_x + 0.5) - 1, top = static_cast<int>(in_y + 0.5) - 1;
      const auto at_x = static_cast<float>(in_x - 0.5 - left);
      const auto at_y = static_cast<float>(in_y - 0.5 - top);
      int columns[4];
      Floats4 line[4];
      for (int i = 0; i < 4; ++i) {
        columns[i] = 4 * clamped(left - 1 + i, 0, width - 1);
      }
      for (int i = 0; i < 4; ++i) {
        const uint8_t* const row =
            source + ptrdiff_t{4} * width * clamped(top - 1 + i, 0, height - 1);
        Floats4 value[4];
        for (int j = 0; j < 4; ++j) {
          value[j] = __builtin_convertvector(widen_four(row + columns[j]), Floats4);
        }
        line[i] = cubic(value[0], value[1], value[2], value[3], at_x);
      }
      Floats4 pixel = cubic(line[0], line[1], line[2], line[3], at_y);
      pixel = pixel < 0.f ? Floats4{} : pixel;
      pixel = pixel > 255.f ? Floats4{} + 255.f : pixel;
      const Bytes4 bytes = narrow(__builtin_convertvector(pixel, Ints4));
      std::memcpy(out, &bytes, 3);
    }
  }
}

constexpr PixelKernels kKernels{&resize_row, &resize_column, &warp};

}  // namespace
}  // namespace comba::datasets
