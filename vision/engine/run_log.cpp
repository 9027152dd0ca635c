#include "vision/engine/run_log.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include <nlohmann/json.hpp>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMetricsFile = "metrics.jsonl";

Json to_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) {
    json[name] = value;
  }
  return json;
}

Json to_json(const IntervalRecord& record) {
  return {{"kind", "interval"},
          {"step", record.step},
          {"epoch", record.epoch + 1},
          {"loss", record.loss},
          {"lr", record.lr},
          {"gradient_norm", record.gradient_norm},
          {"images_per_second", record.images_per_second},
          {"data_wait", record.data_wait},
          {"data_stages", to_json(record.data_stages)},
          {"skipped", record.skipped},
          {"memory_bytes", record.memory}};
}

Json to_json(const EpochRecord& record) {
  return {{"kind", "epoch"},
          {"step", record.step},
          {"epoch", record.epoch + 1},
          {"train_loss", record.train_loss},
          {"lr", record.lr},
          {"seconds", record.seconds},
          {"images_per_second", record.images_per_second},
          {"raw", to_json(record.raw)},
          {"ema", to_json(record.average)}};
}

// JSON has no NaN: it was written as null.
double number(const Json& json, const char* key) {
  const Json& value = json.at(key);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

Metrics metrics_of(const Json& json) {
  Metrics metrics;
  for (const auto& [name, value] : json.items()) {
    metrics.emplace_back(name, number(json, name.c_str()));
  }
  return metrics;
}

IntervalRecord interval_of(const Json& json) {
  return {.step = json.at("step").get<int64_t>(),
          .epoch = json.at("epoch").get<int64_t>() - 1,
          .loss = number(json, "loss"),
          .lr = number(json, "lr"),
          .gradient_norm = number(json, "gradient_norm"),
          .images_per_second = number(json, "images_per_second"),
          .data_wait = number(json, "data_wait"),
          .data_stages = metrics_of(json.value("data_stages", Json::object())),
          .skipped = json.value("skipped", int64_t{0}),
          .memory = json.value("memory_bytes", int64_t{0})};
}

EpochRecord epoch_of(const Json& json) {
  return {.step = json.at("step").get<int64_t>(),
          .epoch = json.at("epoch").get<int64_t>() - 1,
          .train_loss = number(json, "train_loss"),
          .lr = number(json, "lr"),
          .seconds = number(json, "seconds"),
          .images_per_second = number(json, "images_per_second"),
          .raw = metrics_of(json.at("raw")),
          .average = metrics_of(json.at("ema"))};
}

// By TensorBoard's tags.
Metrics scalars_of(const IntervalRecord& record) {
  Metrics scalars = {{"train/loss", record.loss},
                     {"train/lr", record.lr},
                     {"train/gradient_norm", record.gradient_norm},
                     {"train/skipped_steps", static_cast<double>(record.skipped)},
                     {"speed/images_per_second", record.images_per_second},
                     {"speed/data_wait", record.data_wait}};
  if (record.memory > 0) {
    scalars.emplace_back("speed/memory_gib", static_cast<double>(record.memory) / (1 << 30));
  }
  return scalars;
}

Metrics scalars_of(const EpochRecord& record) {
  Metrics scalars = {{"epoch/train_loss", record.train_loss}};
  for (const auto& [name, value] : record.raw) {
    scalars.emplace_back("eval/" + name, value);
  }
  for (const auto& [name, value] : record.average) {
    scalars.emplace_back("eval_ema/" + name, value);
  }
  return scalars;
}

void add_points(std::vector<Series>& series, const std::string& name, double x, double y) {
  auto found =
      std::find_if(series.begin(), series.end(), [&](const Series& s) { return s.name == name; });
  if (found == series.end()) {
    series.push_back({name, {}, {}});
    found = series.end() - 1;
  }
  found->xs.push_back(x);
  found->ys.push_back(y);
}

// One plot for the losses and one for every other metric, over the epochs.
std::map<std::string, std::vector<Series>> epoch_curves(const std::vector<EpochRecord>& epochs) {
  std::map<std::string, std::vector<Series>> plots;
  for (const EpochRecord& record : epochs) {
    const auto x = static_cast<double>(record.epoch + 1);
    add_points(plots["loss"], "training", x, record.train_loss);
    for (const auto& [name, value] : record.raw) {
      add_points(plots[name], "evaluation", x, value);
    }
    for (const auto& [name, value] : record.average) {
      add_points(plots[name], "evaluation, averaged weights", x, value);
    }
  }
  return plots;
}

}  // namespace

RunLog::RunLog(fs::path folder, int64_t resume_step, bool tensorboard)
    : folder_(std::move(folder)) {
  if (resume_step >= 0) {
    read_back(resume_step);
  }
  std::string text;
  // Interleaved by step, an epoch after its intervals.
  size_t next = 0;
  for (const EpochRecord& epoch : epochs_) {
    for (; next < intervals_.size() && intervals_[next].step <= epoch.step; ++next) {
      text += to_json(intervals_[next]).dump() + "\n";
    }
    text += to_json(epoch).dump() + "\n";
  }
  for (; next < intervals_.size(); ++next) {
    text += to_json(intervals_[next]).dump() + "\n";
  }
  write_file_atomic(folder_ / kMetricsFile, text);
  if (tensorboard) {
    events_.emplace(folder_ / "tensorboard", std::max<int64_t>(resume_step + 1, 0));
  }
}

