#include "tools/model_table.h"

#include "classify/classifier.h"
#include "classify/config.h"
#include "tools/bench_timer.h"
#include "tools/forward_rate.h"
#include "tools/machine.h"
#include "tools/published.h"
#include "tools/shipped_file.h"
#include "tracking/config.h"
#include "tracking/network_cost.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include <ATen/ops/randn.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

namespace fs = std::filesystem;

struct Row {
  std::string config;  // folder and name, "imagenet/comba_t"
  bool tracker = false;
  int64_t parameters = 0;
  vision::ModelCost cost = {};
  std::optional<ForwardRate> rate = {};
  bool out_of_memory = false;
  const Published* published = nullptr;
};

class Measuring {
 public:
  explicit Measuring(const ModelTableOptions& options)
      : on_(options.measure), repeats_(options.repeats) {
    if (on_) {
      device_ = vision::choose_device(options.device);
      batch_ = options.batch > 0 ? options.batch : device_.is_cuda() ? 256 : 8;
    }
  }
  int64_t batch() const { return batch_; }
  std::string caption() const {
    return on_ ? fmt::format("forward passes of {} images on {}, {}, medians of {}", batch_,
                             device_.is_cuda() ? gpu_name(device_) : "the CPU",
                             device_.is_cuda() ? "bf16" : "fp32", repeats_)
               : "speed and memory were not measured (--measure)";
  }

  // `answer` takes noise in each of `shapes` after the batch.
  template <typename Model, typename Answer>
  void measure(Row& row, Model& model, const std::vector<std::vector<int64_t>>& shapes,
               const Answer& answer) const {
    if (!on_) {
      return;
    }
    try {
      model->to(device_);
      model->eval();
      std::vector<at::Tensor> inputs;
      for (std::vector<int64_t> shape : shapes) {
        shape.insert(shape.begin(), batch_);
        inputs.push_back(at::randn(shape, device_));
      }
      row.rate = measure_forward([&] { return answer(inputs); },
                                 vision::choose_precision("auto", device_), device_, repeats_);
    } catch (const c10::Error& error) {
      if (!is_out_of_memory(error)) {
        throw;
      }
      row.out_of_memory = true;
    }
  }

 private:
  bool on_;
  int repeats_;
  c10::Device device_ = c10::kCPU;
  int64_t batch_ = 0;
};

const Published* find_published(std::span<const Published> list, const std::string& config) {
  const auto found = std::ranges::find(list, config, &Published::config);
  return found == list.end() ? nullptr : &*found;
}

template <typename Model>
int64_t parameters_of(const Model& model) {
  int64_t count = 0;
  for (const at::Tensor& parameter : model->parameters()) {
    count += parameter.numel();
  }
  return count;
}

void describe_classifier(const std::string& path, const ModelTableOptions& options,
                         const Measuring& measuring, Row& row) {
  classify::RunConfig config;
  classify::read_run_config(path, options.assignments, config);
  const int64_t classes = config.classes > 0 ? config.classes : kImageNetClasses;
  classify::Classifier model(config.model, classes);
  row.parameters = parameters_of(model);
  row.cost = vision::model_cost(config.model, classes);
  row.published = find_published(published_classifiers(), row.config);
  const int64_t side = config.model.image_size;
  measuring.measure(row, model, {{config.model.in_channels, side, side}},
                    [&](const std::vector<at::Tensor>& x) { return model->forward(x[0]); });
}

void describe_tracker(const std::string& path, const ModelTableOptions& options,
                      const Measuring& measuring, Row& row) {
  tracking::TrackConfig config;
  tracking::read_track_config(path, options.assignments, config);
  const tracking::NetworkConfig& network = config.network;
  tracking::Network model(network);
  row.parameters = parameters_of(model);
  row.cost = tracking::network_cost(network);
  row.published = find_published(published_trackers(), row.config);
  const int64_t channels = network.backbone.in_channels, side = network.backbone.image_size,
                target = network.template_size;
  measuring.measure(
      row, model, {{network.templates, channels, target, target}, {channels, side, side}},
      [&](const std::vector<at::Tensor>& x) { return model->forward(x[0], x[1]).score; });
}

