// The mixer operator against its definition in fp64: LibTorch's convolution, norms and autograd around the oracle of the
// scan.
#include "kernels/mixer.h"

#include "tests/kernels/compare.h"

#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#ifdef COMBA_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#endif

namespace comba::kernels::test {
namespace {

struct MixerCase {
  const char* name;
  int64_t batch = 2, length = 37, heads = 2, dim = 32, taps = 4, directions = 2;
  bool normalize = true, gate = true, d = true, decayed_feedback = false, strided = false;
  const char* merge = "mean";
};

void PrintTo(const MixerCase& c, std::ostream* out) { *out << c.name; }

const MixerCase kCases[] = {
    {.name = "usual"},
    {.name = "head_dim_16", .length = 20, .dim = 16},
    {.name = "short_of_head_dim_64", .length = 20, .heads = 1, .dim = 64},
    {.name = "head_dim_64", .length = 70, .heads = 3, .dim = 64},
    {.name = "head_dim_128", .length = 40, .heads = 1, .dim = 128},
    {.name = "groups_of_head_dim_128", .batch = 1, .length = 150, .heads = 2, .dim = 128},
    {.name = "groups_of_head_dim_32", .length = 70},
    {.name = "two_taps", .taps = 2},
    {.name = "one_tap_one_token", .length = 1, .taps = 1},
    {.name = "shorter_than_the_taps", .length = 3},
    {.name = "a_strip_and_a_token", .length = 33, .dim = 64},
    {.name = "no_norm", .normalize = false},
    {.name = "no_gate", .gate = false},
    {.name = "no_correction_decayed_sum", .d = false, .decayed_feedback = true, .merge = "sum"},
    {.name = "strided", .strided = true},
    {.name = "no_gate_of_head_dim_64", .length = 50, .dim = 64, .gate = false, .merge = "sum"},
    {.name = "no_norm_of_head_dim_64", .length = 50, .dim = 64, .normalize = false},
    {.name = "two_taps_strided_of_head_dim_64", .dim = 64, .taps = 2, .strided = true},
    {.name = "no_correction_decayed_of_head_dim_64",
     .length = 49,
     .dim = 64,
     .d = false,
     .decayed_feedback = true},
    {.name = "long", .batch = 1, .length = 300, .dim = 64, .merge = "sum"},
    {.name = "no_convolution", .taps = 0},
    {.name = "no_convolution_of_head_dim_64", .length = 50, .dim = 64, .taps = 0},
    {.name = "no_convolution_no_norm", .taps = 0, .normalize = false},
    {.name = "one_direction", .directions = 1},
    {.name = "one_direction_of_head_dim_16", .length = 20, .dim = 16, .directions = 1},
    {.name = "one_direction_of_head_dim_64", .length = 70, .heads = 3, .dim = 64, .directions = 1},
    {.name = "one_direction_no_gate_decayed_sum",
     .directions = 1,
     .gate = false,
     .d = false,
     .decayed_feedback = true,
     .merge = "sum"},
    {.name = "one_direction_two_taps_strided", .taps = 2, .directions = 1, .strided = true},
    {.name = "one_direction_no_convolution_of_head_dim_128",
     .length = 40,
     .heads = 3,
     .dim = 128,
     .taps = 0,
     .directions = 1},
    {.name = "long_one_direction", .batch = 1, .length = 300, .dim = 64, .directions = 1},
    {.name = "concat", .merge = "concat"},
    {.name = "concat_of_head_dim_16", .length = 20, .heads = 3, .dim = 16, .merge = "concat"},
    {.name = "concat_of_head_dim_64", .length = 70, .heads = 3, .dim = 64, .merge = "concat"},
    {.name = "concat_no_gate", .gate = false, .merge = "concat"},
    {.name = "concat_no_convolution_strided", .taps = 0, .strided = true, .merge = "concat"},
    {.name = "concat_one_token", .length = 1, .merge = "concat"},
};

using Named = std::vector<std::pair<std::string, at::Tensor>>;

// In the order of the operator's arguments; absent ones are undefined.
Named tensors_of(const MixerInputs& in) {
  return {{"qkv", in.qkv},
          {"taps", in.taps},
          {"log_alpha", in.log_alpha},
          {"beta", in.beta},
          {"c", in.c},
          {"d", in.d},
          {"gate", in.gate},
          {"norm_weight", in.norm_weight}};
}

MixerInputs make_mixer_inputs(const MixerCase& c, at::ScalarType dtype) {
  at::manual_seed(7);
  const auto wide = at::TensorOptions().dtype(dtype == at::kDouble ? at::kDouble : at::kFloat);
  const std::vector<int64_t> per_token = {c.directions, c.batch, c.length, c.heads};
  MixerInputs in;
  const int64_t slack = c.strided ? 2 : 0;
  in.qkv = at::randn({c.batch, c.length, 3, c.heads + slack, c.dim}, wide).to(dtype);
  in.qkv = in.qkv.narrow(3, slack / 2, c.heads);
  if (!c.normalize) {
    in.qkv = (in.qkv * 0.25).to(dtype);  // long keys would make the recurrence grow
  }
  in.taps = at::randn({c.directions, 3, c.heads, c.dim, c.taps}, wide) * 0.5;
  in.log_alpha = at::rand(per_token, wide) * -0.5;
  in.beta = at::rand(per_token, wide);
  in.c = at::rand(per_token, wide);
  if (c.d) {
    in.d = at::randn({c.directions, c.heads}, wide) * 0.3;
  }
  if (c.gate) {
    in.gate = at::randn({c.batch, c.length, c.heads, c.dim}, wide).to(dtype);
  }
  in.norm_weight = at::randn({c.dim}, wide) + 1.0;
  return in;
}

MixerOptions options_of(const MixerCase& c) {
  return {.scale = 0.25,
          .decayed_feedback = c.decayed_feedback,
          .normalize = c.normalize,
          .merge = c.merge,
          .norm_eps = 1e-5};
}

// Leaves of their own, on the device.
MixerInputs leaves(const MixerInputs& in, at::Device device, at::ScalarType* all = nullptr) {
  const auto leaf = [&](const at::Tensor& x) {
    if (!x.defined()) {
      return x;
    }
    at::Tensor copy = x.detach().to(device);
    copy = all != nullptr ? copy.to(*all) : copy;
    return copy.set_requires_grad(true);
  };
  return {leaf(in.qkv), leaf(in.taps), leaf(in.log_alpha), leaf(in.beta),
          leaf(in.c),   leaf(in.d),    leaf(in.gate),      leaf(in.norm_weight)};
}

struct MixerResult {
  at::Tensor y;
  Named gradients;
  double d_size = 0;  // see ScanGradients
};

std::vector<at::Tensor> present(const MixerInputs& in) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, x] : tensors_of(in)) {
    if (x.defined()) {
      tensors.push_back(x);
    }
  }
  return tensors;
}

