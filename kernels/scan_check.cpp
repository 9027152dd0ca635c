#include "kernels/scan_problem.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace comba::kernels {
namespace {

constexpr const char* kHelp = " (see kernels/scan.h for the shapes)";

void check_shape(const char* op, const char* name, const at::Tensor& tensor,
                 at::IntArrayRef expected, const char* letters) {
  TORCH_CHECK(tensor.sizes() == expected, op, ": ", name, ": expected shape ", letters, " = ",
              expected, ", got ", tensor.sizes(), kHelp);
}

void check_place(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& q) {
  TORCH_CHECK(tensor.device() == q.device(), op, ": ", name, ": expected device ", q.device(),
              " as for q, got ", tensor.device());
}

void check_rows(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& q) {
  check_place(op, name, tensor, q);
  TORCH_CHECK(tensor.scalar_type() == q.scalar_type(), op, ": ", name, ": expected dtype ",
              q.scalar_type(), " as for q, got ", tensor.scalar_type(), "; convert one of them");
}

void check_float(const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& q) {
  check_place(op, name, tensor, q);
  TORCH_CHECK(at::isFloatingType(tensor.scalar_type()), op, ": ", name,
              ": expected a floating dtype, got ", tensor.scalar_type());
}

void check_query(const char* op, const at::Tensor& q, bool directions_allowed) {
  TORCH_CHECK(q.dim() == 4 || (directions_allowed && q.dim() == 5), op, ": q: expected ",
              directions_allowed ? "[B, T, H, Dk] or [R, B, T, H, Dk]" : "[B, T, H, Dk]", ", got ",
              q.sizes(), kHelp);
  const auto dtype = q.scalar_type();
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble,
      op, ": q: expected dtype float32, bfloat16, float16 or float64, got ", dtype);
  TORCH_CHECK(dtype != at::kDouble || !q.is_cuda(), op,
              ": q: float64 runs on the CPU only; convert to float32 or move the tensors");
  const int64_t key_dim = q.size(-1);
  TORCH_CHECK(key_dim > 0, op, ": q: expected a head dimension of at least 1, got ", q.sizes());
}

// Head dimensions for which CUDA kernels are built.
void check_head_dim(const char* op, const char* name, const at::Tensor& tensor) {
  const int64_t dim = tensor.size(-1);
  TORCH_CHECK(!tensor.is_cuda() || dim == 16 || dim == 32 || dim == 64 || dim == 128, op, ": ",
              name, ": head dimension ", dim,
              " is not built for CUDA; expected 16, 32, 64 or 128 (zero-pad to the next one)");
}

void check_value(const char* op, const at::Tensor& v, const at::Tensor& q) {
  check_rows(op, "v", v, q);
  TORCH_CHECK(v.dim() == q.dim() &&
                  v.sizes().slice(0, v.dim() - 1) == q.sizes().slice(0, q.dim() - 1) &&
                  v.size(-1) > 0,
              op, ": v: expected the shape of q ", q.sizes(), " with any last dimension Dv, got ",
              v.sizes(), kHelp);
}

void check_tensors(const char* op, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                   const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                   at::IntArrayRef gate_shape, const char* letters) {
  check_rows(op, "k", k, q);
  check_shape(op, "k", k, q.sizes(), "of q");
  check_value(op, v, q);
  check_head_dim(op, "q", q);
  check_head_dim(op, "v", v);
  for (const auto& [name, gate] :
       {std::pair<const char*, const at::Tensor&>{"log_alpha", log_alpha},
        {"beta", beta},
        {"c", c}}) {
    check_float(op, name, gate, q);
    check_shape(op, name, gate, gate_shape, letters);
  }
}

}  // namespace

void check_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                const at::Tensor& log_alpha, const at::Tensor& beta, const at::Tensor& c,
                const OptionalTensor& d, const OptionalTensor& initial_state) {
  constexpr const char* op = "comba::scan";
  check_query(op, q, false);
  const int64_t batch = q.size(0), length = q.size(1), heads = q.size(2);
  check_tensors(op, q, k, v, log_alpha, beta, c, {batch, length, heads}, "[B, T, H]");
  if (d && d->defined()) {
    check_float(op, "d", *d, q);
    check_shape(op, "d", *d, {heads}, "[H]");
  }
  if (initial_state && initial_state->defined()) {
    check_float(op, "initial_state", *initial_state, q);
    check_shape(op, "initial_state", *initial_state, {batch, heads, q.size(3), v.size(3)},
                "[B, H, Dk, Dv]");
  }
}

void check_bidirectional_scan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_alpha, const at::Tensor& beta,
                              const at::Tensor& c, const OptionalTensor& d,
                              std::string_view merge) {
  constexpr const char* op = "comba::bidirectional_scan";
  check_query(op, q, true);
  const int64_t first = q.dim() - 4;
  TORCH_CHECK(log_alpha.dim() == 4 && (log_alpha.size(0) == 1 || log_alpha.size(0) == 2), op,
              ": log_alpha: expected shape [R, B, T, H] with R = 1 or 2 directions, got ",
              log_alpha.sizes(), kHelp);
  const int64_t directions = log_alpha.size(0);
  TORCH_CHECK(first == 0 || q.size(0) == directions, op, ": q: expected ", directions,
              " directions as of log_alpha in [R, B, T, H, Dk], got ", q.sizes(), kHelp);
  const int64_t batch = q.size(first), length = q.size(first + 1), heads = q.size(first + 2);
  check_tensors(op, q, k, v, log_alpha, beta, c, {directions, batch, length, heads},
                "[R, B, T, H]");
  if (d && d->defined()) {
    check_float(op, "d", *d, q);
    const bool fits = d->sizes() == at::IntArrayRef({heads}) ||
                      d->sizes() == at::IntArrayRef({directions, heads});
    TORCH_CHECK(fits, op, ": d: expected shape [H] or [R, H] with R = ", directions,
                " and H = ", heads, ", got ", d->sizes(), kHelp);
  }
  TORCH_CHECK(merge == "mean" || merge == "sum" || merge == "none", op,
              ": merge: expected \"mean\", \"sum\" or \"none\", got \"", std::string(merge), "\"");
  TORCH_CHECK(merge == "none" || directions == 2, op,
              ": merge: expected \"none\" for one direction, got \"", std::string(merge), "\"");
}

}  // namespace comba::kernels