Row make_row(const std::string& path, const ModelTableOptions& options,
             const Measuring& measuring) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  Row row{.config = (whole.parent_path().filename() / whole.stem()).string()};
  try {
    row.tracker = config_task(read_config_file(path), path) == "track";
    row.tracker ? describe_tracker(path, options, measuring, row)
                : describe_classifier(path, options, measuring, row);
  } catch (const UsageError& error) {  // of keys that contradict each other, which name no file
    const std::string message = error.what();
    throw UsageError(message.find(path) == std::string::npos ? path + ": " + message : message);
  }
  return row;
}

std::vector<std::string> shipped_configs() {
  std::vector<std::string> paths;
  for (const char* name : {"configs/imagenet", "configs/tracking"}) {
    const fs::path folder = shipped_file(name);
    COMBA_CHECK(fs::is_directory(folder),
                "comba info --table: expected the shipped configurations in {}, where no folder "
                "is; name those to list: comba info --table CONFIG...",
                folder.string());
    const size_t before = paths.size();
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".toml") {
        paths.push_back(entry.path().string());
      }
    }
    std::sort(paths.begin() + static_cast<std::ptrdiff_t>(before), paths.end());
  }
  return paths;
}

using Cells = std::vector<std::string>;

std::string number(double value) { return value > 0 ? fmt::format("{:g}", value) : "-"; }
std::string percent(double value) { return value > 0 ? fmt::format("{:.1f}", value) : "-"; }

// Sources in the order of their first use, cited by number.
class Sources {
 public:
  std::string cite(std::string_view source) {
    auto found = std::ranges::find(list_, source);
    if (found == list_.end()) {
      found = list_.insert(found, source);
    }
    return fmt::format("[{}]", found - list_.begin() + 1);
  }
  void print(bool markdown) const {
    for (size_t i = 0; i < list_.size(); ++i) {
      std::cout << fmt::format("{}[{}] {}\n", markdown ? "- " : "", i + 1, list_[i]);
    }
  }

 private:
  std::vector<std::string_view> list_;
};

// The first column is text, the others are figures.
void print_cells(const std::vector<Cells>& lines, bool markdown) {
  std::vector<size_t> widths(lines[0].size());
  for (const Cells& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], line[i].size());
    }
  }
  for (const Cells& line : lines) {
    std::string text = markdown ? "|" : "";
    for (size_t i = 0; i < line.size(); ++i) {
      text += markdown ? fmt::format(" {} |", line[i])
              : i == 0 ? fmt::format("{:<{}}", line[i], widths[i])
                       : fmt::format("  {:>{}}", line[i], widths[i]);
    }
    std::cout << text << "\n";
    if (markdown && &line == &lines[0]) {
      std::cout << "|---|";
      for (size_t i = 1; i < line.size(); ++i) {
        std::cout << "---:|";
      }
      std::cout << "\n";
    }
  }
}

Cells measured_cells(const Row& row, int64_t batch) {
  if (!row.rate) {
    return Cells(2, row.out_of_memory ? "out of memory" : "not measured");
  }
  const auto bytes = static_cast<double>(row.rate->peak_memory);
  return {fmt::format("{:.0f}", 1e3 * static_cast<double>(batch) / row.rate->milliseconds),
          bytes > 0 ? fmt::format("{:.2f}", bytes / (1 << 30)) : "-"};
}

Cells published_cells(const Published& p, bool trackers, Sources& sources) {
  Cells cells = {std::string(p.model), number(p.parameters), number(p.macs)};
  cells.push_back(percent(trackers ? p.ao : p.top1));
  if (trackers) {
    cells.push_back(percent(p.auc));
  }
  cells.push_back(sources.cite(p.source));
  return cells;
}

