// comba check: the machine, the libraries, and every operator on every device against the
// recurrence walked token by token in fp64. Its output is meant for bug reports.
#include "kernels/scan.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/recurrence.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/autograd/autograd.h>

namespace comba::tools {
namespace {

constexpr size_t kLength = 197, kDim = 64,
                 kHeads = 2;  // one image of 14 x 14 patches and a class token

struct Arguments {
  std::string json;
  bool operators_only = false;
};

// One tensor's errors: percentiles of |x - reference| / rms(reference), and their rms against the
// bound.
struct Row {
  std::string device, op, dtype, tensor;
  double p50 = 0, p99 = 0, max = 0, rms = 0, allowed = 0;
  bool pass() const { return rms <= allowed; }  // false for NaN
};

struct Registration {
  std::string op;
  std::vector<std::string> present, missing;
};

std::vector<Registration> registrations() {
  std::vector<std::pair<c10::DispatchKey, c10::DispatchKey>> keys = {
      {c10::DispatchKey::CPU, c10::DispatchKey::CPU},
      {c10::DispatchKey::Meta, c10::DispatchKey::Meta},
      {c10::DispatchKey::Autograd, c10::DispatchKey::AutogradCPU}};
#ifdef COMBA_CUDA
  keys.push_back({c10::DispatchKey::CUDA, c10::DispatchKey::CUDA});
#endif
  std::vector<Registration> all;
  for (const char* name : {"comba::scan", "comba::scan_backward", "comba::bidirectional_scan",
                           "comba::bidirectional_scan_backward", "comba::mixer",
                           "comba::mixer_backward", "comba::gates", "comba::gates_backward"}) {
    Registration one{name, {}, {}};
    const auto op = c10::Dispatcher::singleton().findSchema({name, ""});
    for (const auto& [key, alias] : keys) {
      const bool there =
          op && (op->hasKernelForDispatchKey(key) || op->hasKernelForDispatchKey(alias));
      (there ? one.present : one.missing).push_back(c10::toString(key));
    }
    all.push_back(std::move(one));
  }
  return all;
}

// Inputs of one operator in the dtype under test, and per head the same rounded values for the
// recurrence.
struct Problem {
  bool bidirectional = false;
  double scale = 0;
  at::Tensor q, k, v, log_alpha, beta, c, d,
      grad_o;  // CPU; q, k, v, grad_o in the dtype, the rest fp32
};

at::Tensor draw(std::mt19937_64& engine, at::IntArrayRef sizes) {
  std::normal_distribution<double> normal;
  int64_t count = 1;
  for (const int64_t size : sizes) {
    count *= size;
  }
  std::vector<double> values(static_cast<size_t>(count));
  std::generate(values.begin(), values.end(), [&] { return normal(engine); });
  return at::from_blob(values.data(), sizes, at::kDouble).clone();
}

at::Tensor unit_rows(const at::Tensor& x) { return x / x.pow(2).sum(-1, true).sqrt(); }

Problem make_problem(bool bidirectional, at::ScalarType dtype) {
  std::mt19937_64 engine(2506);
  constexpr int64_t t = kLength, h = kHeads, dim = kDim;
  const std::vector<int64_t> rows{1, t, h, dim};
  const std::vector<int64_t> gates =
      bidirectional ? std::vector<int64_t>{2, 1, t, h} : std::vector<int64_t>{1, t, h};
  Problem p;
  p.bidirectional = bidirectional;
  p.scale = 1 / std::sqrt(static_cast<double>(kDim));
  p.q = unit_rows(draw(engine, rows)).to(dtype);
  p.k = unit_rows(draw(engine, rows)).to(dtype);
  p.v = draw(engine, rows).to(dtype);
  p.grad_o = draw(engine, rows).to(dtype);
  p.log_alpha = (-0.1 * draw(engine, gates).exp()).to(at::kFloat);
  p.beta = draw(engine, gates).sigmoid().to(at::kFloat);
  p.c = draw(engine, gates).sigmoid().to(at::kFloat);
  p.d = draw(engine, {h}).to(at::kFloat);
  return p;
}

std::vector<double> values_of(const at::Tensor& x, bool flip) {
  const at::Tensor plain = (flip ? x.flip(0) : x).to(at::kDouble).contiguous();
  const double* p = plain.const_data_ptr<double>();
  return {p, p + plain.numel()};
}

at::Tensor tensor_of(const std::vector<double>& x, bool flip) {
  const int64_t rows = kLength, columns = static_cast<int64_t>(x.size()) / rows;
  const at::Tensor out =
      at::from_blob(const_cast<double*>(x.data()), {rows, columns}, at::kDouble).clone();
  return flip ? out.flip(0) : out;
}

constexpr const char* kTensorNames[] = {"o",         "grad_q", "grad_k", "grad_v", "grad_log_alpha",
                                        "grad_beta", "grad_c"};

// The reference of direction r and head h, in kTensorNames' order, each [T, columns].
std::vector<at::Tensor> reference_of_head(const Problem& p, int64_t r, int64_t h) {
  const bool flip = r == 1;
  const auto row = [&](const at::Tensor& x) { return values_of(x.select(2, h)[0], flip); };
  const auto gate = [&](const at::Tensor& x) {
    return values_of((p.bidirectional ? x[r] : x).select(2, h)[0], flip);
  };
  Recurrence one;
  one.length = kLength;
  one.key_dim = one.value_dim = kDim;
  one.q = row(p.q);
  one.k = row(p.k);
  one.v = row(p.v);
  one.log_alpha = gate(p.log_alpha);
  one.beta = gate(p.beta);
  one.c = gate(p.c);
  one.d = p.d[h].item<double>();
  one.scale = p.scale;
  one.decayed_feedback = p.bidirectional;  // so that both forms are covered
  std::vector<double> down = row(p.grad_o);
  for (double& x : down) {
    x *= p.bidirectional ? 0.5 : 1.0;  // the operator returns the mean of both directions
  }
  const RecurrenceResult x = solve_recurrence(one, down);
  std::vector<at::Tensor> out;
  for (const auto* part : {&x.o, &x.q, &x.k, &x.v, &x.log_alpha, &x.beta, &x.c}) {
    out.push_back(tensor_of(*part, flip));
  }
  if (p.bidirectional) {
    out[0].mul_(0.5);
  }
  return out;
}

// The operator's outcome in kTensorNames' order, fp64 on the CPU.
std::vector<at::Tensor> run_on(const Problem& p, const at::Device& device) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor* x : {&p.q, &p.k, &p.v, &p.log_alpha, &p.beta, &p.c}) {
    leaves.push_back(x->to(device).detach().requires_grad_(true));
  }
  const at::Tensor d = p.d.to(device);
  const at::Tensor o =
      p.bidirectional
          ? kernels::bidirectional_scan(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4],
                                        leaves[5], d, p.scale, true, "mean")
          : std::get<0>(kernels::scan(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4],
                                      leaves[5], d, {}, {p.scale, false, false}));
  std::vector<at::Tensor> out = torch::autograd::grad({o}, leaves, {p.grad_o.to(device)});
  out.insert(out.begin(), o.detach());
  for (at::Tensor& x : out) {
    x = x.to(at::kCPU, at::kDouble);
  }
  return out;
}