Named named_gradients(const MixerInputs& in, const std::vector<at::Tensor>& gradients) {
  Named named;
  size_t n = 0;
  for (const auto& [name, x] : tensors_of(in)) {
    if (x.defined()) {
      named.emplace_back(name, gradients[n++]);
    }
  }
  return named;
}

// [B, T, H, D] of one part after convolution and SiLU, in time order.
at::Tensor reference_convolved(const MixerInputs& in, int64_t part, int64_t direction) {
  if (in.taps.size(-1) == 0) {
    return in.qkv.select(2, part);
  }
  const at::Tensor x = in.qkv.select(2, part).flatten(2).transpose(1, 2);  // [B, H D, T]
  const at::Tensor w = in.taps[direction][part].flatten(0, 1);             // [H D, taps]
  const int64_t taps = w.size(1);
  const at::Tensor ordered = direction == 0 ? x : x.flip(2);
  const at::Tensor y = at::silu(at::conv1d(at::constant_pad_nd(ordered, {taps - 1, 0}),
                                           w.unsqueeze(1), at::Tensor(), at::IntArrayRef({1}),
                                           at::IntArrayRef({0}), at::IntArrayRef({1}), w.size(0)));
  return (direction == 0 ? y : y.flip(2))
      .transpose(1, 2)
      .unflatten(-1, {in.qkv.size(3), in.qkv.size(4)});
}

// [R, B, T, H, D]
at::Tensor reference_rows(const MixerInputs& in, int64_t part, bool normalize) {
  std::vector<at::Tensor> each;
  for (int64_t r = 0; r < in.taps.size(0); ++r) {
    each.push_back(reference_convolved(in, part, r));
  }
  const at::Tensor rows = at::stack(each);
  return normalize ? rows / (rows.square().sum(-1, true) + 1e-6).sqrt() : rows;
}

