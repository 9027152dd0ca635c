#include "tools/check_operators.h"

#include "kernels/block/add_norm.h"
#include "kernels/block/bias_gelu.h"
#include "kernels/block/causal_conv.h"
#include "kernels/block/column_sums.h"
#include "kernels/block/join_columns.h"
#include "kernels/block/mlp.h"
#include "kernels/block/patch_rows.h"
#include "kernels/gates.h"
#include "kernels/image/augment_images.h"
#include "kernels/image/normalise_images.h"
#include "kernels/mixer.h"
#include "kernels/scan.h"
#include "kernels/selective_scan/selective_scan.h"
#include "tools/check_formulas.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <c10/core/DispatchKey.h>
#include <torch/csrc/autograd/autograd.h>

namespace comba::tools {
namespace {

// An image of 14 x 14 patches and a class token.
constexpr int64_t kLength = 197, kHeads = 2, kDim = 64, kWidth = 192, kHidden = 768, kPatch = 16;
constexpr double kNormEps = 1e-6;
const double kScale = 1 / std::sqrt(static_cast<double>(kDim));

using Tensors = std::vector<at::Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

struct Input {
  std::string name;
  at::Tensor value;     // fp64
  bool wide = false;    // fp32 where the others are half as wide
  bool learned = true;  // has a gradient
};

struct OperatorCheck {
  std::string op;
  std::vector<Input> inputs;
  std::vector<std::string> outputs;
  Function run, formula;
};

// Numbers that are the same with every LibTorch.
class Draw {
 public:
  at::Tensor normal(at::IntArrayRef sizes) {
    std::normal_distribution<double> normal;
    std::vector<double> values(static_cast<size_t>(c10::multiply_integers(sizes)));
    std::generate(values.begin(), values.end(), [&] { return normal(engine_); });
    return at::from_blob(values.data(), sizes, at::kDouble).clone();
  }
  at::Tensor unit_rows(at::IntArrayRef sizes) {
    const at::Tensor x = normal(sizes);
    return x / x.pow(2).sum(-1, true).sqrt();
  }

 private:
  std::mt19937_64 engine_{2506};
};

std::vector<Input> gate_inputs(Draw& draw, at::IntArrayRef sizes) {
  return {{"log_alpha", -0.1 * draw.normal(sizes).exp(), true},
          {"beta", draw.normal(sizes).sigmoid(), true},
          {"c", draw.normal(sizes).sigmoid(), true}};
}

// The bidirectional scan has decayed feedback, so that both forms are covered.
OperatorCheck scan_check(Draw& draw, bool both) {
  const std::vector<int64_t> rows{1, kLength, kHeads, kDim};
  OperatorCheck check{
      both ? "bidirectional_scan" : "scan",
      {{"q", draw.unit_rows(rows)}, {"k", draw.unit_rows(rows)}, {"v", draw.normal(rows)}},
      {"o"},
      {},
      {}};
  const auto gates =
      both ? gate_inputs(draw, {2, 1, kLength, kHeads}) : gate_inputs(draw, {1, kLength, kHeads});
  check.inputs.insert(check.inputs.end(), gates.begin(), gates.end());
  check.inputs.push_back({"d", draw.normal({kHeads}), true});
  check.run = [both](const Tensors& x) -> Tensors {
    if (both) {
      return {kernels::bidirectional_scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], kScale, true,
                                          "mean")};
    }
    return {std::get<0>(
        kernels::scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], {}, {.scale = kScale}))};
  };
  check.formula = [both](const Tensors& x) -> Tensors {
    const formulas::Scan scan{x[0], x[1], x[2], x[3], x[4], x[5], x[6], kScale, both};
    return {both ? formulas::bidirectional_scan(scan) : formulas::scan(scan)};
  };
  return check;
}

OperatorCheck mixer_check(Draw& draw) {
  OperatorCheck check{"mixer",
                      {{"qkv", draw.normal({1, kLength, 3, kHeads, kDim})},
                       {"taps", 0.5 * draw.normal({2, 3, kHeads, kDim, 4}), true}},
                      {"y"},
                      {},
                      {}};
  const auto gates = gate_inputs(draw, {2, 1, kLength, kHeads});
  check.inputs.insert(check.inputs.end(), gates.begin(), gates.end());
  check.inputs.push_back({"d", 0.1 * draw.normal({2, kHeads}), true});
  check.inputs.push_back({"gate", draw.normal({1, kLength, kHeads, kDim})});
  check.inputs.push_back({"norm_weight", 1 + 0.1 * draw.normal({kDim}), true});
  check.run = [](const Tensors& x) -> Tensors {
    return {kernels::mixer({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]},
                           {.scale = kScale, .norm_eps = kNormEps})};
  };
  check.formula = [](const Tensors& x) -> Tensors {
    return {formulas::mixer({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], kScale, kNormEps})};
  };
  return check;
}

