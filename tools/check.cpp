// comba check: the machine, the libraries, every operator on every device against its formula in fp64, the shipped weights
// against what they gave where they were made, and speed beside machines that were measured. Its output is meant for bug
// reports.
#include "tools/check_models.h"
#include "tools/check_operators.h"
#include "tools/commands.h"
#include "tools/machine.h"
#include "tools/shipped_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

struct Arguments {
  std::string json, record;
  bool operators_only = false, all = false;
};

struct Findings {
  std::vector<Registration> operators;
  std::vector<ErrorRow> errors;
  std::vector<CanaryRow> canary;
  std::vector<SpeedRow> speed;
  std::vector<std::string> problems;
};

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

void see_registrations(Findings& findings) {
  findings.operators = registrations();
  std::cout << "operators\n";
  for (const Registration& one : findings.operators) {
    std::cout << fmt::format("  {:<35} {}", one.op, fmt::join(one.present, " "));
    if (!one.missing.empty()) {
      std::cout << fmt::format("  FAIL: missing {}", fmt::join(one.missing, " "));
      findings.problems.push_back(
          fmt::format("{} has no kernel for {}", one.op, fmt::join(one.missing, ", ")));
    }
    std::cout << "\n";
  }
}

void print_row(const ErrorRow& row) {
  std::cout << fmt::format(
      "  {:<7} {:<18} {:<5} {:<16} {:>8.1e} {:>8.1e} {:>8.1e} {:>8.1e} {:>8.1e}  {}\n", row.device,
      row.op, row.dtype, row.tensor, row.p50, row.p99, row.max, row.rms, row.allowed,
      row.pass() ? "PASS" : "FAIL");
}

// Of each operator and dtype the tensor that is nearest to its bound, and all beyond it; or every one.
void see_errors(Findings& findings, bool all) {
  std::cout << fmt::format(
                   "errors relative to the rms of the formula in fp64 ({})\n"
                   "  {:<7} {:<18} {:<5} {:<16} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
                   all ? "outputs and gradients"
                       : "of outputs and gradients the worst; --all prints every one",
                   "device", "operator", "dtype", "tensor", "p50", "p99", "max", "rms", "allowed")
            << std::flush;
  findings.errors = check_operators(devices());
  const auto& rows = findings.errors;
  const auto group = [](const ErrorRow& row) { return std::tie(row.device, row.op, row.dtype); };
  for (auto first = rows.begin(); first != rows.end();) {
    const auto last = std::find_if(
        first, rows.end(), [&](const ErrorRow& row) { return group(row) != group(*first); });
    const auto worst = std::max_element(first, last, [](const ErrorRow& a, const ErrorRow& b) {
      return a.rms / a.allowed < b.rms / b.allowed;
    });
    for (auto row = first; row != last; ++row) {
      if (all || row == worst || !row->pass()) {
        print_row(*row);
      }
      if (!row->pass()) {
        findings.problems.push_back(fmt::format("{} of {} in {} is out of bounds on {}",
                                                row->tensor, row->op, row->dtype, row->device));
      }
    }
    first = last;
  }
  const auto passed = std::ranges::count_if(rows, &ErrorRow::pass);
  std::cout << fmt::format("  {}: {} of {} within bounds\n",
                           passed == std::ssize(rows) ? "PASS" : "FAIL", passed, rows.size());
}

void see_canary(Findings& findings) {
  std::cout << "shipped tracker, six made-up frames: largest difference from what it gave where it "
               "was made\n"
            << std::flush;
  try {
    findings.canary =
        check_canary(shipped_tracker(), shipped_file("tracking/weights/canary.json"), devices());
  } catch (const std::exception& error) {
    std::cout << fmt::format("  FAIL: {}\n", error.what());
    findings.problems.push_back("the shipped tracker could not be checked");
    return;
  }
  for (const CanaryRow& row : findings.canary) {
    std::cout << fmt::format("  {:<7} box {:.3f} px (allowed {}), score {:.4f} (allowed {})  {}\n",
                             row.device, row.box, row.box_allowed, row.score, row.score_allowed,
                             row.pass() ? "PASS" : "FAIL");
    if (!row.pass()) {
      findings.problems.push_back(
          fmt::format("the shipped tracker answers differently on {}", row.device));
    }
  }
}