MixerResult reference(const MixerInputs& given, const MixerOptions& options,
                      const at::Tensor& grad_y) {
  at::ScalarType wide = at::kDouble;
  const MixerInputs in = leaves(given, at::kCPU, &wide);
  std::vector<at::Tensor> rows;
  for (int64_t part = 0; part < 3; ++part) {
    rows.push_back(reference_rows(in, part, options.normalize && part < 2));
  }
  const bool one = in.taps.size(0) == 1, apart = options.merge == "concat";
  const auto given_to_scan = [&](const at::Tensor& x) {  // one direction: the scan in time order
    const at::Tensor plain = x.defined() ? x.detach() : x;
    return one && plain.defined() ? plain[0] : plain;
  };
  ScanInputs scan;
  scan.q = given_to_scan(rows[0]);
  scan.k = given_to_scan(rows[1]);
  scan.v = given_to_scan(rows[2]);
  scan.log_alpha = given_to_scan(in.log_alpha);
  scan.beta = given_to_scan(in.beta);
  scan.c = given_to_scan(in.c);
  scan.d = given_to_scan(in.d);
  scan.scale = options.scale;
  scan.decayed_feedback = options.decayed_feedback;
  scan.merge = one ? "" : apart ? "none" : std::string(options.merge);
  const at::Tensor scanned = reference_values(scan).o;
  const at::Tensor o =
      (apart ? scanned.permute({1, 2, 0, 3, 4}) : scanned).detach().set_requires_grad(true);
  at::Tensor y = o / (o.square().mean(-1, true) + options.norm_eps).sqrt() * in.norm_weight;
  if (in.gate.defined()) {
    y = y * (apart ? in.gate.unsqueeze(2) : in.gate).sigmoid();
  }
  std::vector<at::Tensor> behind = {o, in.norm_weight};
  if (in.gate.defined()) {
    behind.push_back(in.gate);
  }
  const auto grad_behind = torch::autograd::grad({y}, behind, {grad_y});
  const at::Tensor grad_o = apart ? grad_behind[0].permute({2, 0, 1, 3, 4}) : grad_behind[0];
  const ScanGradients g = reference_gradients(scan, grad_o, {});
  const auto of_each = [&](const at::Tensor& x) { return one ? x.unsqueeze(0) : x; };
  const auto grad_before = torch::autograd::grad(
      {rows[0], rows[1], rows[2]}, {in.qkv, in.taps}, {of_each(g.q), of_each(g.k), of_each(g.v)},
      /*retain_graph=*/std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
  MixerResult result{y.detach(), {}, g.d_size};
  const at::Tensor grad_taps = grad_before[1].defined() ? grad_before[1] : at::zeros_like(in.taps);
  std::vector<at::Tensor> gradients = {grad_before[0], grad_taps, of_each(g.log_alpha),
                                       of_each(g.beta), of_each(g.c)};
  if (in.d.defined()) {
    gradients.push_back(of_each(g.d));
  }
  if (in.gate.defined()) {
    gradients.push_back(grad_behind[2]);
  }
  gradients.push_back(grad_behind[1]);
  result.gradients = named_gradients(in, gradients);
  return result;
}

MixerResult run(const MixerInputs& given, const MixerOptions& options, const at::Tensor& grad_y,
                at::Device device) {
  const MixerInputs in = leaves(given, device);
  const at::Tensor y = mixer(in, options);
  const auto gradients =
      torch::autograd::grad({y}, present(in), {grad_y.to(device).to(y.scalar_type())});
  return {y.detach(), named_gradients(in, gradients), 0};
}

// The rows' and the scan's rounding together; d and the sums over tokens judge like log alpha (scan tests).
double bound(const std::string& name, at::ScalarType dtype) {
  if (dtype == at::kDouble) {
    return 1e-10;
  }
  if (dtype == at::kFloat) {
    return 2e-5;
  }
  const double half = name == "d" || name == "log_alpha" ? 2e-2 : 1.2e-2;
  return dtype == at::kBFloat16 ? half
                                : half / 5;  // the GPU's tanh is within 2^-11, whatever the dtype
}

void expect_mixer_matches(const MixerCase& c, at::ScalarType dtype, at::Device device) {
  const MixerInputs in = make_mixer_inputs(c, dtype);
  const MixerOptions options = options_of(c);
  std::vector<int64_t> sizes = {c.batch, c.length, c.heads, c.dim};
  if (options.merge == "concat") {
    sizes.insert(sizes.begin() + 2, 2);
  }
  const at::Tensor grad_y = at::randn(sizes).to(dtype).to(at::kDouble);
  const MixerResult want = reference(in, options, grad_y), got = run(in, options, grad_y, device);
  EXPECT_EQ(got.y.scalar_type(), dtype);
  EXPECT_LE(relative_error(got.y, want.y, 1e-37), bound("y", dtype)) << "y";
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    const auto& [name, gradient] = want.gradients[i];
    EXPECT_EQ(got.gradients[i].second.sizes(), gradient.sizes()) << name;
    const double least_size = name == "d" ? want.d_size : 0;
    EXPECT_LE(relative_error(got.gradients[i].second, gradient, 1e-37, least_size),
              bound(name, dtype))
        << name;
  }
  const MixerResult again = run(in, options, grad_y, device);
  EXPECT_TRUE(same_bits(again.y, got.y));
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_TRUE(same_bits(again.gradients[i].second, got.gradients[i].second))
        << got.gradients[i].first;
  }
}

