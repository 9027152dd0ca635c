// comba score: annotations and anybody's result files in, the benchmark's measures out.
#include "tools/commands.h"
#include "tracking/score_report.h"
#include "tracking/submission.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::string annotations;
  std::vector<std::string> results, names;
  std::string protocol = "pytracking";
  std::string json, csv, html, validate, pack;
  tracking::ScoreOptions options;
};

std::vector<tracking::TrackerResults> trackers_of(const Arguments& arguments) {
  if (!arguments.names.empty() && arguments.names.size() != arguments.results.size()) {
    throw UsageError(fmt::format("--name: expected one for each --results ({}), got {}",
                                 arguments.results.size(), arguments.names.size()));
  }
  std::vector<tracking::TrackerResults> trackers;
  std::set<std::string> taken;
  for (size_t i = 0; i < arguments.results.size(); ++i) {
    const fs::path folder = fs::path(arguments.results[i]).lexically_normal();
    const fs::path last =
        folder.has_filename() ? folder.filename() : folder.parent_path().filename();
    const std::string name = arguments.names.empty() ? last.string() : arguments.names[i];
    if (!taken.insert(name).second) {
      throw UsageError(
          fmt::format("two trackers would be called {}: give each --results a --name", name));
    }
    trackers.push_back({name, folder});
  }
  return trackers;
}

void show(const Arguments& arguments, const tracking::ScoreReports& reports) {
  std::cout << tracking::score_table(reports);
  if (!arguments.json.empty()) {
    write_file_atomic(arguments.json, tracking::score_json(reports).dump(2) + "\n");
    log::info("the scores are in {}", arguments.json);
  }
  if (!arguments.csv.empty()) {
    write_file_atomic(arguments.csv, tracking::score_csv(reports));
    log::info("the scores of each sequence are in {}", arguments.csv);
  }
  if (!arguments.html.empty()) {
    tracking::write_score_html(arguments.html, reports);
    log::info("the plots are in {}", arguments.html);
  }
}

// The two that need no public annotations: what is sent to the server.
void validate_submission(const Arguments& arguments) {
  const auto problems = tracking::submission_problems(arguments.validate, arguments.annotations);
  for (const std::string& problem : problems) {
    std::cout << problem << '\n';
  }
  COMBA_CHECK(problems.empty(), "{}: {} problems; GOT-10k's server would refuse it",
              arguments.validate, problems.size());
  std::cout << fmt::format("{} can be sent{}\n", arguments.validate,
                           arguments.annotations.empty()
                               ? " (numbers of frames unchecked: give --annotations TEST_FOLDER)"
                               : "");
}
void pack_submission(const Arguments& arguments) {
  if (arguments.results.size() != 1) {
    throw UsageError(
        fmt::format("--pack: expected one --results, got {}", arguments.results.size()));
  }
  tracking::pack_submission(arguments.results[0], arguments.pack);
  Arguments packed = arguments;
  packed.validate = arguments.pack;
  validate_submission(packed);
}

void score_got10k(const Arguments& arguments) {
  const auto trackers = trackers_of(arguments);
  const auto sequences = tracking::read_got10k(arguments.annotations);
  tracking::ScoreReports reports{"GOT-10k", {}, {}};
  for (const auto& tracker : trackers) {
    reports.got10k.push_back(tracking::score_got10k(sequences, tracker, arguments.options));
  }
  std::ranges::stable_sort(reports.got10k, std::greater(),
                           [](const auto& r) { return r.overall.ao; });
  show(arguments, reports);
}

void score_lasot(const Arguments& arguments) {
  const auto trackers = trackers_of(arguments);
  const auto protocol = tracking::parse_protocol(arguments.protocol);
  const auto sequences = tracking::read_lasot(arguments.annotations);
  tracking::ScoreReports reports{"LaSOT", {}, {}};
  for (const auto& tracker : trackers) {
    reports.lasot.push_back(tracking::score_lasot(sequences, tracker, protocol, arguments.options));
  }
  std::ranges::stable_sort(reports.lasot, std::greater(),
                           [](const auto& r) { return r.overall.auc(); });
  show(arguments, reports);
}

void run_got10k(const Arguments& arguments) {
  if (!arguments.validate.empty()) {
    return validate_submission(arguments);
  }
  if (!arguments.pack.empty()) {
    return pack_submission(arguments);
  }
  if (arguments.annotations.empty() || arguments.results.empty()) {
    throw UsageError("scoring GOT-10k: expected --annotations VAL_FOLDER and --results FOLDER");
  }
  score_got10k(arguments);
}

void add_options(CLI::App& command, const std::shared_ptr<Arguments>& arguments, bool required) {
  command.add_option("--annotations", arguments->annotations, "the benchmark's folder")
      ->required(required);
  command
      .add_option("--results", arguments->results,
                  "a tracker's folder: <sequence>.txt or <sequence>/<sequence>_001.txt, boxes "
                  "x,y,w,h by comma, tab or space; several compare")
      ->required(required);
  command.add_option("--name", arguments->names, "what to call each (default: its folder's name)");
  command.add_flag("--partial", arguments->options.partial,
                   "leave out sequences that have no result");
  command.add_option("--threads", arguments->options.threads, "default: all")
      ->check(CLI::Range(1, 1024));
  command.add_option("--json", arguments->json, "write everything here");
  command.add_option("--csv", arguments->csv, "write the scores of each sequence here");
  command.add_option("--html", arguments->html, "write a page with plots here");
}

}  // namespace

void add_score_command(CLI::App& app) {
  auto* command = app.add_subcommand("score", "Benchmark measures from any tracker's result files");
  command->require_subcommand(1);
  const auto arguments = std::make_shared<Arguments>();
  auto* got10k = command->add_subcommand(
      "got10k", "AO, SR.50, SR.75 as got-10k/toolkit computes them on the annotated splits");
  add_options(*got10k, arguments, false);
  got10k->add_option("--validate", arguments->validate,
                     "instead: check a submission (with --annotations, against the test split)");
  got10k->add_option("--pack", arguments->pack,
                     "instead: write --results of the test split as a submission here");
  got10k->callback([arguments] { run_got10k(*arguments); });
  got10k->footer(
      "Example: comba score got10k --annotations GOT-10k/val --results ours --results theirs "
      "--html "
      "scores.html");
  auto* lasot = command->add_subcommand("lasot", "AUC, OP50, OP75, P, Pnorm");
  add_options(*lasot, arguments, true);
  lasot->add_option("--protocol", arguments->protocol,
                    "pytracking (what papers report; default), lasot-matlab or got10k");
  lasot->callback([arguments] { score_lasot(*arguments); });
  lasot->footer(
      "The three differ on absent frames, invalid boxes and Pnorm; see tracking/lasot_score.h.\n"
      "Example: comba score lasot --annotations LaSOT --results ours --html scores.html");
}

}  // namespace comba::tools
