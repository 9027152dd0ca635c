// The operators on CUDA: the CPU suite's cases in every dtype, and what only a GPU can get wrong.
// Suites named Small* finish in seconds under compute-sanitizer.
#include "tests/kernels/compare.h"

#include <cmath>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#ifdef COMBA_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#endif

namespace comba::kernels::test {
namespace {

const at::Device kGpu(at::kCUDA, 0);

#define COMBA_NEEDS_GPU()             \
  if (!at::hasCUDA()) {               \
    GTEST_SKIP() << "no CUDA device"; \
  }

struct CudaCase {
  ScanCase scan;
  at::ScalarType dtype;
};

std::string dtype_word(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kHalf ? "fp16" : "bf16";
}

// CUDA allocations come back dirty: outputs the kernels leave unwritten show as NaN.
void poison_allocator() {
  for (const int64_t bytes : {1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 26}) {
    std::vector<at::Tensor> blocks;
    for (int i = 0; i < 8; ++i) {
      blocks.push_back(
          at::full({bytes / 4}, NAN, at::TensorOptions().device(kGpu).dtype(at::kFloat)));
    }
  }
}

class ScanCuda : public testing::TestWithParam<CudaCase> {};

TEST_P(ScanCuda, MatchesTheTokenRecurrence) {
  COMBA_NEEDS_GPU();
  const auto& [s, dtype] = GetParam();
  const ScanInputs inputs = make_inputs(s, dtype);
  poison_allocator();
  expect_matches_reference(s, inputs, kGpu);
}

std::vector<CudaCase> in_every_dtype(const std::vector<ScanCase>& cases) {
  std::vector<CudaCase> all;
  for (const ScanCase& s : cases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      all.push_back({s, dtype});
    }
  }
  return all;
}

const auto kNames = [](const auto& info) {
  return name_of(info.param.scan) + "_" + dtype_word(info.param.dtype);
};
INSTANTIATE_TEST_SUITE_P(Small, ScanCuda, testing::ValuesIn(in_every_dtype(small_cases())), kNames);
INSTANTIATE_TEST_SUITE_P(Scan, ScanCuda, testing::ValuesIn(in_every_dtype(scan_cases())), kNames);
INSTANTIATE_TEST_SUITE_P(Bidirectional, ScanCuda,
                         testing::ValuesIn(in_every_dtype(bidirectional_cases())), kNames);

TEST(CudaScan, LongSequencesMatch) {
  COMBA_NEEDS_GPU();
  for (const int64_t length : {384, 1024, 4097}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const ScanCase s{.length = length, .key_dim = 64, .value_dim = 64, .heads = 1};
      SCOPED_TRACE(name_of(s) + dtype_word(dtype));
      expect_matches_reference(s, make_inputs(s, dtype), kGpu);
    }
  }
}

// Around the limits of the tensor-core path: one chunk, both directions in shared memory, one, neither.
TEST(CudaScan, BidirectionalSequencesOfEveryLengthMatch) {
  COMBA_NEEDS_GPU();
  for (const int64_t length : {15, 16, 208, 320, 416, 417, 496, 497, 577}) {
    for (const bool own_rows : {false, true}) {
      const ScanCase s{
          .length = length, .key_dim = 64, .value_dim = 64, .merge = "mean", .own_rows = own_rows};
      SCOPED_TRACE(name_of(s));
      expect_matches_reference(s, make_inputs(s, at::kBFloat16), kGpu);
    }
  }
}

