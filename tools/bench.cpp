// comba bench; its verb scan: the operators against softmax attention, in the same process, on the same shapes.
#include "kernels/mixer.h"
#include "kernels/scan.h"
#include "tools/bench_timer.h"
#include "tools/bench_track.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/report.h"

#include <array>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/autograd/autograd.h>

namespace comba::tools {
namespace {

struct Shape {
  int64_t batch, length, heads, dim;
  std::string text() const { return fmt::format("B{} T{} H{} D{}", batch, length, heads, dim); }
  double token_heads() const { return static_cast<double>(batch * length * heads); }
};

const std::vector<std::string> kDefaultShapes = {"256,197,3,64", "256,197,6,64", "64,320,3,64",
                                                 "1,320,3,64", "8,4096,8,128"};
// Inputs and outputs of all sets together exceed three times the largest cache in use.
constexpr double kRotatedBytes = 160e6;

struct Arguments {
  std::vector<std::string> shapes = kDefaultShapes;
  std::string device, dtype, json, plot;
  int threads = 0, repeats = 20;
  int64_t sweep_tokens = 0;
};

struct Measured {
  Shape shape{};
  std::string name;
  double eager = 0, graph = 0, train_eager = 0, train_graph = 0;  // ms; 0: not measured
  double bytes = 0, flops = 0;                                    // of the forward pass
  int64_t extra_memory = 0;
};

// One set of inputs of every contender.
struct Inputs {
  std::vector<at::Tensor> scan, mixer, attention;  // in the order of the operators' arguments
  at::Tensor grad;                                 // [B, T, H, D]
};

Inputs make_inputs(const Shape& s, const at::TensorOptions& options) {
  const auto wide = options.dtype(at::kFloat);
  const std::vector<int64_t> rows = {s.batch, s.length, s.heads, s.dim};
  const std::vector<int64_t> gates = {2, s.batch, s.length, s.heads};
  const auto unit = [&] {
    const at::Tensor x = at::randn(rows, wide);
    return (x / x.square().sum(-1, true).sqrt()).to(options.dtype());
  };
  const auto leaf = [](at::Tensor x) { return x.set_requires_grad(true); };
  const auto gate_leaves = [&] {
    return std::vector<at::Tensor>{leaf(at::rand(gates, wide) * -0.2), leaf(at::rand(gates, wide)),
                                   leaf(at::rand(gates, wide)),
                                   leaf(at::rand({2, s.heads}, wide) * 0.1)};
  };
  Inputs in;
  in.scan = {leaf(unit()), leaf(unit()), leaf(at::randn(rows, wide).to(options.dtype()))};
  for (const at::Tensor& x : in.scan) {
    in.attention.push_back(leaf(x.detach().transpose(1, 2)));
  }
  in.mixer = {leaf(at::randn({s.batch, s.length, 3, s.heads, s.dim}, wide).to(options.dtype())),
              leaf(at::randn({2, 3, s.heads, s.dim, 4}, wide) * 0.5)};
  for (auto* list : {&in.scan, &in.mixer}) {
    const auto more = gate_leaves();
    list->insert(list->end(), more.begin(), more.end());
  }
  in.mixer.push_back(leaf(at::randn(rows, wide).to(options.dtype())));
  in.mixer.push_back(leaf(at::ones({s.dim}, wide)));
  in.grad = at::randn(rows, wide).to(options.dtype());
  return in;
}

double scale_of(const Shape& s) { return 1.0 / std::sqrt(static_cast<double>(s.dim)); }

at::Tensor run_scan(const Shape& s, const std::vector<at::Tensor>& x) {
  return kernels::bidirectional_scan(x[0], x[1], x[2], x[3], x[4], x[5], x[6], scale_of(s), false,
                                     "mean");
}
at::Tensor run_mixer(const Shape& s, const std::vector<at::Tensor>& x) {
  return kernels::mixer({x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]}, {.scale = scale_of(s)});
}
at::Tensor run_attention(const Shape&, const std::vector<at::Tensor>& x) {
  return at::scaled_dot_product_attention(x[0], x[1], x[2]).transpose(1, 2);
}

// C = 16 tokens a chunk: three products with the state, four with the chunk's triangles; both directions.
double scan_flops(const Shape& s) {
  const auto d = static_cast<double>(s.dim);
  return 2 * s.token_heads() * 2 * (3 * d * d + 4 * 16 * d);
}
double attention_flops(const Shape& s) {
  return s.token_heads() * 4 * static_cast<double>(s.length * s.dim);
}

struct Contender {
  const char* name;
  at::Tensor (*run)(const Shape&, const std::vector<at::Tensor>&);
  std::vector<at::Tensor> Inputs::*inputs;
  double (*flops)(const Shape&);
  int64_t rows;  // [B, T, H, D] tensors that are read or written by the forward pass
};

const std::array<Contender, 3> kContenders = {
    Contender{"comba scan", &run_scan, &Inputs::scan, &scan_flops, 4},
    Contender{"comba mixer", &run_mixer, &Inputs::mixer, &scan_flops, 5},
    Contender{"SDPA", &run_attention, &Inputs::attention, &attention_flops, 4}};

std::vector<Measured> measure_shape(const Shape& s, const at::TensorOptions& options,
                                    const DeviceTimer& timer) {
  const double row_bytes =
      s.token_heads() * static_cast<double>(s.dim * options.dtype().itemsize());
  const size_t sets =
      static_cast<size_t>(std::min(8.0, std::max(1.0, std::ceil(kRotatedBytes / (4 * row_bytes)))));
  std::vector<Inputs> inputs;
  for (size_t i = 0; i < sets; ++i) {
    inputs.push_back(make_inputs(s, options));
  }
  std::vector<Timed> forward, train;
  std::vector<Measured> rows;
  for (const Contender& c : kContenders) {
    forward.push_back({[&, c](size_t set) {
                         const at::NoGradGuard no_grad;
                         return std::vector<at::Tensor>{c.run(s, inputs[set].*c.inputs)};
                       },
                       sets});
    train.push_back({[&, c](size_t set) {
                       const auto& x = inputs[set].*c.inputs;
                       const at::Tensor o = c.run(s, x);
                       auto out = torch::autograd::grad({o}, x, {inputs[set].grad});
                       out.push_back(o);
                       return out;
                     },
                     sets});
    Measured row{s, c.name};
    const double gates = s.token_heads() * 2 * 3 * 4;
    row.bytes = static_cast<double>(c.rows) * row_bytes + (c.flops == &scan_flops ? gates : 0);
    row.flops = c.flops(s);
    rows.push_back(row);
  }
  const auto eager = timer.eager(forward), graph = timer.graph(forward),
             train_eager = timer.eager(train), train_graph = timer.graph(train);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].eager = eager[i];
    rows[i].train_eager = train_eager[i];
    if (!graph.empty()) {
      rows[i].graph = graph[i];
      rows[i].train_graph = train_graph[i];
    }
    rows[i].extra_memory = timer.extra_memory(train[i]);
  }
  return rows;
}

