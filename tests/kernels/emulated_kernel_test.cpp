// Errors of the half-width operators beside those of an emulated half-width chunk kernel.
#include "tests/kernels/emulated_kernel.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

ScanCase large_case() {
  return {.length = 197, .key_dim = 64, .value_dim = 64, .merge = "mean", .batch = 4, .heads = 3};
}

// Only with as many numbers as this does the ratio of two errors say something; d has one a head.
constexpr int64_t kLeastNumbers = 100;

void expect_errors_of_a_half_width_kernel(const ScanCase& s, at::ScalarType dtype,
                                          at::Device device) {
  SCOPED_TRACE(name_of(s));
  const ScanInputs in = make_inputs(s, dtype);
  const OutputGradients given = make_output_gradients(s, in);
  const OperatorResult reference{reference_values(in), reference_gradients(in, given.o, {})};
  const auto want = tensors_of(reference),
             emulated = tensors_of(emulated_kernel(in, given.o, dtype)),
             found = tensors_of(run_operator(moved(in, device), given));
  for (size_t i = 0; i < want.size(); ++i) {
    const auto& [name, exact] = want[i];
    if (exact.defined() && exact.numel() >= kLeastNumbers) {
      EXPECT_LE(relative_error(found[i].second, exact, 0),
                1.5 * relative_error(emulated[i].second, exact, 0))
          << name;
    }
  }
}

void expect_errors_of_half_width_kernels(at::Device device) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    for (const Keys keys : {Keys::random, Keys::positive, Keys::smooth, Keys::identical}) {
      for (const bool own_rows : {false, true}) {
        ScanCase s = large_case();
        s.keys = keys;
        s.own_rows = own_rows;
        expect_errors_of_a_half_width_kernel(s, dtype, device);
      }
    }
    ScanCase s = large_case();
    s.c = Strength::strong;
    expect_errors_of_a_half_width_kernel(s, dtype, device);
    s.decayed_feedback = true;
    s.key_dim = s.value_dim = 128;
    expect_errors_of_a_half_width_kernel(s, dtype, device);
  }
}

TEST(EmulatedKernel, WithoutRoundingIsTheTokenRecurrence) {
  for (const bool own_rows : {false, true}) {
    for (const bool decayed_feedback : {false, true}) {
      ScanCase s = large_case();
      s.batch = 1;
      s.own_rows = own_rows;
      s.own_d = own_rows;
      s.decayed_feedback = decayed_feedback;
      s.merge = own_rows ? "none" : "sum";
      const ScanInputs in = make_inputs(s, at::kDouble);
      const OutputGradients given = make_output_gradients(s, in);
      const OperatorResult reference{reference_values(in), reference_gradients(in, given.o, {})};
      const auto want = tensors_of(reference),
                 found = tensors_of(emulated_kernel(in, given.o, at::kDouble));
      for (size_t i = 0; i < want.size(); ++i) {
        if (want[i].second.defined()) {
          EXPECT_LE(relative_error(found[i].second, want[i].second, 0), 1e-10) << want[i].first;
        }
      }
    }
  }
}

TEST(EmulatedKernel, CpuErrorsAreThoseOfAHalfWidthKernel) {
  expect_errors_of_half_width_kernels(at::kCPU);
}

TEST(EmulatedKernelCuda, ErrorsAreThoseOfAHalfWidthKernel) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  expect_errors_of_half_width_kernels(at::Device(at::kCUDA, 0));
}

}  // namespace
}  // namespace comba::kernels::test