// Few heads: the sequence is cut, and every segment starts from the state that exact transitions give.
TEST(CudaScan, CutSequencesMatch) {
  COMBA_NEEDS_GPU();
  const ScanCase kCases[] = {
      {.length = 2560, .key_dim = 64, .value_dim = 64, .keys = Keys::positive},
      {.length = 2577, .key_dim = 32, .value_dim = 32, .own_rows = true},
      {.length = 3100, .key_dim = 128, .value_dim = 128, .keys = Keys::smooth},
      {.length = 4097, .key_dim = 64, .value_dim = 64, .gates = Gates::none, .own_rows = true},
      {.length = 3100, .key_dim = 64, .value_dim = 64, .gates = Gates::full_decay},
      {.length = 3100, .key_dim = 64, .value_dim = 64, .gates = Gates::slight, .own_d = true},
      {.length = 2800,
       .key_dim = 64,
       .value_dim = 64,
       .keys = Keys::identical,
       .c = Strength::strong,
       .decayed_feedback = true,
       .with_d = false},  // its gradient would be a sum that cancels
      {.length = 2800, .key_dim = 64, .value_dim = 64, .decayed_feedback = true, .batch = 2}};
  for (ScanCase s : kCases) {
    s.merge = s.own_rows ? "none" : "mean";
    SCOPED_TRACE(name_of(s));
    poison_allocator();
    expect_matches_reference(s, make_inputs(s, at::kBFloat16), kGpu);
  }
}

// Both ways through the segments in every head dimension and half-width dtype: an odd number of chunks, segments of
// different lengths, a last chunk of one token.
TEST(SmallCudaScan, CutSequencesMatchInEveryHeadDimension) {
  COMBA_NEEDS_GPU();
  for (const int64_t dim : {32, 64, 128}) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const ScanCase s{.length = 2609,
                       .key_dim = dim,
                       .value_dim = dim,
                       .decayed_feedback = dtype == at::kHalf,
                       .merge = dim == 64 ? "sum" : "none",
                       .heads = 1};
      SCOPED_TRACE(name_of(s) + dtype_word(dtype));
      poison_allocator();
      expect_matches_reference(s, make_inputs(s, dtype), kGpu);
    }
  }
}

TEST(CudaScan, LongCutSequencesMatch) {
  COMBA_NEEDS_GPU();
  const ScanCase kCases[] = {
      {.length = 8200},
      {.length = 6001, .keys = Keys::smooth},
      {.length = 6001, .keys = Keys::identical, .decayed_feedback = true, .with_d = false},
      {.length = 6001, .keys = Keys::runs, .gates = Gates::mixed, .decayed_feedback = true},
      {.length = 6001, .gates = Gates::full_decay},
      {.length = 6001, .keys = Keys::positive, .gates = Gates::slight}};
  for (ScanCase s : kCases) {
    s.key_dim = s.value_dim = 64;
    s.heads = 1;
    s.merge = "mean";
    SCOPED_TRACE(name_of(s));
    expect_matches_reference(s, make_inputs(s, at::kBFloat16), kGpu);
  }
}

TEST(CudaScan, CutSequencesGiveTheSameBitsEveryTime) {
  COMBA_NEEDS_GPU();
  for (const int64_t dim : {32, 64, 128}) {
    const ScanCase s{.length = 4001, .key_dim = dim, .value_dim = dim, .merge = "mean", .heads = 3};
    const ScanInputs in = moved(make_inputs(s, at::kBFloat16), kGpu);
    const OutputGradients given = make_output_gradients(s, make_inputs(s, at::kBFloat16));
    const OperatorResult first = run_operator(in, given);
    for (int i = 0; i < 20 && !HasFailure(); ++i) {
      poison_allocator();
      expect_same_bits(first, run_operator(in, given));
    }
  }
}

TEST(CudaScan, OneHundredRunsGiveTheSameBits) {
  COMBA_NEEDS_GPU();
  for (const char* merge : {"", "mean"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const ScanCase s{
          .length = 197, .key_dim = 64, .value_dim = 64, .merge = merge, .batch = 8, .heads = 3};
      const ScanInputs in = moved(make_inputs(s, dtype), kGpu);
      const OutputGradients given = make_output_gradients(s, make_inputs(s, dtype));
      const OperatorResult first = run_operator(in, given);
      for (int i = 0; i < 100 && !HasFailure(); ++i) {
        if (i % 10 == 0) {
          poison_allocator();
        }
        expect_same_bits(first, run_operator(in, given));
      }
    }
  }
}