std::string name_of(const MixerCase& c) { return c.name; }

class Mixer : public testing::TestWithParam<MixerCase> {};

TEST_P(Mixer, MatchesItsDefinitionInDouble) {
  expect_mixer_matches(GetParam(), at::kDouble, at::kCPU);
}
TEST_P(Mixer, MatchesItsDefinitionInFloat) {
  expect_mixer_matches(GetParam(), at::kFloat, at::kCPU);
}
INSTANTIATE_TEST_SUITE_P(All, Mixer, testing::ValuesIn(kCases),
                         [](const auto& info) { return name_of(info.param); });

TEST(MixerHalf, BFloat16OnTheCpuRoundsOnlyAtTheEnds) {
  expect_mixer_matches(kCases[0], at::kBFloat16, at::kCPU);
}

// With a gradient of zero for the other direction, whose own part of everything is zero then.
void expect_one_direction_is_the_first_of_two(const MixerCase& c, at::ScalarType dtype,
                                              at::Device device) {
  const MixerInputs two = make_mixer_inputs(c, dtype);
  MixerInputs one = two;
  for (at::Tensor* x : {&one.taps, &one.log_alpha, &one.beta, &one.c, &one.d}) {
    *x = x->narrow(0, 0, 1);
  }
  MixerOptions options = options_of(c);
  const at::Tensor grad_y = at::randn({c.batch, c.length, c.heads, c.dim}).to(dtype);
  const MixerResult alone = run(one, options, grad_y, device);
  options.merge = "concat";
  const MixerResult first =
      run(two, options, at::stack({grad_y, at::zeros_like(grad_y)}, 2), device);
  EXPECT_TRUE(same_bits(alone.y, first.y.select(2, 0)));
  for (size_t i = 0; i < alone.gradients.size(); ++i) {
    const auto& [name, gradient] = alone.gradients[i];
    const bool whole = name == "qkv" || name == "gate" || name == "norm_weight";
    const at::Tensor& both = first.gradients[i].second;
    if (name == "norm_weight") {  // summed in another order
      EXPECT_LE(relative_error(both, gradient.cpu().to(at::kDouble), 0), 1e-6);
    } else {
      EXPECT_TRUE((whole ? both : both.narrow(0, 0, 1)).equal(gradient)) << name;
    }
  }
}

TEST(MixerDirections, OneHasTheBitsOfTheFirstOfTwo) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    expect_one_direction_is_the_first_of_two(kCases[0], dtype, at::kCPU);
  }
}

TEST(CudaMixer, OneDirectionHasTheBitsOfTheFirstOfTwo) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const int64_t dim : {16, 32, 64, 128}) {
    for (const int64_t taps : {0, 2, 4}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(testing::Message() << "D " << dim << ", " << taps << " taps, " << dtype);
        expect_one_direction_is_the_first_of_two(
            {.name = "", .length = 70, .dim = dim, .taps = taps}, dtype, at::Device(at::kCUDA, 0));
      }
    }
  }
}