void RunLog::read_back(int64_t resume_step) {
  std::ifstream file(folder_ / kMetricsFile);
  std::string line;
  while (std::getline(file, line)) {
    try {
      const Json json = Json::parse(line);
      if (json.at("step").get<int64_t>() > resume_step) {
        continue;
      }
      if (json.at("kind") == "epoch") {
        epochs_.push_back(epoch_of(json));
      } else {
        intervals_.push_back(interval_of(json));
      }
    } catch (const nlohmann::json::exception&) {
      log::warning("reading back {}: a damaged line is dropped", (folder_ / kMetricsFile).string());
    }
  }
}

void RunLog::append(const std::string& line) {
  std::ofstream file(folder_ / kMetricsFile, std::ios::app);
  file << line << '\n' << std::flush;
  if (!file && !warned_) {
    warned_ = true;
    log::warning("writing {} failed (disk full?); training goes on without this record",
                 (folder_ / kMetricsFile).string());
  }
}

void RunLog::add(const IntervalRecord& record) {
  intervals_.push_back(record);
  append(to_json(record).dump());
  if (events_) {
    events_->add(record.step, scalars_of(record));
  }
}

void RunLog::add(const EpochRecord& record) {
  // An epoch that max_steps cut short and a resumed run completed is there twice.
  std::erase_if(epochs_, [&](const EpochRecord& other) { return other.epoch == record.epoch; });
  epochs_.push_back(record);
  append(to_json(record).dump());
  if (events_) {
    events_->add(record.step, scalars_of(record));
  }
  try {
    write_results();
  } catch (const Error& error) {
    log::warning("{}; training goes on without it", error.what());
  }
}

void RunLog::write_results() {
  std::vector<std::string> columns;  // of the metrics
  const auto collect = [&](const Metrics& metrics, const std::string& prefix) {
    for (const auto& [name, value] : metrics) {
      if (std::find(columns.begin(), columns.end(), prefix + name) == columns.end()) {
        columns.push_back(prefix + name);
      }
    }
  };
  for (const EpochRecord& record : epochs_) {
    collect(record.raw, "eval_");
    collect(record.average, "ema_");
  }
  std::string text = "epoch,step,seconds,images_per_second,lr,train_loss";
  for (const std::string& column : columns) {
    text += "," + column;
  }
  text += "\n";
  for (const EpochRecord& record : epochs_) {
    text += fmt::format("{},{},{:.3f},{:.1f},{:.6g},{:.6g}", record.epoch + 1, record.step,
                        record.seconds, record.images_per_second, record.lr, record.train_loss);
    std::map<std::string, double> values;
    for (const auto& [name, value] : record.raw) {
      values["eval_" + name] = value;
    }
    for (const auto& [name, value] : record.average) {
      values["ema_" + name] = value;
    }
    for (const std::string& column : columns) {
      const auto found = values.find(column);
      text += found == values.end() ? "," : fmt::format(",{:.6g}", found->second);
    }
    text += "\n";
  }
  write_file_atomic(folder_ / "results.csv", text);
}

void RunLog::write_report(const std::string& title, const std::string& config,
                          const std::vector<std::pair<std::string, std::string>>& sections) {
  std::vector<Section> all;
  if (!epochs_.empty()) {
    const EpochRecord& last = epochs_.back();
    std::vector<std::pair<std::string, std::string>> rows = {
        {"epochs done", fmt::format("{}", last.epoch + 1)},
        {"steps done", fmt::format("{}", last.step)},
        {"training loss", fmt::format("{:.4f}", last.train_loss)},
        {"images per second", fmt::format("{:.0f}", last.images_per_second)}};
    for (const auto& [name, value] : last.raw) {
      rows.emplace_back("evaluation " + name, fmt::format("{:.4g}", value));
    }
    for (const auto& [name, value] : last.average) {
      rows.emplace_back("averaged weights " + name, fmt::format("{:.4g}", value));
    }
    all.push_back({"Result", key_value_table_html(rows)});
  }
  std::string curves;
  for (const auto& [name, series] : epoch_curves(epochs_)) {
    PlotOptions options;
    options.title = name;
    options.x_label = "epoch";
    options.y_label = name;
    curves += line_plot_svg(options, series);
  }
  std::vector<Series> rates, losses, data;
  for (const IntervalRecord& record : intervals_) {
    add_points(losses, "training loss", static_cast<double>(record.step), record.loss);
    add_points(rates, "learning rate", static_cast<double>(record.step), record.lr);
    add_points(data, "training waits", static_cast<double>(record.step), 100 * record.data_wait);
    for (const auto& [stage, share] : record.data_stages) {
      add_points(data, stage, static_cast<double>(record.step), 100 * share);
    }
  }
  PlotOptions by_step;
  by_step.x_label = "step";
  by_step.title = by_step.y_label = "training loss";
  curves += line_plot_svg(by_step, losses);
  by_step.title = by_step.y_label = "learning rate";
  curves += line_plot_svg(by_step, rates);
  by_step.title = "data loading";
  by_step.y_label = "% of the time";
  curves += line_plot_svg(by_step, data);
  all.push_back({"Curves", curves});
  for (const auto& [name, html] : sections) {
    all.push_back({name, html});
  }
  std::string escaped;
  for (const char c : config) {
    escaped += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  all.push_back({"Configuration", "<pre>" + escaped + "</pre>"});
  try {
    comba::vision::write_report(folder_ / "report.html", title, all);
  } catch (const Error& error) {
    log::warning("{}; training goes on without the report", error.what());
  }
}

}  // namespace comba::vision