TEST(CudaScan, StridedInputsGiveTheSameBits) {
  COMBA_NEEDS_GPU();
  const ScanCase s{.length = 70, .key_dim = 64, .value_dim = 32, .batch = 2, .heads = 3};
  const ScanInputs in = moved(make_inputs(s, at::kBFloat16), kGpu);
  OutputGradients given = make_output_gradients(s, make_inputs(s, at::kBFloat16));
  ScanInputs other = in;
  other.q = in.q.transpose(1, 2).contiguous().transpose(1, 2);
  at::Tensor wide = at::full({2, 70, 3, 67}, NAN, in.k.options());
  other.k = wide.slice(3, 1, 65).copy_(in.k);  // rows that start at odd elements
  other.v = in.v.transpose(2, 3).contiguous().transpose(2, 3);
  other.log_alpha = in.log_alpha.transpose(0, 2).contiguous().transpose(0, 2);
  const OperatorResult plain = run_operator(in, given);
  given.o = given.o.transpose(1, 3).contiguous().transpose(1, 3);
  expect_same_bits(plain, run_operator(other, given));
}

// The inputs of one (b, h) of a large problem.
ScanInputs element(const ScanInputs& in, int64_t b, int64_t h) {
  ScanInputs out = in;
  for (at::Tensor* x : {&out.q, &out.k, &out.v, &out.log_alpha, &out.beta, &out.c}) {
    *x = x->narrow(0, b, 1).narrow(2, h, 1);
  }
  out.d = in.d.defined() ? in.d.narrow(0, h, 1) : in.d;
  return out;
}

ScanInputs large_inputs(int64_t batch, int64_t length, int64_t heads, int64_t dim,
                        at::ScalarType dtype) {
  const auto options = at::TensorOptions().device(kGpu).dtype(dtype);
  const auto gates = at::TensorOptions().device(kGpu).dtype(at::kFloat);
  const double size = 1 / std::sqrt(static_cast<double>(dim));
  ScanInputs in;
  in.q = at::randn({batch, length, heads, dim}, options).mul_(size);
  in.k = at::randn({batch, length, heads, dim}, options).mul_(size);
  in.v = at::randn({batch, length, heads, dim}, options);
  in.log_alpha = at::rand({batch, length, heads}, gates).mul_(-0.2);
  in.beta = at::rand({batch, length, heads}, gates);
  in.c = at::rand({batch, length, heads}, gates).mul_(0.8);
  in.d = at::rand({heads}, gates);
  in.scale = size;
  return in;
}

void expect_elements_match(const ScanInputs& in,
                           const std::vector<std::pair<int64_t, int64_t>>& places) {
  at::Tensor k = in.k.detach().requires_grad_(true),
             gate = in.log_alpha.detach().requires_grad_(true);
  ScanInputs tracked = in;
  tracked.k = k;
  tracked.log_alpha = gate;
  const at::Tensor o = run_values(tracked).o;
  const at::Tensor ones = at::full({1}, 1.0, o.options()).expand(o.sizes());
  const auto gradients = torch::autograd::grad({o}, {k, gate}, {ones});
  const auto dtype = in.q.scalar_type();
  for (const auto& [b, h] : places) {
    const ScanInputs one = element(in, b, h);
    const at::Tensor wanted = reference_values(one).o;
    const ScanGradients wanted_gradients =
        reference_gradients(one, at::full({1}, 1.0, at::kDouble).expand(wanted.sizes()), {});
    const auto part = [b = b, h = h](const at::Tensor& x) {
      return x.narrow(0, b, 1).narrow(2, h, 1);
    };
    EXPECT_LE(relative_error(part(o), wanted, 0), bound_of("o", dtype, Keys::random))
        << b << " " << h;
    EXPECT_LE(relative_error(part(gradients[0]), wanted_gradients.k, 0),
              bound_of("grad_k", dtype, Keys::random));
    EXPECT_LE(relative_error(part(gradients[1]), wanted_gradients.log_alpha, 0),
              bound_of("grad_log_alpha", dtype, Keys::random));
  }
}