// Accuracies of ours: none as long as no run of these recipes on ImageNet-1k, GOT-10k or LaSOT exists.
void print_task(const std::vector<Row>& rows, bool trackers, const Measuring& measuring,
                bool markdown) {
  const Cells scores = trackers ? Cells{"GOT-10k AO", "LaSOT AUC"} : Cells{"ImageNet top-1"};
  Cells header = {"configuration",
                  "parameters",
                  "GMACs dense",
                  "with mixing",
                  trackers ? "frames/s" : "images/s",
                  "GiB"};
  for (const std::string& score : scores) {
    header.push_back("ours: " + score);
  }
  header.insert(header.end(), {"published: model", "10^6 parameters", "GMACs"});
  header.insert(header.end(), scores.begin(), scores.end());
  header.push_back("source");
  std::vector<Cells> lines = {header};
  const size_t own = 6 + scores.size();
  Sources sources;
  for (const Row& row : rows) {
    if (row.tracker != trackers) {
      continue;
    }
    Cells line = {row.config, fmt::format("{}", fmt::group_digits(row.parameters)),
                  fmt::format("{:.3f}", row.cost.dense / 1e9),
                  fmt::format("{:.3f}", row.cost.total() / 1e9)};
    const Cells measured = measured_cells(row, measuring.batch());
    line.insert(line.end(), measured.begin(), measured.end());
    line.resize(own);
    const Cells others = row.published != nullptr
                             ? published_cells(*row.published, trackers, sources)
                             : Cells(header.size() - own, "-");
    line.insert(line.end(), others.begin(), others.end());
    lines.push_back(line);
  }
  if (lines.size() == 1) {
    return;
  }
  for (const Published& peer : trackers ? published_trackers() : published_classifiers()) {
    if (peer.config.empty()) {
      Cells line(own, "");
      const Cells others = published_cells(peer, trackers, sources);
      line.insert(line.end(), others.begin(), others.end());
      lines.push_back(line);
    }
  }
  print_cells(lines, markdown);
  std::cout << "\n";
  sources.print(markdown);
  std::cout << "\n";
}

nlohmann::ordered_json to_json(const Row& row, int64_t batch) {
  nlohmann::ordered_json json{{"config", row.config},
                              {"task", row.tracker ? "track" : "classify"},
                              {"parameters", row.parameters},
                              {"macs_dense", row.cost.dense},
                              {"macs_total", row.cost.total()}};
  if (row.rate) {
    json["measured"] = {
        {"batch", batch},
        {"forward_ms", row.rate->milliseconds},
        {"images_per_second", 1e3 * static_cast<double>(batch) / row.rate->milliseconds},
        {"peak_memory_bytes", row.rate->peak_memory}};
  }
  if (row.published != nullptr) {
    const Published& p = *row.published;
    auto& published = json["published"] = {{"model", p.model}};
    const std::pair<const char*, double> figures[] = {{"parameters_millions", p.parameters},
                                                      {"gmacs", p.macs},
                                                      {"imagenet_top1", p.top1},
                                                      {"got10k_ao", p.ao},
                                                      {"lasot_auc", p.auc}};
    for (const auto& [name, value] : figures) {
      if (value > 0) {
        published[name] = value;
      }
    }
    published["source"] = p.source;
  }
  return json;
}

}  // namespace

void print_model_table(const ModelTableOptions& options) {
  const Measuring measuring(options);
  std::vector<Row> rows;
  for (const std::string& path : options.configs.empty() ? shipped_configs() : options.configs) {
    rows.push_back(make_row(path, options, measuring));
  }
  for (const bool trackers : {false, true}) {
    print_task(rows, trackers, measuring, options.markdown);
  }
  std::cout << fmt::format(
      "{} classes; {}; ours: trained on none of these benchmarks yet; published figures are "
      "others' own.\n",
      fmt::group_digits(kImageNetClasses), measuring.caption());
  if (!options.json.empty()) {
    nlohmann::ordered_json json;
    for (const Row& row : rows) {
      json["rows"].push_back(to_json(row, measuring.batch()));
    }
    write_file_atomic(options.json, json.dump(2) + "\n");
    log::info("the figures are in {}", options.json);
  }
}

}  // namespace comba::tools