// rms(error) / rms(reference), as in the tests of the kernels.
double allowed_error(const std::string& tensor, at::ScalarType dtype) {
  if (dtype == at::kFloat) {
    return 1e-5;
  }
  const double bf16 = tensor == "o"                                 ? 6e-3
                      : tensor == "grad_log_alpha"                  ? 1.5e-2
                      : tensor == "grad_beta" || tensor == "grad_c" ? 1e-2
                                                                    : 8e-3;
  return dtype == at::kHalf ? bf16 / 6 : bf16;
}

void measure(const at::Tensor& x, const at::Tensor& reference, Row& row) {
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
    return sorted[static_cast<size_t>(part * (sorted.size() - 1))];
  };
  row.p50 = at(0.5);
  row.p99 = at(0.99);
  row.max = sorted.back();
}

// The reference in the shapes of the operator's results.
std::vector<at::Tensor> reference_of(const Problem& p) {
  std::vector<std::vector<at::Tensor>> directions;  // [direction][tensor] = [T, H, columns]
  for (int64_t r = 0; r < (p.bidirectional ? 2 : 1); ++r) {
    std::vector<std::vector<at::Tensor>> heads;
    for (int64_t h = 0; h < static_cast<int64_t>(kHeads); ++h) {
      heads.push_back(reference_of_head(p, r, h));
    }
    directions.emplace_back();
    for (size_t i = 0; i < heads[0].size(); ++i) {
      directions.back().push_back(at::stack({heads[0][i], heads[1][i]}, 1));
    }
  }
  std::vector<at::Tensor> out = directions[0];
  for (size_t i = 0; p.bidirectional && i < out.size(); ++i) {
    const bool gate = i >= 4;  // one per direction; the rest is shared and adds up
    out[i] = gate ? at::stack({out[i], directions[1][i]}) : out[i] + directions[1][i];
  }
  return out;
}

void check_operator(bool bidirectional, at::ScalarType dtype,
                    const std::vector<at::Device>& devices, std::vector<Row>& rows) {
  const Problem problem = make_problem(bidirectional, dtype);
  const std::vector<at::Tensor> reference = reference_of(problem);
  for (const at::Device& device : devices) {
    const std::vector<at::Tensor> result = run_on(problem, device);
    for (size_t i = 0; i < result.size(); ++i) {
      Row row{device.str(), bidirectional ? "bidirectional_scan" : "scan",
              dtype == at::kFloat  ? "fp32"
              : dtype == at::kHalf ? "fp16"
                                   : "bf16",
              kTensorNames[i]};
      row.allowed = allowed_error(row.tensor, dtype);
      measure(result[i].reshape_as(reference[i]), reference[i], row);
      rows.push_back(row);
    }
  }
}