TEST(CudaScan, MoreHeadsThanAGridDimensionHolds) {
  COMBA_NEEDS_GPU();
  expect_elements_match(large_inputs(40000, 3, 2, 16, at::kFloat),
                        {{0, 0}, {32767, 1}, {32768, 0}, {39999, 1}});
}

// One sample of a batch whose gates are those of two directions.
ScanInputs sample(const ScanInputs& in, int64_t b) {
  ScanInputs one = in;
  for (at::Tensor* rows : {&one.q, &one.k, &one.v}) {
    *rows = rows->narrow(0, b, 1);
  }
  for (at::Tensor* gates : {&one.log_alpha, &one.beta, &one.c}) {
    *gates = gates->narrow(1, b, 1);
  }
  return one;
}

// A block serves several (batch, head) one after another, each in the places that the last one leaves: each gives what it
// gives alone, for odd and even numbers of chunks and for fewer than a group of them.
TEST(CudaScan, SamplesOfALargeBatchGiveTheBitsTheyGiveAlone) {
  COMBA_NEEDS_GPU();
  for (const int64_t dim : {32, 64, 128}) {
    for (const int64_t length : {33, 197, 208}) {
      ScanInputs in = large_inputs(700, length, 3, dim, at::kBFloat16);
      in.merge = "mean";
      for (at::Tensor* gates : {&in.log_alpha, &in.beta, &in.c}) {
        *gates = at::stack({*gates, gates->flip(0)});
      }
      const at::Tensor o = run_values(in).o;
      for (const int64_t b : {0, 87, 88, 175, 264, 351, 528, 699}) {
        EXPECT_TRUE(same_bits(run_values(sample(in, b)).o, o.narrow(0, b, 1)))
            << "D " << dim << " T " << length << " sample " << b;
      }
    }
  }
}

// Where the backward pass's scratch does not hold all of them (T 197) it goes through them in several passes.
TEST(CudaScan, GradientsOfALargeBatchHaveTheBitsTheyHaveAlone) {
  COMBA_NEEDS_GPU();
  for (const int64_t dim : {32, 64, 128}) {
    for (const int64_t length : {33, 197}) {
      ScanInputs in = large_inputs(700, length, 3, dim, at::kBFloat16);
      in.merge = "mean";
      for (at::Tensor* gates : {&in.log_alpha, &in.beta, &in.c}) {
        *gates = at::stack({*gates, gates->flip(0)});
      }
      const at::Tensor grad_o = at::randn_like(in.q);
      const ScanGradients all = run_operator(in, {grad_o, {}}).gradients;
      for (const int64_t b : {0, 351, 542, 543, 544, 699}) {
        const ScanGradients one =
            run_operator(sample(in, b), {grad_o.narrow(0, b, 1), {}}).gradients;
        const std::string where = fmt::format("D {} T {} sample {}", dim, length, b);
        EXPECT_TRUE(same_bits(one.q, all.q.narrow(0, b, 1))) << where;
        EXPECT_TRUE(same_bits(one.k, all.k.narrow(0, b, 1))) << where;
        EXPECT_TRUE(same_bits(one.v, all.v.narrow(0, b, 1))) << where;
        EXPECT_TRUE(same_bits(one.log_alpha, all.log_alpha.narrow(1, b, 1))) << where;
        EXPECT_TRUE(same_bits(one.beta, all.beta.narrow(1, b, 1))) << where;
        EXPECT_TRUE(same_bits(one.c, all.c.narrow(1, b, 1))) << where;
      }
    }
  }
}

