// comba compare: what several runs came to, side by side.
#include "tools/commands.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/base/progress.h"
#include "vision/engine/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::vector<std::string> runs;
  std::string metric = "eval_top1", plot;
  bool smallest = false;
};

// The columns of a run's results.csv by name; NaN where a cell is empty.
using Table = std::map<std::string, std::vector<double>>;

std::vector<std::string> split(const std::string& line, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : line) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

double number_of(const std::string& cell, const fs::path& path, size_t line) {
  if (cell.empty()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  char* end = nullptr;
  const double value = std::strtod(cell.c_str(), &end);
  COMBA_CHECK(end == cell.c_str() + cell.size(), "reading {}, line {}: \"{}\" is not a number",
              path.string(), line, cell);
  return value;
}

Table read_results(const fs::path& run) {
  const fs::path path = run / "results.csv";
  if (!fs::exists(path)) {
    throw UsageError(fmt::format(
        "{} has no results.csv; expected the folder of a run that has finished an epoch",
        run.string()));
  }
  const std::vector<std::string> lines = split(read_file(path), '\n');
  const std::vector<std::string> names = split(lines[0], ',');
  Table table;
  for (size_t line = 1; line < lines.size(); ++line) {
    if (lines[line].empty()) {
      continue;
    }
    const std::vector<std::string> cells = split(lines[line], ',');
    COMBA_CHECK(cells.size() == names.size(), "reading {}, line {}: {} cells, expected {}",
                path.string(), line + 1, cells.size(), names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      table[names[i]].push_back(number_of(cells[i], path, line + 1));
    }
  }
  COMBA_CHECK(!table.empty(), "reading {}: no epoch is in it", path.string());
  return table;
}

const std::vector<double>& column(const Table& table, const std::string& name,
                                  const std::string& run) {
  const auto found = table.find(name);
  if (found == table.end()) {
    std::string known;
    for (const auto& [other, values] : table) {
      known += (known.empty() ? "" : ", ") + other;
    }
    throw UsageError(fmt::format("--metric {}: the results of {} have {}", name, run, known));
  }
  return found->second;
}

struct Row {
  double best = std::numeric_limits<double>::quiet_NaN(), last = best;
  double best_epoch = 0, epochs = 0, seconds = 0, rate = 0;
};

Row summary(const Table& table, const std::vector<double>& values, bool smallest,
            const std::string& run) {
  const std::vector<double>& epochs = column(table, "epoch", run);
  Row row;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      continue;
    }
    row.last = values[i];
    if (std::isnan(row.best) || (smallest ? values[i] < row.best : values[i] > row.best)) {
      row.best = values[i];
      row.best_epoch = epochs[i];
    }
  }
  row.epochs = epochs.back();
  for (const double seconds : column(table, "seconds", run)) {
    row.seconds += seconds;
  }
  row.rate = column(table, "images_per_second", run).back();
  return row;
}

void run_compare(const Arguments& arguments) {
  size_t width = 3;
  std::vector<Table> tables;  // all are read before a line is printed
  for (const std::string& run : arguments.runs) {
    width = std::max(width, run.size());
    tables.push_back(read_results(run));
    column(tables.back(), arguments.metric, run);
  }
  std::cout << fmt::format("{:<{}} {:>12} {:>8} {:>12} {:>8} {:>10} {:>10}\n", "run", width, "best",
                           "epoch", "last", "epochs", "time", "img/s");
  std::vector<vision::Series> curves;
  for (size_t i = 0; i < tables.size(); ++i) {
    const std::string& run = arguments.runs[i];
    const Table& table = tables[i];
    const std::vector<double>& values = column(table, arguments.metric, run);
    const Row row = summary(table, values, arguments.smallest, run);
    std::cout << fmt::format("{:<{}} {:>12.5g} {:>8} {:>12.5g} {:>8} {:>10} {:>10.0f}\n", run,
                             width, row.best, row.best_epoch, row.last, row.epochs,
                             format_duration(row.seconds), row.rate);
    curves.push_back({fs::path(run).lexically_normal().filename().string(),
                      column(table, "epoch", run), values});
  }
  if (!arguments.plot.empty()) {
    write_file_atomic(
        arguments.plot,
        vision::standalone_svg({vision::line_plot_svg(
            {.title = arguments.metric, .x_label = "epoch", .y_label = arguments.metric},
            curves)}));
    log::info("the plot is in {}", arguments.plot);
  }
}

}  // namespace

void add_compare_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("compare", "What several runs came to, side by side");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("RUN", arguments->runs, "folders of runs")->required();
  command
      ->add_option("--metric", arguments->metric,
                   "a column of results.csv: eval_top1, ema_top1, eval_iou, train_loss, ...")
      ->capture_default_str();
  command->add_flag("--smallest", arguments->smallest, "the smallest value is the best one");
  command->add_option("--plot", arguments->plot, "also draw the curves here (SVG)");
  command->footer("Example: comba compare runs/comba_t runs/deit_t --plot curves.svg");
  command->callback([arguments] { run_compare(*arguments); });
}

}  // namespace comba::tools
