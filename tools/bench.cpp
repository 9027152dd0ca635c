// comba bench; its verb scan: the operators against softmax attention, in the same process, on the same shapes.
#include "tools/bench_timer.h"
#include "tools/bench_track.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/parse_numbers.h"
#include "tools/scan_contenders.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <torch/csrc/autograd/autograd.h>

namespace comba::tools {
namespace {

const std::vector<std::string> kDefaultShapes = {"256,197,3,64", "256,197,6,64", "64,320,3,64",
                                                 "1,320,3,64", "8,4096,8,128"};
// --peers: T = 512, 1,024, .. 16,384, of this many tokens in all.
constexpr int64_t kPeerLengths[2] = {512, 16384};
constexpr int64_t kPeerTokens = 65536, kPeerTokensCpu = 4096;
// Inputs and outputs of all sets together exceed three times the largest cache in use.
constexpr double kRotatedBytes = 160e6;

struct Arguments {
  std::vector<std::string> shapes;
  std::string device, dtype, json, plot;
  int threads = 0, repeats = 20;
  int64_t sweep_tokens = 0;
  bool peers = false;
  double limit = 5;  // seconds
};

struct Measured {
  ScanShape shape{};
  std::string name;
  std::string left_out = {};  // why nothing was measured; empty: it was
  double eager = 0, graph = 0, train_eager = 0, train_graph = 0;  // ms; 0: not measured
  double bytes = 0, flops = 0;                                    // of the forward pass
  int64_t extra_memory = 0;
  double forward() const { return graph > 0 ? graph : eager; }
  double both() const { return train_graph > 0 ? train_graph : train_eager; }
};

// A contender with its inputs, ready to run.
struct Candidate {
  Measured row;
  Timed forward = {}, train = {};
};

Candidate make_candidate(const ScanContender& c, const ScanShape& s,
                         const at::TensorOptions& options) {
  struct Set {
    std::vector<at::Tensor> inputs, leaves;
    at::Tensor grad;
  };
  const double row_bytes = s.token_heads() * static_cast<double>(s.dim) *
                           static_cast<double>(options.dtype().itemsize());
  const auto count =
      static_cast<size_t>(std::min(8.0, std::max(1.0, std::ceil(kRotatedBytes / (4 * row_bytes)))));
  const auto sets = std::make_shared<std::vector<Set>>(count);
  for (Set& set : *sets) {
    set.inputs = c.inputs(s, options);
    for (const at::Tensor& x : set.inputs) {
      if (x.defined() && x.requires_grad()) {
        set.leaves.push_back(x);
      }
    }
    set.grad = at::randn({s.batch, s.length, s.heads, s.dim}, options);
  }
  Candidate candidate{.row = {.shape = s, .name = c.name}};
  candidate.row.bytes = c.rows * row_bytes + c.gates * s.token_heads() * 2 * 4;
  candidate.row.flops = c.flops(s);
  candidate.forward = {[=, run = c.run](size_t i) {
                         const at::NoGradGuard no_grad;
                         return std::vector<at::Tensor>{run(s, (*sets)[i].inputs)};
                       },
                       count};
  candidate.train = {[=, run = c.run](size_t i) {
                       const Set& set = (*sets)[i];
                       const at::Tensor o = run(s, set.inputs);
                       auto out = torch::autograd::grad({o}, set.leaves, {set.grad});
                       out.push_back(o);
                       return out;
                     },
                     count};
  return candidate;
}

// What `work` returns, or why there was no memory for it.
template <typename Work>
std::string unless_out_of_memory(const Work& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    if (!is_out_of_memory(error)) {
      throw;
    }
    return "out of memory";
  }
}

class ScanBench {
 public:
  ScanBench(const at::TensorOptions& options, const DeviceTimer& timer, double limit)
      : options_(options), timer_(timer), limit_(limit) {}

  // A row for each contender; those that hold the shape take turns.
  std::vector<Measured> measure(const std::vector<ScanContender>& contenders,
                                const ScanShape& shape) {
    std::vector<Candidate> candidates;
    std::vector<Measured> rows;
    for (const ScanContender& c : contenders) {
      rows.push_back({.shape = shape, .name = c.name});
      rows.back().left_out = unless_out_of_memory([&] { return try_out(c, shape, candidates); });
    }
    const std::string failed = unless_out_of_memory([&] {
      time(candidates);
      return "";
    });
    size_t next = 0;
    for (Measured& row : rows) {
      if (row.left_out.empty()) {
        row = candidates[next++].row;
        row.left_out = failed;
      }
    }
    return rows;
  }