std::vector<at::Device> devices() {
  std::vector<at::Device> all{at::Device(at::kCPU)};
#ifdef COMBA_CUDA
  for (c10::DeviceIndex i = 0;
       i < static_cast<c10::DeviceIndex>(at::detail::getCUDAHooks().deviceCount()); ++i) {
    all.emplace_back(at::kCUDA, i);
  }
#endif
  return all;
}

void print_facts(const char* title, const Facts& facts) {
  std::cout << title << "\n";
  for (const auto& [name, value] : facts) {
    std::cout << fmt::format("  {:<12} {}\n", name, value);
  }
}

// Returns whether every operator has all its kernels.
bool print_registrations(const std::vector<Registration>& all) {
  std::cout << "operators\n";
  bool complete = true;
  for (const Registration& one : all) {
    std::cout << fmt::format("  {:<35} {}", one.op, fmt::join(one.present, " "));
    if (!one.missing.empty()) {
      std::cout << "  FAIL: missing " << fmt::format("{}", fmt::join(one.missing, " "));
      complete = false;
    }
    std::cout << "\n";
  }
  return complete;
}

bool print_rows(const std::vector<Row>& rows) {
  std::cout << fmt::format(
      "errors relative to the rms of the recurrence in fp64 (T {}, D {}, H {})\n"
      "  {:<7} {:<18} {:<5} {:<14} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
      kLength, kDim, kHeads, "device", "operator", "dtype", "tensor", "p50", "p99", "max", "rms",
      "allowed");
  size_t failed = 0;
  for (const Row& row : rows) {
    std::cout << fmt::format(
        "  {:<7} {:<18} {:<5} {:<14} {:>8.1e} {:>8.1e} {:>8.1e} {:>8.1e} {:>8.1e}  {}\n",
        row.device, row.op, row.dtype, row.tensor, row.p50, row.p99, row.max, row.rms, row.allowed,
        row.pass() ? "PASS" : "FAIL");
    failed += row.pass() ? 0 : 1;
  }
  std::cout << fmt::format("{}: {} of {} within bounds\n", failed == 0 ? "PASS" : "FAIL",
                           rows.size() - failed, rows.size());
  return failed == 0;
}

nlohmann::ordered_json to_json(const std::vector<Registration>& operators,
                               const std::vector<Row>& rows, bool pass) {
  nlohmann::ordered_json json{{"pass", pass}};
  for (const auto& [title, facts] : {std::pair{"machine", machine_facts()},
                                     {"libraries", library_facts()},
                                     {"gpus", gpu_facts()}}) {
    for (const auto& [name, value] : facts) {
      json[title][name] = value;
    }
  }
  for (const Registration& one : operators) {
    json["operators"].push_back(
        {{"name", one.op}, {"present", one.present}, {"missing", one.missing}});
  }
  json["errors"] = nlohmann::ordered_json::array();
  for (const Row& row : rows) {  // NaN becomes null
    json["errors"].push_back({{"device", row.device},
                              {"operator", row.op},
                              {"dtype", row.dtype},
                              {"tensor", row.tensor},
                              {"p50", row.p50},
                              {"p99", row.p99},
                              {"max", row.max},
                              {"rms", row.rms},
                              {"allowed", row.allowed},
                              {"pass", row.pass()}});
  }
  return json;
}

void run_check(const Arguments& arguments) {
  if (!arguments.operators_only) {
    print_facts("machine", machine_facts());
    print_facts("libraries", library_facts());
    print_facts("GPUs", gpu_facts());
  }
  const std::vector<Registration> operators = registrations();
  bool pass = print_registrations(operators);
  std::vector<Row> rows;
  if (pass && !arguments.operators_only) {
    for (const bool bidirectional : {false, true}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        check_operator(bidirectional, dtype, devices(), rows);
      }
    }
    pass = print_rows(rows) && pass;
  }
  std::cout.flush();
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, to_json(operators, rows, pass).dump(2) + "\n");
  }
  if (!pass) {
    throw Error(
        "checking the operators: expected every one to be registered and within its bound, got the "
        "lines "
        "marked FAIL above; please report them together with the machine's lines");
  }
}

}  // namespace

void add_check_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("check", "Describe the machine and test every operator on every device");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--json", arguments->json, "also write everything here");
  command->add_flag("--operators", arguments->operators_only,
                    "only list the operators and their kernels");
  command->footer(
      "Compares forward and gradients with the recurrence walked token by token in fp64, and exits "
      "with 1 if\n"
      "one is out of bounds. The output is made to be pasted into a bug report.\n"
      "Example: comba check --json check.json");
  command->callback([arguments] { run_check(*arguments); });
}

}  // namespace comba::tools