struct CudaMixerCase {
  MixerCase mixer;
  at::ScalarType dtype;
};
void PrintTo(const CudaMixerCase& c, std::ostream* out) { *out << c.mixer.name; }

class MixerCuda : public testing::TestWithParam<CudaMixerCase> {};

TEST_P(MixerCuda, MatchesItsDefinition) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_mixer_matches(GetParam().mixer, GetParam().dtype, at::Device(at::kCUDA, 0));
}

std::vector<CudaMixerCase> cuda_cases(size_t count) {
  std::vector<CudaMixerCase> cases;
  for (size_t i = 0; i < count; ++i) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      cases.push_back({kCases[i], dtype});
    }
  }
  return cases;
}

std::string cuda_name(const testing::TestParamInfo<CudaMixerCase>& info) {
  const at::ScalarType dtype = info.param.dtype;
  return std::string(info.param.mixer.name) + (dtype == at::kFloat  ? "_fp32"
                                               : dtype == at::kHalf ? "_fp16"
                                                                    : "_bf16");
}

INSTANTIATE_TEST_SUITE_P(All, MixerCuda, testing::ValuesIn(cuda_cases(std::size(kCases))),
                         cuda_name);
INSTANTIATE_TEST_SUITE_P(Small, MixerCuda, testing::ValuesIn(cuda_cases(3)), cuda_name);

// Samples of a large batch against the definition of each alone.
void expect_samples_match(const MixerCase& c, const std::vector<int64_t>& samples) {
  const at::Device gpu(at::kCUDA, 0);
  const auto wide = at::TensorOptions().device(gpu).dtype(at::kFloat);
  const auto half = wide.dtype(at::kBFloat16);
  MixerInputs in = make_mixer_inputs(
      {.name = "", .batch = 1, .length = 2, .heads = c.heads, .dim = c.dim}, at::kBFloat16);
  in.qkv = at::randn({c.batch, c.length, 3, c.heads, c.dim}, half);
  in.gate = at::randn({c.batch, c.length, c.heads, c.dim}, half);
  in.log_alpha = at::rand({2, c.batch, c.length, c.heads}, wide) * -0.5;
  in.beta = at::rand({2, c.batch, c.length, c.heads}, wide);
  in.c = at::rand({2, c.batch, c.length, c.heads}, wide);
  const at::Tensor grad_y = at::randn({c.batch, c.length, c.heads, c.dim}, half);
  const MixerOptions options = options_of(c);
  const MixerResult got = run(in, options, grad_y, gpu);
  for (const int64_t b : samples) {
    MixerInputs one = in;
    one.qkv = in.qkv.narrow(0, b, 1).cpu();
    one.gate = in.gate.narrow(0, b, 1).cpu();
    for (at::Tensor* gates : {&one.log_alpha, &one.beta, &one.c}) {
      *gates = gates->narrow(1, b, 1).cpu();
    }
    const MixerResult want = reference(one, options, grad_y.narrow(0, b, 1).cpu().to(at::kDouble));
    const auto expect_near = [&](const std::string& name, const at::Tensor& x,
                                 const at::Tensor& y) {
      EXPECT_LE(relative_error(x, y, 1e-37), bound(name, at::kBFloat16)) << name << " of " << b;
    };
    expect_near("y", got.y.narrow(0, b, 1), want.y);
    for (const size_t i : {0, 2, 3, 4, 6}) {  // qkv, gates, output gate: of a sample alone
      const auto& [name, gradient] = got.gradients[i];
      expect_near(name, gradient.narrow(i == 0 || i == 6 ? 0 : 1, b, 1), want.gradients[i].second);
    }
  }
}

TEST(CudaMixer, ASampleOfALargeBatchHasTheBitsItHasAlone) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const int64_t dim : {32, 64}) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const MixerCase c{.name = "", .batch = 200, .length = 101, .heads = 3, .dim = dim};
      const MixerInputs all = leaves(make_mixer_inputs(c, dtype), at::Device(at::kCUDA, 0));
      const at::NoGradGuard no_grad;
      const at::Tensor together = mixer(all, options_of(c));
      for (const int64_t b : {0, 117, 199}) {
        MixerInputs one = all;
        one.qkv = all.qkv.narrow(0, b, 1);
        one.gate = all.gate.narrow(0, b, 1);
        for (at::Tensor* gates : {&one.log_alpha, &one.beta, &one.c}) {
          *gates = gates->narrow(1, b, 1);
        }
        EXPECT_TRUE(mixer(one, options_of(c))[0].equal(together[b])) << dim << " " << dtype;
      }
    }
  }
}