// The scratch of 200 cut sequences of this length is over its limit: two passes.
TEST(CudaScan, CutSequencesInSeveralPassesMatch) {
  COMBA_NEEDS_GPU();
  ScanInputs in = large_inputs(50, 20000, 2, 32, at::kBFloat16);
  in.merge = "sum";
  for (at::Tensor* gates : {&in.log_alpha, &in.beta, &in.c}) {
    *gates = at::stack({*gates, gates->flip(0)});
  }
  const at::Tensor grad_o = at::randn_like(in.q);
  const ScanGradients found = run_operator(in, {grad_o, {}}).gradients;
  for (const int64_t b : {0, 49}) {
    const ScanGradients wanted =
        reference_gradients(sample(in, b), grad_o.narrow(0, b, 1).cpu(), {});
    const auto check = [&](const char* name, const at::Tensor& x, const at::Tensor& reference) {
      EXPECT_LE(relative_error(x, reference, 0), bound_of(name, at::kBFloat16, Keys::random))
          << name << " of sample " << b;
    };
    check("grad_q", found.q.narrow(0, b, 1), wanted.q);
    check("grad_k", found.k.narrow(0, b, 1), wanted.k);
    check("grad_v", found.v.narrow(0, b, 1), wanted.v);
    check("grad_log_alpha", found.log_alpha.narrow(1, b, 1), wanted.log_alpha);
    check("grad_beta", found.beta.narrow(1, b, 1), wanted.beta);
    check("grad_c", found.c.narrow(1, b, 1), wanted.c);
  }
}

// Where the output is memory that no one has touched yet, its first stores are slow, and loads queue behind them: a place
// of rows given free before what was last read of it had come was once overwritten (the state of one warp in 79 of 150 such
// runs).
TEST(CudaScan, OutputsInFreshMemoryHaveTheSameBits) {
  COMBA_NEEDS_GPU();
#ifdef COMBA_CUDA
  for (const int64_t dim : {32, 64, 128}) {
    ScanInputs in = large_inputs(150, 197, 5, dim, at::kBFloat16);
    in.merge = "mean";
    for (at::Tensor* gates : {&in.log_alpha, &in.beta, &in.c}) {
      *gates = at::stack({*gates, gates->flip(0)});
    }
    const at::Tensor o = run_values(in).o;
    for (int i = 0; i < 60 && !HasFailure(); ++i) {
      c10::cuda::CUDACachingAllocator::emptyCache();
      const at::Tensor other = at::zeros({(300 + 2 * i) << 20}, o.options().dtype(at::kByte));
      EXPECT_TRUE(same_bits(run_values(in).o, o)) << "D " << dim << " run " << i;
    }
  }
#endif
}