struct Ceilings {
  double copy = 0, products = 0;  // bytes/s, FLOP/s
};

Ceilings measure_ceilings(const at::TensorOptions& options, const DeviceTimer& timer) {
  const bool gpu = timer.device.is_cuda();
  const int64_t bytes = gpu ? int64_t{1} << 30 : int64_t{1} << 26, n = gpu ? 8192 : 1024;
  const at::Tensor from = at::empty({bytes}, options.dtype(at::kByte)), to = at::empty_like(from);
  const at::Tensor a = at::randn({n, n}, options.dtype(at::kFloat)).to(options.dtype());
  const at::NoGradGuard no_grad;
  const auto ms = timer.eager({{[&](size_t) { return std::vector<at::Tensor>{to.copy_(from)}; }, 1},
                               {[&](size_t) { return std::vector<at::Tensor>{at::mm(a, a)}; }, 1}});
  return {2e3 * static_cast<double>(bytes) / ms[0],
          2e3 * std::pow(static_cast<double>(n), 3) / ms[1]};
}

std::string cell(double ms) { return ms > 0 ? fmt::format("{:.4f}", ms) : "-"; }

void print_header() {
  std::cout << fmt::format("{:<24} {:<12} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}\n", "shape",
                           "operator", "fwd", "fwd graph", "f+b", "f+b graph", "copy", "products",
                           "extra MiB");
}
void print_row(const Measured& row, const Ceilings& ceilings) {
  const double seconds = (row.graph > 0 ? row.graph : row.eager) * 1e-3;
  std::cout << fmt::format("{:<24} {:<12} {:>9} {:>9} {:>9} {:>9} {:>6.0f}% {:>6.0f}% {:>9.1f}\n",
                           row.shape.text(), row.name, cell(row.eager), cell(row.graph),
                           cell(row.train_eager), cell(row.train_graph),
                           100 * row.bytes / seconds / ceilings.copy,
                           100 * row.flops / seconds / ceilings.products,
                           static_cast<double>(row.extra_memory) / (1 << 20))
            << std::flush;
}