void see_speed(Findings& findings) {
  std::cout << "speed, medians (scan: 256 images of Comba-T in bf16 on a GPU, 320 tokens in fp32 "
               "on two CPU threads)\n"
            << std::flush;
  if (findings.canary.empty()) {
    return;  // the weights could not be read
  }
  findings.speed = measure_speed(shipped_tracker(), devices());
  for (const SpeedRow& row : findings.speed) {
    std::cout << fmt::format(
        "  {:<7} {:<32} {:>8.3f} ms   {} ms on {}{}\n", row.device, row.what, row.milliseconds,
        row.nearest, row.measured_on,
        row.slow() ? "  SLOW: is something else running? is its power limited?" : "");
  }
}

nlohmann::ordered_json to_json(const Findings& findings) {
  nlohmann::ordered_json json{{"pass", findings.problems.empty()}, {"problems", findings.problems}};
  for (const auto& [title, facts] : {std::pair{"machine", machine_facts()},
                                     {"libraries", library_facts()},
                                     {"gpus", gpu_facts()}}) {
    for (const auto& [name, value] : facts) {
      json[title][name] = value;
    }
  }
  for (const Registration& one : findings.operators) {
    json["operators"].push_back(
        {{"name", one.op}, {"present", one.present}, {"missing", one.missing}});
  }
  json["errors"] = json["canary"] = json["speed"] = nlohmann::ordered_json::array();
  for (const ErrorRow& row : findings.errors) {  // NaN becomes null
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
  for (const CanaryRow& row : findings.canary) {
    json["canary"].push_back(
        {{"device", row.device}, {"box_px", row.box}, {"score", row.score}, {"pass", row.pass()}});
  }
  for (const SpeedRow& row : findings.speed) {
    json["speed"].push_back({{"device", row.device},
                             {"what", row.what},
                             {"ms", row.milliseconds},
                             {"known_ms", row.nearest},
                             {"known_of", row.measured_on},
                             {"slow", row.slow()}});
  }
  return json;
}

void run_check(const Arguments& arguments) {
  if (!arguments.record.empty()) {
    record_canary(shipped_tracker(), arguments.record);
    std::cout << "recorded  " << arguments.record << "\n";
    return;
  }
  if (!arguments.operators_only) {
    print_facts("machine", machine_facts());
    print_facts("libraries", library_facts());
    print_facts("GPUs", gpu_facts());
  }
  Findings findings;
  see_registrations(findings);
  if (findings.problems.empty() && !arguments.operators_only) {
    see_errors(findings, arguments.all);
    see_canary(findings);
    see_speed(findings);
  }
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, to_json(findings).dump(2) + "\n");
  }
  COMBA_CHECK(findings.problems.empty(),
              "checking this machine: {}; see the lines marked FAIL above, and please report all "
              "of the output",
              fmt::join(findings.problems, "; "));
  std::cout << "PASS: all is well\n";
}

}  // namespace

void add_check_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "check", "Describe the machine; test operators, shipped weights and speed on every device");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--json", arguments->json, "also write everything here");
  command->add_flag("--all", arguments->all, "print every tensor's errors");
  command->add_flag("--operators", arguments->operators_only,
                    "only list the operators and their kernels");
  command->add_option("--record", arguments->record,
                      "only write what the shipped tracker gives here, in fp32 on the CPU (for "
                      "those who ship one)");
  command->footer(
      "Compares outputs and gradients with plain formulas in fp64 (the recurrence token by token), "
      "and exits with 1 if\n"
      "one is out of bounds or the shipped weights answer differently. Slowness is told, but no "
      "failure.\n"
      "The output is made to be pasted into a bug report.\n"
      "Example: comba check --json check.json");
  command->callback([arguments] { run_check(*arguments); });
}

}  // namespace comba::tools