 private:
  // Adds `c` to the candidates, or says why it is left out.
  std::string try_out(const ScanContender& c, const ScanShape& shape,
                      std::vector<Candidate>& candidates) {
    const auto slow = too_slow_.find(c.name);
    if (slow != too_slow_.end() && c.flops(shape) >= slow->second) {
      return fmt::format("no less work than what took longer than {:g} s", limit_);
    }
    Candidate candidate = make_candidate(c, shape, options_);
    const double seconds = 1e-3 * timer_.once(candidate.train);
    if (seconds > limit_) {
      too_slow_[c.name] = c.flops(shape);
      return fmt::format("forward and backward took {:.2g} s, longer than {:g} s", seconds, limit_);
    }
    candidates.push_back(std::move(candidate));
    return "";
  }

  void time(std::vector<Candidate>& candidates) const {
    std::vector<Timed> forward, train;
    for (const Candidate& candidate : candidates) {
      forward.push_back(candidate.forward);
      train.push_back(candidate.train);
    }
    const auto eager = timer_.eager(forward), graph = timer_.graph(forward),
               train_eager = timer_.eager(train), train_graph = timer_.graph(train);
    for (size_t i = 0; i < candidates.size(); ++i) {
      Measured& row = candidates[i].row;
      row.eager = eager[i];
      row.train_eager = train_eager[i];
      if (!graph.empty()) {
        row.graph = graph[i];
        row.train_graph = train_graph[i];
      }
      row.extra_memory = timer_.extra_memory(train[i]);
    }
  }

  at::TensorOptions options_;
  DeviceTimer timer_;
  double limit_;
  std::map<std::string, double> too_slow_;  // FLOPs of a forward pass with which it was
};

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
  std::cout << fmt::format("{:<24} {:<14} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}\n", "shape",
                           "operator", "fwd", "fwd graph", "f+b", "f+b graph", "copy", "products",
                           "extra MiB");
}
void print_row(const Measured& row, const Ceilings& ceilings) {
  if (!row.left_out.empty()) {
    std::cout << fmt::format("{:<24} {:<14} left out: {}\n", row.shape.text(), row.name,
                             row.left_out)
              << std::flush;
    return;
  }
  const double seconds = row.forward() * 1e-3;
  std::cout << fmt::format("{:<24} {:<14} {:>9} {:>9} {:>9} {:>9} {:>6.0f}% {:>6.0f}% {:>9.1f}\n",
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
    nlohmann::ordered_json one{{"batch", row.shape.batch},
                               {"length", row.shape.length},
                               {"heads", row.shape.heads},
                               {"head_dim", row.shape.dim},
                               {"operator", row.name}};
    if (row.left_out.empty()) {
      one.update({{"forward_ms", row.eager},
                  {"forward_graph_ms", row.graph},
                  {"forward_backward_ms", row.train_eager},
                  {"forward_backward_graph_ms", row.train_graph},
                  {"bytes", row.bytes},
                  {"flops", row.flops},
                  {"extra_memory_bytes", row.extra_memory}});
    } else {
      one["left_out"] = row.left_out;
    }
    json["rows"].push_back(std::move(one));
  }
  return json;
}

ScanShape parse_shape(const std::string& text) {
  const auto numbers = parse_numbers(text, ',', 4);
  if (!numbers || std::ranges::min(*numbers) < 1) {
    throw UsageError(fmt::format(
        "--shape: expected four positive numbers B,T,H,D as in 256,197,3,64, got \"{}\"", text));
  }
  const auto& n = *numbers;
  return {n[0], n[1], n[2], n[3]};
}

std::vector<ScanShape> shapes_of(const Arguments& arguments) {
  std::vector<ScanShape> shapes;
  const auto add_lengths = [&](int64_t tokens, int64_t from, int64_t to, int64_t factor) {
    for (int64_t length = from; length <= std::min(tokens, to); length *= factor) {
      shapes.push_back({tokens / length, length, 8, 64});
    }
  };
  if (arguments.sweep_tokens > 0) {
    add_lengths(arguments.sweep_tokens, 64, arguments.sweep_tokens, 4);
  } else if (arguments.peers && arguments.shapes.empty()) {
    add_lengths(arguments.device == "cpu" ? kPeerTokensCpu : kPeerTokens, kPeerLengths[0],
                kPeerLengths[1], 2);
  } else {
    for (const std::string& text : arguments.shapes.empty() ? kDefaultShapes : arguments.shapes) {
      shapes.push_back(parse_shape(text));
    }
  }
  return shapes;
}