// 2^31 elements and more in q, k, v and o: 32-bit offsets would wrap.
TEST(CudaScan, TensorsBeyondTwoToThe31Elements) {
  COMBA_NEEDS_GPU();
#ifdef COMBA_CUDA
  c10::cuda::CUDACachingAllocator::emptyCache();
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  if (free < size_t{110} << 30) {
    GTEST_SKIP() << "needs 110 GiB of free GPU memory, " << (free >> 30) << " GiB are free";
  }
  ScanInputs in = large_inputs(2100, 1024, 8, 128, at::kBFloat16);
  ASSERT_GT(in.q.numel(), int64_t{1} << 31);
  const at::Tensor o = run_values(in).o;
  for (const auto& [b, h] : {std::pair<int64_t, int64_t>{0, 0}, {2047, 7}, {2048, 0}, {2099, 7}}) {
    const at::Tensor wanted = reference_values(element(in, b, h)).o;
    EXPECT_LE(relative_error(o.narrow(0, b, 1).narrow(2, h, 1), wanted, 0),
              bound_of("o", at::kBFloat16, Keys::random))
        << b << " " << h;
  }
  c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

// A small storage seen through strides that reach past 2^31 elements: 64-bit offsets in the
// backward too.
TEST(CudaScan, GradientsThroughStridesBeyond32Bits) {
  COMBA_NEEDS_GPU();
#ifdef COMBA_CUDA
  c10::cuda::CUDACachingAllocator::emptyCache();
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  if (free < size_t{24} << 30) {
    GTEST_SKIP() << "needs 24 GiB of free GPU memory, " << (free >> 30) << " GiB are free";
  }
  ScanInputs in = large_inputs(3, 40, 2, 64, at::kFloat);
  constexpr int64_t kBatchStride = 1100000000;  // [3, T, H, D] spread over 2.2e9 elements
  at::Tensor storage = at::empty({2 * kBatchStride + 40 * 2 * 64}, in.k.options());
  in.k = storage.as_strided(in.k.sizes(), {kBatchStride, 128, 64, 1}).copy_(in.k);
  expect_elements_match(in, {{0, 0}, {1, 1}, {2, 1}});
  c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

TEST(CudaScan, FlippingTheSequenceIsReversingTheScan) {
  COMBA_NEEDS_GPU();
  const ScanCase s{.length = 197, .key_dim = 64, .value_dim = 64, .batch = 2};
  const ScanInputs in = moved(make_inputs(s, at::kFloat), kGpu);
  ScanInputs other = in;
  for (at::Tensor* x : {&other.q, &other.k, &other.v, &other.log_alpha, &other.beta, &other.c}) {
    *x = x->flip(1);
  }
  other.reverse = true;
  EXPECT_TRUE(same_bits(run_values(in).o, run_values(other).o.flip(1)));
}

TEST(CudaScan, NotANumberStaysInItsBatchAndHead) {
  COMBA_NEEDS_GPU();
  const ScanCase s{.length = 70, .key_dim = 64, .value_dim = 64, .batch = 2, .heads = 3};
  const ScanInputs clean = moved(make_inputs(s, at::kFloat), kGpu);
  const OutputGradients given = make_output_gradients(s, make_inputs(s, at::kFloat));
  const OperatorResult expected = run_operator(clean, given);
  for (at::Tensor ScanInputs::*x :
       {&ScanInputs::q, &ScanInputs::k, &ScanInputs::v, &ScanInputs::c}) {
    ScanInputs in = clean;
    in.*x = (clean.*x).clone();
    (in.*x).select(0, 1).select(0, 11).select(0, 2).fill_(NAN);
    const OperatorResult found = run_operator(in, given);
    EXPECT_TRUE(found.values.o.select(0, 1).select(1, 2).isnan().any().item<bool>());
    for (const auto& [a, b] :
         {std::pair{found.values.o, expected.values.o},
          std::pair{found.gradients.k, expected.gradients.k},
          std::pair{found.gradients.log_alpha, expected.gradients.log_alpha}}) {
      EXPECT_TRUE(same_bits(a.select(0, 0), b.select(0, 0)));
      EXPECT_TRUE(same_bits(a.narrow(2, 0, 2), b.narrow(2, 0, 2)));
    }
  }
}

TEST(CudaScan, HeadDimensionsThatAreNotBuiltAreRefused) {
  COMBA_NEEDS_GPU();
  for (const auto& [key_dim, value_dim] : {std::pair<int64_t, int64_t>{48, 64}, {64, 80}}) {
    const ScanInputs in = moved(
        make_inputs({.length = 4, .key_dim = key_dim, .value_dim = value_dim}, at::kFloat), kGpu);
    try {
      run_values(in);
      FAIL() << "no exception";
    } catch (const c10::Error& error) {
      const std::string message = error.what_without_backtrace();
      EXPECT_NE(message.find(key_dim == 48 ? "q: head dimension 48" : "v: head dimension 80"),
                std::string::npos)
          << message;
      EXPECT_NE(message.find("16, 32, 64 or 128"), std::string::npos) << message;
    }
  }
}

TEST(CudaScan, TensorsOnAnotherDeviceAndFloat64AreRefused) {
  COMBA_NEEDS_GPU();
  const ScanCase s{.length = 4};
  ScanInputs in = moved(make_inputs(s, at::kFloat), kGpu);
  in.beta = in.beta.cpu();
  EXPECT_THROW(run_values(in), c10::Error);
  EXPECT_THROW(run_values(moved(make_inputs(s, at::kDouble), kGpu)), c10::Error);
}

}  // namespace
}  // namespace comba::kernels::test