TEST(CudaMixer, MoreHeadsThanAGridDimensionHolds) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_samples_match({.name = "", .batch = 30000, .length = 18, .heads = 3, .dim = 32},
                       {0, 21844, 21845, 21846, 29999});
}

TEST(CudaMixer, TensorsBeyondTwoToThe31Elements) {
#ifdef COMBA_CUDA
  size_t free = 0, total = 0;
  if (!at::hasCUDA() || cudaMemGetInfo(&free, &total) != cudaSuccess || free < size_t{60} << 30) {
    GTEST_SKIP() << "no CUDA device with 60 GiB of free memory";
  }
  expect_samples_match({.name = "", .batch = 2800, .length = 512, .heads = 4, .dim = 128},
                       {0, 1365, 2730, 2731, 2799});
  c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

TEST(CudaMixer, AThousandRunsGiveTheSameBits) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const MixerCase c{.name = "", .batch = 16, .length = 197, .heads = 3, .dim = 64};
  const MixerInputs in = make_mixer_inputs(c, at::kBFloat16);
  const at::Tensor grad_y = at::randn({c.batch, c.length, c.heads, c.dim});
  const at::Device gpu(at::kCUDA, 0);
  const MixerResult first = run(in, options_of(c), grad_y, gpu);
  for (int i = 0; i < 1000 && !testing::Test::HasFailure(); ++i) {
    const MixerResult again = run(in, options_of(c), grad_y, gpu);
    EXPECT_TRUE(again.y.equal(first.y)) << "run " << i;
    for (size_t n = 0; n < first.gradients.size(); ++n) {
      EXPECT_TRUE(again.gradients[n].second.equal(first.gradients[n].second))
          << first.gradients[n].first << " in run " << i;
    }
  }
}

TEST(MixerArguments, AreNamedWithWhatWasExpectedAndFound) {
  const MixerInputs good = make_mixer_inputs(kCases[0], at::kFloat);
  const auto message = [&](const auto& spoil) {
    MixerInputs in = good;
    MixerOptions options = options_of(kCases[0]);
    spoil(in, options);
    try {
      mixer(in, options);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_NE(message([](auto& in, auto&) {
              in.qkv = in.qkv.select(2, 0);
            }).find("qkv: expected shape [B, T, 3, H, D], got [2, 37, 2, 32]"),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) { in.taps = in.taps[0]; }).find("taps: expected shape"),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) {
              in.gate = in.gate.to(at::kDouble);
            }).find("gate: expected dtype Float"),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) {
              in.norm_weight = at::ones({3});
            }).find("norm_weight: expected shape [D] = [32], got [3]"),
            std::string::npos);
  EXPECT_NE(message([](auto&, auto& options) {
              options.merge = "none";
            }).find("merge: expected \"mean\", \"sum\" or \"concat\", got \"none\""),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto& options) {
              in.taps = in.taps.narrow(0, 0, 1);
              options.merge = "concat";
            }).find("merge: \"concat\" takes 2 directions, got taps of 1"),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) {
              in.taps = in.taps.narrow(0, 0, 1);
            }).find("log_alpha: expected shape [R, B, T, H] with R = 1 as of taps, got [2, "),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) {
              for (at::Tensor* gates : {&in.log_alpha, &in.beta, &in.c}) {
                *gates = gates->narrow(0, 0, 1);
              }
            }).find("log_alpha: expected shape [R, B, T, H] with R = 2 as of taps, got [1, "),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) {
              in.taps = at::cat({in.taps, in.taps});
            }).find("taps: expected shape [R, 3, H, D, taps] with R = 1 or 2 directions"),
            std::string::npos);
  EXPECT_NE(message([](auto& in, auto&) { in.beta = in.beta[0]; }).find("beta: expected shape"),
            std::string::npos);
}

}  // namespace
}  // namespace comba::kernels::test
