#include "kernels/block/add_norm.h"

#include "kernels/block/add_norm_operators.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kOp = "comba::add_norm";

bool given(const OptionalTensor& x) { return x && x->defined(); }

void check_like(const char* name, const at::Tensor& x, const at::Tensor& like,
                at::IntArrayRef sizes) {
  TORCH_CHECK(x.device() == like.device(), kOp, ": ", name, ": expected device ", like.device(),
              " as for x, got ", x.device());
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), kOp, ": ", name,
              ": expected a floating dtype, got ", x.scalar_type());
  TORCH_CHECK(x.sizes() == sizes, kOp, ": ", name, ": expected shape ", sizes, ", got ", x.sizes(),
              " (see kernels/block/add_norm.h)");
}

AddNormProblem make_problem(const at::Tensor& x, const OptionalTensor& branch,
                            const OptionalTensor& share, const at::Tensor& weight,
                            const OptionalTensor& bias, double eps, bool centred) {
  TORCH_CHECK(x.dim() >= 2 && x.size(-1) > 0, kOp, ": x: expected shape [B, ..., d], got ",
              x.sizes(), " (see kernels/block/add_norm.h)");
  check_like("x", x, x, x.sizes());
  const int64_t width = x.size(-1);
  const auto accum = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto parameter = [&](const char* name, const at::Tensor& tensor, int64_t size) {
    check_like(name, tensor, x, {size});
    return tensor.to(accum).contiguous();
  };
  const auto rows = [&](const at::Tensor& tensor) { return tensor.contiguous().view({-1, width}); };
  AddNormProblem problem;
  problem.x = rows(x);
  problem.weight = parameter("weight", weight, width);
  problem.eps = eps;
  problem.centred = centred;
  if (given(branch)) {
    check_like("branch", *branch, x, x.sizes());
    problem.branch = rows(*branch);
  }
  if (given(share)) {
    problem.share = parameter("share", *share, x.size(0));
    problem.rows_a_share = x.size(0) > 0 ? problem.x.size(0) / x.size(0) : 1;
  }
  if (given(bias)) {
    TORCH_CHECK(centred, kOp, ": bias: only a centred norm has one");
    problem.bias = parameter("bias", *bias, width);
  }
  return problem;
}

}  // namespace

AddNormTuple run_add_norm(const AddNormBackend& backend, const at::Tensor& x,
                          const OptionalTensor& branch, const OptionalTensor& share,
                          const at::Tensor& weight, const OptionalTensor& bias, double eps,
                          bool centred, std::optional<at::ScalarType> dtype) {
  TORCH_CHECK(!given(share) || given(branch), kOp, ": share: expected a branch with it");
  const AddNormProblem problem = make_problem(x, branch, share, weight, bias, eps, centred);
  const at::Tensor y = at::empty(x.sizes(), x.options().dtype(dtype.value_or(x.scalar_type())));
  const at::Tensor sum =
      given(branch) ? at::empty(x.sizes(), x.options()) : at::empty({0}, x.options());
  if (x.numel() > 0) {
    backend.forward(problem, given(branch) ? sum.view(problem.x.sizes()) : sum,
                    y.view(problem.x.sizes()));
  }
  return {sum, y};
}

AddNormGradientTuple run_add_norm_backward(const AddNormBackend& backend,
                                           const OptionalTensor& grad_sum, const at::Tensor& grad_y,
                                           const at::Tensor& sum, const OptionalTensor& share,
                                           const at::Tensor& weight, const OptionalTensor& bias,
                                           double eps, bool centred,
                                           std::optional<at::ScalarType> branch_dtype) {
  const AddNormProblem problem = make_problem(sum, std::nullopt, share, weight, bias, eps, centred);
  const auto rows = [&](const at::Tensor& tensor) {
    return tensor.contiguous().view(problem.x.sizes());
  };
  check_like("grad_y", grad_y, sum, sum.sizes());
  const bool own_branch = branch_dtype && (given(share) || *branch_dtype != sum.scalar_type());
  AddNormGradients g;
  const at::Tensor grad_x = at::empty(sum.sizes(), sum.options());
  const at::Tensor grad_branch = own_branch
                                     ? at::empty(sum.sizes(), sum.options().dtype(branch_dtype))
                                     : at::empty({0}, sum.options());
  g.x = grad_x.view(problem.x.sizes());
  g.branch = own_branch ? grad_branch.view(problem.x.sizes()) : at::Tensor();
  g.weight = at::zeros_like(problem.weight);
  g.bias = given(bias) ? at::zeros_like(problem.weight) : at::Tensor();
  if (sum.numel() > 0) {
    backend.backward(problem, given(grad_sum) ? rows(*grad_sum) : at::Tensor(), rows(grad_y), g);
  }
  return {grad_x, grad_branch, g.weight.to(weight.scalar_type()),
          given(bias) ? g.bias.to(bias->scalar_type()) : at::empty({0}, problem.weight.options())};
}

AddNormOutputs add_norm(const AddNormInputs& in, const AddNormOptions& options) {
  using Signature = AddNormTuple(const at::Tensor&, const OptionalTensor&, const OptionalTensor&,
                                 const at::Tensor&, const OptionalTensor&, double, bool,
                                 std::optional<at::ScalarType>);
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(kOp, "").typed<Signature>();
  const auto [sum, y] = op.call(in.x, optional(in.branch), optional(in.share), in.weight,
                                optional(in.bias), options.eps, options.centred, options.dtype);
  return {in.branch.defined() ? sum : in.x, y};
}

}  // namespace comba::kernels