nlohmann::ordered_json to_json(const std::vector<Measured>& rows, const Ceilings& ceilings,
                               const Arguments& arguments) {
  nlohmann::ordered_json json{{"device", arguments.device},
                              {"dtype", arguments.dtype},
                              {"threads", at::get_num_threads()},
                              {"copy_bytes_per_s", ceilings.copy},
                              {"product_flops_per_s", ceilings.products}};
  for (const auto& [name, value] : gpu_facts()) {
    json["gpus"][name] = value;
  }
  for (const Measured& row : rows) {
    json["rows"].push_back({{"batch", row.shape.batch},
                            {"length", row.shape.length},
                            {"heads", row.shape.heads},
                            {"head_dim", row.shape.dim},
                            {"operator", row.name},
                            {"forward_ms", row.eager},
                            {"forward_graph_ms", row.graph},
                            {"forward_backward_ms", row.train_eager},
                            {"forward_backward_graph_ms", row.train_graph},
                            {"bytes", row.bytes},
                            {"flops", row.flops},
                            {"extra_memory_bytes", row.extra_memory}});
  }
  return json;
}

Shape parse_shape(const std::string& text) {
  Shape s{};
  char rest = 0;
  if (std::sscanf(text.c_str(), "%ld,%ld,%ld,%ld%c", &s.batch, &s.length, &s.heads, &s.dim,
                  &rest) != 4 ||
      s.batch < 1 || s.length < 1 || s.heads < 1 || s.dim < 1) {
    throw UsageError(fmt::format(
        "--shape: expected four positive numbers B,T,H,D as in 256,197,3,64, got \"{}\"", text));
  }
  return s;
}

std::vector<Shape> shapes_of(const Arguments& arguments) {
  std::vector<Shape> shapes;
  if (arguments.sweep_tokens > 0) {
    for (int64_t length = 64; length <= arguments.sweep_tokens; length *= 4) {
      shapes.push_back({arguments.sweep_tokens / length, length, 8, 64});
    }
    return shapes;
  }
  for (const std::string& text : arguments.shapes) {
    shapes.push_back(parse_shape(text));
  }
  return shapes;
}

// Nanoseconds a token against T.
std::string plot_of(const std::vector<Measured>& rows) {
  std::vector<vision::Series> series;
  for (const Contender& c : kContenders) {
    vision::Series forward{c.name, {}, {}};
    for (const Measured& row : rows) {
      if (row.name == c.name) {
        forward.xs.push_back(std::log2(static_cast<double>(row.shape.length)));
        forward.ys.push_back((row.graph > 0 ? row.graph : row.eager) * 1e6 /
                             static_cast<double>(row.shape.batch * row.shape.length));
      }
    }
    series.push_back(std::move(forward));
  }
  return vision::standalone_svg({vision::line_plot_svg(
      {.title = "Forward, ns a token", .x_label = "log2 T", .y_label = "ns", .log_y = true},
      series)});
}