OperatorCheck selective_scan_check(Draw& draw) {
  constexpr int64_t kStates = 16;
  const std::vector<int64_t> channels{1, kLength, kDim}, states{1, kLength, kStates};
  return {"selective_scan",
          {{"u", draw.normal(channels)},
           {"delta", draw.normal(channels)},
           {"A", -(0.5 * draw.normal({kDim, kStates})).exp(), true},
           {"B", draw.normal(states)},
           {"C", draw.normal(states)},
           {"D", draw.normal({kDim}), true},
           {"z", draw.normal(channels)},
           {"delta_bias", draw.normal({kDim}), true}},
          {"y"},
          [](const Tensors& x) -> Tensors {
            return {kernels::selective_scan({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]})};
          },
          [](const Tensors& x) -> Tensors {
            return {formulas::selective_scan({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]})};
          }};
}

OperatorCheck gates_check(Draw& draw) {
  return {"gates",
          {{"raw", draw.normal({1, kLength, 2, 2, kHeads})},
           {"A_log", draw.normal({2, kHeads}), true},
           {"dt_bias", draw.normal({2, kHeads}), true},
           {"decay", draw.normal({2, kHeads}), true}},
          {"log_alpha", "beta", "c"},
          [](const Tensors& x) -> Tensors {
            const kernels::ScanGates gates = kernels::gates({x[0], x[1], x[2], x[3]});
            return {gates.log_alpha, gates.beta, gates.c};
          },
          [](const Tensors& x) { return formulas::gates(x[0], x[1], x[2], x[3]); }};
}

OperatorCheck add_norm_check(Draw& draw, bool centred) {
  OperatorCheck check{centred ? "add_norm (layer)" : "add_norm (rms)",
                      {{"x", draw.normal({1, kLength, kWidth})},
                       {"branch", draw.normal({1, kLength, kWidth})},
                       {"weight", 1 + 0.1 * draw.normal({kWidth}), true}},
                      {"sum", "y"},
                      {},
                      {}};
  if (centred) {
    check.inputs.push_back({"bias", draw.normal({kWidth}), true});
  }
  const auto bias = [centred](const Tensors& x) { return centred ? x[3] : at::Tensor(); };
  check.run = [=](const Tensors& x) -> Tensors {
    const auto out = kernels::add_norm({x[0], x[1], {}, x[2], bias(x)},
                                       {.eps = kNormEps, .centred = centred, .dtype = {}});
    return {out.sum, out.y};
  };
  check.formula = [=](const Tensors& x) {
    return formulas::add_norm(x[0], x[1], x[2], bias(x), kNormEps);
  };
  return check;
}

OperatorCheck mlp_check(Draw& draw) {
  return {
      "mlp",
      {{"x", draw.normal({1, kLength, kWidth})},
       {"weight1", draw.normal({kHidden, kWidth}) / std::sqrt(kWidth)},
       {"bias1", draw.normal({kHidden}), true},
       {"weight2", draw.normal({kWidth, kHidden}) / std::sqrt(kHidden)},
       {"bias2", draw.normal({kWidth}), true}},
      {"y"},
      [](const Tensors& x) -> Tensors { return {kernels::mlp({x[0], x[1], x[2], x[3], x[4]})}; },
      [](const Tensors& x) -> Tensors { return {formulas::mlp(x[0], x[1], x[2], x[3], x[4])}; }};
}

OperatorCheck bias_gelu_check(Draw& draw) {
  return {"bias_gelu",
          {{"x", draw.normal({kLength, kHidden})}, {"bias", draw.normal({kHidden}), true}},
          {"y"},
          [](const Tensors& x) -> Tensors { return {kernels::bias_gelu(x[0], x[1])}; },
          [](const Tensors& x) -> Tensors { return {formulas::bias_gelu(x[0], x[1])}; }};
}

OperatorCheck causal_conv_check(Draw& draw) {
  return {"causal_conv",
          {{"x", draw.normal({1, kLength, kWidth})},
           {"weight", draw.normal({kWidth, 4}), true},
           {"bias", draw.normal({kWidth}), true}},
          {"y"},
          [](const Tensors& x) -> Tensors {
            return {kernels::causal_conv(x[0], x[1], x[2], {.silu = true})};
          },
          [](const Tensors& x) -> Tensors { return {formulas::causal_conv(x[0], x[1], x[2])}; }};
}

