// The operators' schemas. Devices add their implementations in their own files; the backward operators
// are registered too so that profilers and torch.library.opcheck see them.
#include <torch/library.h>

TORCH_LIBRARY(comba, m) {
  m.def(
      "scan(Tensor q, Tensor k, Tensor v, Tensor log_alpha, Tensor beta, Tensor c, Tensor? d=None, "
      "Tensor? initial_state=None, *, float scale, bool decayed_feedback=False, bool "
      "reverse=False) "
      "-> (Tensor o, Tensor final_state)");
  m.def(
      "bidirectional_scan(Tensor q, Tensor k, Tensor v, Tensor log_alpha, Tensor beta, Tensor c, "
      "Tensor? d=None, *, float scale, bool decayed_feedback=False, str merge=\"mean\") -> Tensor "
      "o");
  // An undefined gradient (None) stands for zero. Gradients come in the order of the inputs; those of an
  // absent d or initial_state are empty tensors.
  m.def(
      "scan_backward(Tensor? grad_o, Tensor? grad_final_state, Tensor q, Tensor k, Tensor v, "
      "Tensor log_alpha, Tensor beta, Tensor c, Tensor? d, Tensor? initial_state, *, float scale, "
      "bool decayed_feedback, bool reverse) -> (Tensor grad_q, Tensor grad_k, Tensor grad_v, "
      "Tensor grad_log_alpha, Tensor grad_beta, Tensor grad_c, Tensor grad_d, "
      "Tensor grad_initial_state)");
  m.def(
      "bidirectional_scan_backward(Tensor grad_o, Tensor q, Tensor k, Tensor v, Tensor log_alpha, "
      "Tensor beta, Tensor c, Tensor? d, *, float scale, bool decayed_feedback, str merge) -> "
      "(Tensor grad_q, Tensor grad_k, Tensor grad_v, Tensor grad_log_alpha, Tensor grad_beta, "
      "Tensor grad_c, Tensor grad_d)");
  // The second output, the merged o, is for the backward pass.
  m.def(
      "mixer(Tensor qkv, Tensor taps, Tensor log_alpha, Tensor beta, Tensor c, Tensor? d, "
      "Tensor? gate, Tensor norm_weight, *, float scale, bool decayed_feedback=False, "
      "bool normalize=True, str merge=\"mean\", float norm_eps=1e-06) -> (Tensor y, Tensor o)");
  m.def(
      "mixer_backward(Tensor grad_y, Tensor o, Tensor qkv, Tensor taps, Tensor log_alpha, "
      "Tensor beta, Tensor c, Tensor? d, Tensor? gate, Tensor norm_weight, *, float scale, "
      "bool decayed_feedback, bool normalize, str merge, float norm_eps) -> (Tensor grad_qkv, "
      "Tensor grad_taps, Tensor grad_log_alpha, Tensor grad_beta, Tensor grad_c, Tensor grad_d, "
      "Tensor grad_gate, Tensor grad_norm_weight)");
  m.def(
      "gates(Tensor raw, Tensor A_log, Tensor dt_bias, Tensor? decay=None, *, float feedback=1.0) "
      "-> "
      "(Tensor log_alpha, Tensor beta, Tensor c)");
  m.def(
      "gates_backward(Tensor grad_log_alpha, Tensor grad_beta, Tensor grad_c, Tensor raw, "
      "Tensor A_log, Tensor dt_bias, Tensor? decay, *, float feedback) -> (Tensor grad_raw, "
      "Tensor grad_A_log, Tensor grad_dt_bias, Tensor grad_decay)");
  // What stands between the products of a block, see kernels/block/. Without a branch `sum` is empty (it would be x); the
  // branch's gradient is empty where it is that of x.
  m.def(
      "add_norm(Tensor x, Tensor? branch, Tensor? share, Tensor weight, Tensor? bias, *, "
      "float eps=1e-06, bool centred=False, ScalarType? dtype=None) -> (Tensor sum, Tensor y)");
  m.def(
      "add_norm_backward(Tensor? grad_sum, Tensor grad_y, Tensor sum, Tensor? share, "
      "Tensor weight, Tensor? bias, *, float eps, bool centred, ScalarType? branch_dtype) -> "
      "(Tensor grad_x, Tensor grad_branch, Tensor grad_weight, Tensor grad_bias)");
  m.def("bias_gelu(Tensor x, Tensor? bias=None) -> Tensor");
  m.def(
      "bias_gelu_backward(Tensor grad_y, Tensor x, Tensor? bias) -> (Tensor grad_x, "
      "Tensor grad_bias)");
  m.def(
      "causal_conv(Tensor x, Tensor weight, Tensor? bias=None, *, bool silu=False, "
      "bool reverse=False) -> Tensor");
  m.def(
      "causal_conv_backward(Tensor grad_y, Tensor x, Tensor weight, Tensor? bias, *, bool silu, "
      "bool reverse) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias)");
  m.def("column_sums(Tensor x) -> Tensor");
  m.def("join_columns(Tensor first, Tensor second, int multiple) -> Tensor");
  m.def("patch_rows(Tensor images, int patch, ScalarType dtype) -> Tensor");
  m.def("mlp(Tensor x, Tensor weight1, Tensor? bias1, Tensor weight2, Tensor? bias2) -> Tensor");
  m.def(
      "mlp_backward(Tensor grad_y, Tensor x, Tensor weight1, Tensor? bias1, Tensor weight2, "
      "Tensor? bias2) -> (Tensor grad_x, Tensor grad_weight1, Tensor grad_bias1, "
      "Tensor grad_weight2, Tensor grad_bias2)");
  m.def(
      "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, "
      "Tensor? z=None, Tensor? delta_bias=None, *, bool reverse=False) -> Tensor");
  m.def(
      "selective_scan_backward(Tensor grad_y, Tensor u, Tensor delta, Tensor A, Tensor B, "
      "Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, *, bool reverse) -> (Tensor grad_u, "
      "Tensor grad_delta, Tensor grad_A, Tensor grad_B, Tensor grad_C, Tensor grad_D, "
      "Tensor grad_z, Tensor grad_delta_bias)");
  // Without gradients, see kernels/image/. Tables (images, steps, boxes, streams, noise, mixes) are CPU tensors.
  m.def(
      "augment_images(Tensor pixels, Tensor images, Tensor steps, *, int[2] size, "
      "int[3] fill=[124, 116, 104]) -> Tensor");
  m.def(
      "normalise_images(Tensor pixels, Tensor scale, Tensor shift, *, Tensor? boxes=None, "
      "Tensor? streams=None, Tensor? noise=None, str erase_mode=\"pixel\", Tensor? mixes=None, "
      "ScalarType? dtype=None) -> Tensor");
}