// Nanoseconds a token against T, of every contender where it was measured.
std::string plot_of(const std::string& title, const std::vector<ScanContender>& contenders,
                    const std::vector<Measured>& rows, double (Measured::*milliseconds)() const) {
  std::vector<vision::Series> series;
  for (const ScanContender& c : contenders) {
    series.push_back({c.name, {}, {}});
    for (const Measured& row : rows) {
      if (row.name == c.name && row.left_out.empty()) {
        series.back().xs.push_back(static_cast<double>(row.shape.length));
        series.back().ys.push_back((row.*milliseconds)() * 1e6 / row.shape.tokens());
      }
    }
  }
  return vision::line_plot_svg(
      {.title = title, .x_label = "T", .y_label = "ns", .log_x = true, .log_y = true}, series);
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

void write_results(const Arguments& arguments, const std::vector<ScanContender>& contenders,
                   const std::vector<Measured>& rows, const Ceilings& ceilings) {
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, to_json(rows, ceilings, arguments).dump(2) + "\n");
    log::info("the figures are in {}", arguments.json);
  }
  if (!arguments.plot.empty()) {
    write_file_atomic(
        arguments.plot,
        vision::standalone_svg(
            {plot_of("Forward, ns a token", contenders, rows, &Measured::forward),
             plot_of("Forward and backward, ns a token", contenders, rows, &Measured::both)}));
    log::info("the plots are in {}", arguments.plot);
  }
}

void run_bench(Arguments arguments) {
  choose_device(arguments);
  const std::vector<ScanShape> shapes = shapes_of(arguments);
  const std::vector<ScanContender> contenders = arguments.peers ? scan_peers() : scan_operators();
  const at::Device device = arguments.device == "cpu" ? at::kCPU : at::Device(at::kCUDA, 0);
  const auto options =
      at::TensorOptions().device(device).dtype(arguments.dtype == "fp32"   ? at::kFloat
                                               : arguments.dtype == "fp16" ? at::kHalf
                                                                           : at::kBFloat16);
  const DeviceTimer timer{device, arguments.repeats};
  const Ceilings ceilings = measure_ceilings(options, timer);
  std::cout << fmt::format(
      "{} {}, {} threads; copy {:.0f} GB/s, products {:.1f} TFLOP/s; medians of {} runs, ms\n"
      "{}: both directions; copy, products: share of those rates, forward\n",
      arguments.device, arguments.dtype, at::get_num_threads(), ceilings.copy * 1e-9,
      ceilings.products * 1e-12, arguments.repeats,
      arguments.peers ? "all but SDPA" : "comba scan, comba mixer");
  print_header();
  std::vector<Measured> rows;
  ScanBench bench(options, timer, arguments.limit);
  for (const ScanShape& shape : shapes) {
    for (const Measured& row : bench.measure(contenders, shape)) {
      print_row(row, ceilings);
      rows.push_back(row);
    }
  }
  write_results(arguments, contenders, rows, ceilings);
}

void add_scan_command(CLI::App& bench) {
  CLI::App* scan = bench.add_subcommand(
      "scan", "The scan and the mixer operator beside softmax attention (LibTorch's SDPA)");
  auto arguments = std::make_shared<Arguments>();
  scan->add_option("--shape", arguments->shapes,
                   "B,T,H,D; may be given several times (default: classification, tracking, long "
                   "text)");
  scan->add_option("--sweep", arguments->sweep_tokens,
                   "instead of shapes: T = 64, 256, .. up to this, with B T = this, H 8, D 64")
      ->check(CLI::Range(64, 1 << 24));
  scan->add_flag("--peers", arguments->peers,
                 fmt::format("the scan as Comba, gated delta rule, delta rule, GLA and retention "
                             "(their gates, one kernel), Comba token by token, and SDPA; default "
                             "shapes: T = {}, {}, .. {}, with B T = {} ({} on the CPU), H 8, D 64",
                             kPeerLengths[0], 2 * kPeerLengths[0], kPeerLengths[1], kPeerTokens,
                             kPeerTokensCpu));
  scan->add_option("--limit", arguments->limit,
                   "leaves out whatever takes longer for one forward and backward pass, seconds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
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
      "no cache holds what it reads. Examples:\n  comba bench scan --shape 256,197,3,64 --json "
      "scan.json\n"
      "  comba bench scan --peers --plot peers.svg");
  scan->callback([arguments] { run_bench(*arguments); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed against a named peer in the same run");
  bench->require_subcommand(1);
  add_scan_command(*bench);
  add_bench_augment_command(*bench);
  add_bench_loader_command(*bench);
  add_bench_model_command(*bench);
  add_bench_track_command(*bench);
}

}  // namespace comba::tools
