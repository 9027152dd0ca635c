// Runs an operator with its gradients and compares everything with the oracle.
#pragma once

#include "tests/kernels/reference.h"
#include "tests/kernels/scan_case.h"

#include <string>
#include <tuple>
#include <vector>

namespace comba::kernels::test {

struct OperatorResult {
  ScanValues values;
  ScanGradients gradients;
};

// The gradients that flow into the outputs; undefined for outputs nobody used.
struct OutputGradients {
  at::Tensor o, final_state;
};
OutputGradients make_output_gradients(const ScanCase& scan_case, const ScanInputs& inputs);

ScanInputs moved(const ScanInputs& inputs, at::Device device);
ScanValues run_values(const ScanInputs& inputs);
OperatorResult run_operator(const ScanInputs& inputs, const OutputGradients& given);

// Every tensor of both as (name, tensor), undefined ones included.
std::vector<std::pair<std::string, at::Tensor>> tensors_of(const OperatorResult& result);
std::vector<std::pair<std::string, at::Tensor*>> tensors_of(ScanInputs& inputs);

// Bound on rms(error) / rms(reference).
double bound_of(const std::string& tensor, at::ScalarType dtype, Keys keys);
// rms(x - reference) / max(rms(reference), least_size); errors below `floor` in every element count
// as none.
double relative_error(const at::Tensor& x, const at::Tensor& reference, double floor,
                      double least_size = 0);

void expect_matches_reference(const ScanCase& scan_case, const ScanInputs& cpu_inputs,
                              at::Device device);
void expect_same_bits(const OperatorResult& a, const OperatorResult& b);
bool same_bits(const at::Tensor& a, const at::Tensor& b);

}  // namespace comba::kernels::test