// Those without gradients.
std::vector<OperatorCheck> layout_checks(Draw& draw) {
  constexpr int64_t kFew = 12, kMultiple = 8;
  return {
      {"column_sums",
       {{"x", draw.normal({kLength, kWidth}), false, false}},
       {"sums"},
       [](const Tensors& x) -> Tensors { return {kernels::column_sums(x[0])}; },
       [](const Tensors& x) -> Tensors { return {x[0].sum(0)}; }},
      {"join_columns",
       {{"first", draw.normal({kLength, 2 * kFew}), false, false},
        {"second", draw.normal({kLength, kFew}), true, false}},
       {"joined"},
       [](const Tensors& x) -> Tensors { return {kernels::join_columns(x[0], x[1], kMultiple)}; },
       [](const Tensors& x) -> Tensors {
         const at::Tensor both = at::cat({x[0], x[1]}, 1);
         return {
             at::constant_pad_nd(both, {0, (kMultiple - both.size(1) % kMultiple) % kMultiple})};
       }},
      {"patch_rows",
       {{"images", draw.normal({2, 3, 4 * kPatch, 3 * kPatch}), true, false}},
       {"rows"},
       [](const Tensors& x) -> Tensors {
         return {kernels::patch_rows(x[0], kPatch, at::kBFloat16)};
       },
       [](const Tensors& x) -> Tensors { return {formulas::patch_rows(x[0], kPatch)}; }}};
}

// Of images, whose pixels are whole numbers.
std::vector<OperatorCheck> image_checks(Draw& draw) {
  constexpr int64_t kHeight = 20, kBreadth = 24, kSide = 16, kTop = 2, kLeft = 3;
  const at::Tensor pixels =
      (128 + 50 * draw.normal({1, kHeight, kBreadth, 3})).round().clamp(0, 255);
  const at::Tensor square = pixels.narrow(2, 0, kHeight).contiguous();
  const auto row = [](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble).unsqueeze(0);
  };
  return {
      {"augment_images",  // a box turned around and inverted
       {{"pixels", pixels, true, false}},
       {"augmented"},
       [=](const Tensors& x) -> Tensors {
         const at::Tensor images = row({0, kHeight, kBreadth, kTop, kLeft, kSide, kSide, 1});
         const at::Tensor steps = row({4, 0, 0, 0, 0, 0, 0});
         return {kernels::image::augment_images({.pixels = x[0].flatten().to(at::kByte),
                                                 .images = images,
                                                 .steps = steps.unsqueeze(1),
                                                 .height = kSide,
                                                 .width = kSide})
                     .to(at::kFloat)};
       },
       [=](const Tensors& x) -> Tensors {
         return {255 - x[0].narrow(1, kTop, kSide).narrow(2, kLeft, kSide).flip(2)};
       }},
      {"normalise_images",
       {{"pixels", square, true, false},
        {"scale", draw.normal({3}), true, false},
        {"shift", draw.normal({3}), true, false}},
       {"normalised"},
       [](const Tensors& x) -> Tensors {
         return {kernels::image::normalise_images(
             {.pixels = x[0].to(at::kByte), .scale = x[1], .shift = x[2]})};
       },
       [](const Tensors& x) -> Tensors { return {(x[0] * x[1] + x[2]).permute({0, 3, 1, 2})}; }}};
}

std::vector<OperatorCheck> operator_checks() {
  Draw draw;
  std::vector<OperatorCheck> checks = {scan_check(draw, false),    scan_check(draw, true),
                                       mixer_check(draw),          selective_scan_check(draw),
                                       gates_check(draw),          add_norm_check(draw, false),
                                       add_norm_check(draw, true), mlp_check(draw),
                                       bias_gelu_check(draw),      causal_conv_check(draw)};
  for (auto* const more : {&layout_checks, &image_checks}) {
    for (OperatorCheck& check : more(draw)) {
      checks.push_back(std::move(check));
    }
  }
  return checks;
}

// Outputs, then the gradients of the inputs that have one, of `function` for the inputs and the outputs' gradients; fp64 on
// the CPU.
Tensors evaluate(const OperatorCheck& check, const Function& function, const Tensors& inputs,
                 const Tensors& output_gradients) {
  Tensors leaves, learned;
  for (size_t i = 0; i < inputs.size(); ++i) {
    leaves.push_back(inputs[i].detach().requires_grad_(check.inputs[i].learned));
    if (check.inputs[i].learned) {
      learned.push_back(leaves.back());
    }
  }
  Tensors out = function(leaves), gradients;
  if (!learned.empty()) {
    Tensors weights;
    for (size_t i = 0; i < out.size(); ++i) {
      weights.push_back(output_gradients[i].to(out[i].options()));
    }
    gradients = torch::autograd::grad(out, learned, weights);
  }
  out.insert(out.end(), gradients.begin(), gradients.end());
  for (at::Tensor& x : out) {
    x = x.detach().to(at::kCPU, at::kDouble);
  }
  return out;
}