void choose_device(Arguments& arguments) {
  if (arguments.device.empty()) {
    arguments.device = at::hasCUDA() ? "cuda" : "cpu";
  }
  if (arguments.device != "cpu" && !at::hasCUDA()) {
    throw UsageError(
        "--device cuda: no GPU is visible here (comba check lists what is); use --device cpu");
  }
  if (arguments.dtype.empty()) {
    arguments.dtype = arguments.device == "cpu" ? "fp32" : "bf16";
  }
  if (arguments.threads > 0) {
    at::set_num_threads(arguments.threads);
  }
}

void run_bench(Arguments arguments) {
  choose_device(arguments);
  const std::vector<Shape> shapes = shapes_of(arguments);
  const at::Device device = arguments.device == "cpu" ? at::kCPU : at::Device(at::kCUDA, 0);
  const auto options =
      at::TensorOptions().device(device).dtype(arguments.dtype == "fp32"   ? at::kFloat
                                               : arguments.dtype == "fp16" ? at::kHalf
                                                                           : at::kBFloat16);
  const DeviceTimer timer{device, arguments.repeats};
  const Ceilings ceilings = measure_ceilings(options, timer);
  std::cout << fmt::format(
      "{} {}, {} threads; copy {:.0f} GB/s, products {:.1f} TFLOP/s; medians of {} runs, ms\n"
      "comba scan, comba mixer: both directions; copy, products: share of those rates, forward\n",
      arguments.device, arguments.dtype, at::get_num_threads(), ceilings.copy * 1e-9,
      ceilings.products * 1e-12, arguments.repeats);
  print_header();
  std::vector<Measured> rows;
  for (const Shape& shape : shapes) {
    for (const Measured& row : measure_shape(shape, options, timer)) {
      print_row(row, ceilings);
      rows.push_back(row);
    }
  }
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, to_json(rows, ceilings, arguments).dump(2) + "\n");
    log::info("the figures are in {}", arguments.json);
  }
  if (!arguments.plot.empty()) {
    write_file_atomic(arguments.plot, plot_of(rows));
    log::info("the plot is in {}", arguments.plot);
  }
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed against a named peer in the same run");
  bench->require_subcommand(1);
  CLI::App* scan = bench->add_subcommand(
      "scan", "The scan and the mixer operator beside softmax attention (LibTorch's SDPA)");
  auto arguments = std::make_shared<Arguments>();
  scan->add_option(
          "--shape", arguments->shapes,
          "B,T,H,D; may be given several times (default: classification, tracking, long text)")
      ->default_str("");
  scan->add_option("--sweep", arguments->sweep_tokens,
                   "instead of shapes: T = 64, 256, .. up to this, with B T = this, H 8, D 64")
      ->check(CLI::Range(64, 1 << 24));
  scan->add_option("--device", arguments->device, "cuda or cpu (default: cuda where there is one)")
      ->check(CLI::IsMember({"cuda", "cpu"}));
  scan->add_option("--dtype", arguments->dtype,
                   "bf16, fp16 or fp32 (default: bf16; fp32 on the CPU)")
      ->check(CLI::IsMember({"bf16", "fp16", "fp32"}));
  scan->add_option("--threads", arguments->threads, "CPU threads (default: all)")
      ->check(CLI::Range(1, 1024));
  scan->add_option("--repeats", arguments->repeats, "runs whose median is reported")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  scan->add_option("--json", arguments->json, "also write the figures here");
  scan->add_option("--plot", arguments->plot, "also draw time a token against T here (SVG)");
  scan->footer(
      "Contenders take turns; on a GPU each also runs as a CUDA graph over several sets of inputs, "
      "so that\n"
      "no cache holds what it reads. Example: comba bench scan --shape 256,197,3,64 --json "
      "scan.json");
  scan->callback([arguments] { run_bench(*arguments); });
  add_bench_augment_command(*bench);
  add_bench_loader_command(*bench);
  add_bench_model_command(*bench);
  add_bench_track_command(*bench);
}

}  // namespace comba::tools