// rms(error) / rms(reference), as in the tests of the kernels.
double allowed_error(const std::string& op, const std::string& tensor, at::ScalarType dtype) {
  if (op == "patch_rows") {
    return 4e-3;  // its rows are bf16
  }
  const bool mixer = op == "mixer";  // rounds its rows as well
  if (dtype == at::kFloat) {
    return mixer ? 2e-5 : 1e-5;
  }
  const bool sums = tensor == "grad_log_alpha" || tensor == "grad_d";  // over many tokens
  const bool gate = tensor == "grad_beta" || tensor == "grad_c";
  const double bf16 = mixer           ? (sums ? 2e-2 : 1.2e-2)
                      : sums          ? 1.5e-2
                      : gate          ? 1e-2
                      : tensor == "o" ? 6e-3
                                      : 8e-3;
  return dtype == at::kHalf ? bf16 / 6 : bf16;
}

void measure(const at::Tensor& x, const at::Tensor& reference, ErrorRow& row) {
  const double size = reference.pow(2).mean().sqrt().item<double>();
  const at::Tensor error = (x - reference).abs().div(size).flatten().contiguous();
  std::vector<double> sorted(error.const_data_ptr<double>(),
                             error.const_data_ptr<double>() + error.numel());
  row.rms = error.pow(2).mean().sqrt().item<double>();
  if (std::isnan(row.rms)) {
    row.p50 = row.p99 = row.max = row.rms;
    return;
  }
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double part) {
    return sorted[static_cast<size_t>(part * static_cast<double>(sorted.size() - 1))];
  };
  row.p50 = at(0.5);
  row.p99 = at(0.99);
  row.max = sorted.back();
}

const char* name_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kHalf ? "fp16" : "bf16";
}

void check_operator(const OperatorCheck& check, at::ScalarType dtype,
                    const std::vector<at::Device>& devices, std::vector<ErrorRow>& rows) {
  Tensors rounded, exact;
  std::vector<std::string> names = check.outputs;
  for (const Input& input : check.inputs) {
    rounded.push_back(input.value.to(input.wide ? at::kFloat : dtype));
    exact.push_back(rounded.back().to(at::kDouble));
    if (input.learned) {
      names.push_back("grad_" + input.name);
    }
  }
  Draw draw;
  Tensors output_gradients;
  for (const at::Tensor& out : check.formula(exact)) {
    output_gradients.push_back(draw.normal(out.sizes()).to(dtype).to(at::kDouble));
  }
  const Tensors reference = evaluate(check, check.formula, exact, output_gradients);
  for (const at::Device& device : devices) {
    Tensors there;
    for (const at::Tensor& x : rounded) {
      there.push_back(x.to(device));
    }
    const Tensors result = evaluate(check, check.run, there, output_gradients);
    for (size_t i = 0; i < result.size(); ++i) {
      ErrorRow row{device.str(), check.op, name_of(dtype), names[i]};
      row.allowed = allowed_error(check.op, row.tensor, dtype);
      measure(result[i], reference[i], row);
      rows.push_back(row);
    }
  }
}

}  // namespace

std::vector<ErrorRow> check_operators(const std::vector<at::Device>& devices) {
  std::vector<ErrorRow> rows;
  for (const OperatorCheck& check : operator_checks()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      check_operator(check, dtype, devices, rows);
    }
  }
  std::ranges::stable_sort(rows, {}, &ErrorRow::device);
  return rows;
}

std::vector<Registration> registrations() {
  auto& dispatcher = c10::Dispatcher::singleton();
  std::vector<std::string> names;
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    if (name.name.starts_with("comba::")) {
      names.push_back(name.name);
    }
  }
  std::ranges::sort(names);
  std::vector<Registration> all;
  for (const std::string& name : names) {
    Registration one{name, {}, {}};
    const auto op = dispatcher.findSchema({name, ""});
    const bool differentiable = std::ranges::binary_search(names, name + "_backward");
    const auto see = [&](c10::DispatchKey key, c10::DispatchKey alias, bool needed) {
      const bool there =
          op && (op->hasKernelForDispatchKey(key) || op->hasKernelForDispatchKey(alias));
      if (there || needed) {
        (there ? one.present : one.missing).push_back(c10::toString(key));
      }
    };
    see(c10::DispatchKey::CPU, c10::DispatchKey::CompositeExplicitAutograd, true);
    see(c10::DispatchKey::Meta, c10::DispatchKey::CompositeExplicitAutograd, true);
    see(c10::DispatchKey::Autograd, c10::DispatchKey::AutogradCPU, differentiable);
#ifdef COMBA_CUDA
    see(c10::DispatchKey::CUDA, c10::DispatchKey::CompositeExplicitAutograd, true);
#endif
    all.push_back(std::move(one));
  }
  return all;
}

}  // namespace comba::tools
