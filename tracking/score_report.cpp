#include "tracking/score_report.h"

#include "vision/base/error.h"
#include "vision/engine/report.h"

#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace comba::tracking {
namespace {

using Json = nlohmann::ordered_json;
using vision::Series;

// A table of one report: the first column is text.
struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};

std::string percent(double share) { return fmt::format("{:.2f}", 100 * share); }
std::string rate(double frames_per_second) {
  return frames_per_second > 0 ? fmt::format("{:.1f}", frames_per_second) : "-";
}

Table got10k_table(const std::vector<Got10kReport>& reports) {
  Table table{{"tracker", "AO", "SR.50", "SR.75", "mAO by class", "frames/s", "sequences"}, {}};
  for (const Got10kReport& r : reports) {
    table.rows.push_back(
        {r.tracker, fmt::format("{:.4f}", r.overall.ao), fmt::format("{:.4f}", r.overall.sr50),
         fmt::format("{:.4f}", r.overall.sr75), fmt::format("{:.4f}", r.class_balanced_ao),
         rate(r.frames_per_second), std::to_string(r.sequences.size())});
  }
  return table;
}

Table lasot_table(const std::vector<LasotReport>& reports) {
  Table table{{"tracker", "AUC", "OP50", "OP75", "P", "Pnorm", "frames/s", "sequences"}, {}};
  for (const LasotReport& r : reports) {
    const LasotCurves& c = r.overall;
    table.rows.push_back({r.tracker, percent(c.auc()), percent(c.op50()), percent(c.op75()),
                          percent(c.precision20()), percent(c.normalized_score(r.protocol)),
                          rate(r.frames_per_second), std::to_string(r.sequences.size())});
  }
  return table;
}

// Groups of sequences that a score is also given for: attributes of LaSOT, classes of motion of GOT-10k.
std::map<std::string, std::vector<size_t>> groups_of(const std::vector<Sequence>& sequences) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t n = 0; n < sequences.size(); ++n) {
    const Sequence& s = sequences[n];
    if (!s.motion_class.empty()) {
      groups[s.motion_class].push_back(n);
    }
    for (size_t a = 0; a < s.attributes.size(); ++a) {
      if (s.attributes[a] != 0) {
        groups[kLasotAttributes[a]].push_back(n);
      }
    }
  }
  return groups;
}

// name -> one number a tracker
template <typename Report, typename Score>
Table group_table(const std::vector<Report>& reports, const std::string& measure,
                  const Score& score) {
  Table table{{measure, "sequences"}, {}};
  if (reports.empty()) {
    return table;
  }
  for (const Report& r : reports) {
    table.head.push_back(r.tracker);
  }
  const auto groups = groups_of(reports[0].sequences);
  std::vector<std::map<std::string, std::vector<size_t>>> of_tracker;
  for (const Report& r : reports) {
    of_tracker.push_back(groups_of(r.sequences));
  }
  for (const auto& [name, members] : groups) {
    std::vector<std::string> row = {name, std::to_string(members.size())};
    for (size_t i = 0; i < reports.size(); ++i) {
      const std::vector<size_t>& own = of_tracker[i][name];
      double sum = 0;
      for (const size_t n : own) {
        sum += score(reports[i], n);
      }
      row.push_back(own.empty() ? "-" : percent(sum / static_cast<double>(own.size())));
    }
    table.rows.push_back(row);
  }
  return table;
}

std::string html(const Table& table) {
  std::string out = "<table><tr>";
  for (const std::string& cell : table.head) {
    out += "<th>" + vision::escape_html(cell) + "</th>";
  }
  out += "</tr>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) {
      out += "<td>" + vision::escape_html(cell) + "</td>";
    }
    out += "</tr>";
  }
  return out + "</table>";
}

std::string text(const Table& table) {
  std::vector<size_t> widths(table.head.size());
  const auto fit = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  };
  fit(table.head);
  for (const auto& row : table.rows) {
    fit(row);
  }
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                    : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    out += '\n';
  };
  add(table.head);
  for (const auto& row : table.rows) {
    add(row);
  }
  return out;
}

template <size_t N>
Series curve_series(const std::string& tracker, double score, const std::array<double, N>& curve,
                    double step) {
  Series series{fmt::format("{} [{:.1f}]", tracker, 100 * score), {}, {}};
  for (size_t i = 0; i < N; ++i) {
    series.xs.push_back(static_cast<double>(i) * step);
    series.ys.push_back(100 * curve[i]);
  }
  return series;
}

std::string protocol_of(const ScoreReports& reports) {
  return reports.lasot.empty() ? "got10k" : protocol_name(reports.lasot[0].protocol);
}

Json json_of(const Got10kReport& r) {
  Json sequences = Json::object();
  for (size_t n = 0; n < r.sequences.size(); ++n) {
    sequences[r.sequences[n].name] = {{"ao", r.scores[n].ao},
                                      {"sr", r.scores[n].sr50},
                                      {"sr75", r.scores[n].sr75},
                                      {"length", r.lengths[n]}};
  }
  return {{"overall",
           {{"ao", r.overall.ao},
            {"sr", r.overall.sr50},
            {"sr75", r.overall.sr75},
            {"class_balanced_ao", r.class_balanced_ao},
            {"speed_fps", r.frames_per_second},
            {"succ_curve", r.overall.success}}},
          {"seq_wise", sequences}};
}

Json json_of(const LasotCurves& c, LasotProtocol protocol) {
  return {{"auc", c.auc()},
          {"op50", c.op50()},
          {"op75", c.op75()},
          {"precision", c.precision20()},
          {"normalized_precision", c.normalized_score(protocol)}};
}

Json json_of(const LasotReport& r) {
  Json sequences = Json::object();
  for (size_t n = 0; n < r.sequences.size(); ++n) {
    sequences[r.sequences[n].name] = json_of(r.curves[n], r.protocol);
  }
  Json overall = json_of(r.overall, r.protocol);
  overall["speed_fps"] = r.frames_per_second;
  overall["success_curve"] = r.overall.success;
  overall["precision_curve"] = r.overall.precision;
  overall["normalized_precision_curve"] = r.overall.normalized;
  return {{"overall", overall}, {"seq_wise", sequences}};
}

std::string plots(const ScoreReports& reports) {
  std::vector<Series> success, precision, normalized;
  for (const Got10kReport& r : reports.got10k) {
    success.push_back(curve_series(r.tracker, r.overall.ao, r.overall.success, 0.01));
  }
  for (const LasotReport& r : reports.lasot) {
    const LasotCurves& c = r.overall;
    success.push_back(curve_series(r.tracker, c.auc(), c.success, 0.05));
    precision.push_back(curve_series(r.tracker, c.precision20(), c.precision, 1));
    normalized.push_back(
        curve_series(r.tracker, c.normalized_score(r.protocol), c.normalized, 0.01));
  }
  const char* const frames = "% of frames";
  std::string out = vision::line_plot_svg(
      {.title = "Success", .x_label = "IoU above", .y_label = frames}, success);
  if (!precision.empty()) {
    out += vision::line_plot_svg(
        {.title = "Precision", .x_label = "centre within, px", .y_label = frames}, precision);
    out += vision::line_plot_svg(
        {.title = "Normalised precision", .x_label = "centre within, box sizes", .y_label = frames},
        normalized);
  }
  return out;
}

Table sequence_table(const ScoreReports& reports) {
  Table table;
  for (const Got10kReport& r : reports.got10k) {
    table.head = {"tracker", "sequence", "ao", "sr50", "sr75", "length"};
    for (size_t n = 0; n < r.sequences.size(); ++n) {
      const Got10kScore& s = r.scores[n];
      table.rows.push_back({r.tracker, r.sequences[n].name, fmt::format("{:.6f}", s.ao),
                            fmt::format("{:.6f}", s.sr50), fmt::format("{:.6f}", s.sr75),
                            std::to_string(r.lengths[n])});
    }
  }
  for (const LasotReport& r : reports.lasot) {
    table.head = {
        "tracker", "sequence", "auc", "op50", "op75", "precision", "normalized_precision"};
    for (size_t n = 0; n < r.sequences.size(); ++n) {
      const LasotCurves& c = r.curves[n];
      table.rows.push_back({r.tracker, r.sequences[n].name, fmt::format("{:.6f}", c.auc()),
                            fmt::format("{:.6f}", c.op50()), fmt::format("{:.6f}", c.op75()),
                            fmt::format("{:.6f}", c.precision20()),
                            fmt::format("{:.6f}", c.normalized_score(r.protocol))});
    }
  }
  return table;
}

Table overall_table(const ScoreReports& reports) {
  return reports.lasot.empty() ? got10k_table(reports.got10k) : lasot_table(reports.lasot);
}

std::string csv_cell(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) {
    return cell;
  }
  std::string out = "\"";
  for (const char c : cell) {
    out += c == '"' ? "\"\"" : std::string(1, c);
  }
  return out + '"';
}

}  // namespace

std::string protocol_name(LasotProtocol protocol) {
  switch (protocol) {
    case LasotProtocol::lasot_matlab:
      return "lasot-matlab";
    case LasotProtocol::pytracking:
      return "pytracking";
    case LasotProtocol::got10k:
      break;
  }
  return "got10k";
}

LasotProtocol parse_protocol(const std::string& name) {
  for (const auto protocol :
       {LasotProtocol::lasot_matlab, LasotProtocol::pytracking, LasotProtocol::got10k}) {
    if (protocol_name(protocol) == name) {
      return protocol;
    }
  }
  throw UsageError(fmt::format(
      "protocol \"{}\" is not known; expected pytracking, lasot-matlab or got10k", name));
}

std::string score_table(const ScoreReports& reports) {
  return fmt::format("{}, protocol {}\n", reports.benchmark, protocol_of(reports)) +
         text(overall_table(reports));
}

Json score_json(const ScoreReports& reports) {
  Json trackers = Json::object();
  for (const Got10kReport& r : reports.got10k) {
    trackers[r.tracker] = json_of(r);
  }
  for (const LasotReport& r : reports.lasot) {
    trackers[r.tracker] = json_of(r);
  }
  return {
      {"benchmark", reports.benchmark}, {"protocol", protocol_of(reports)}, {"trackers", trackers}};
}

std::string score_csv(const ScoreReports& reports) {
  const Table table = sequence_table(reports);
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) {
        out += ',';
      }
      out += csv_cell(row[i]);
    }
    out += '\n';
  };
  add(table.head);
  for (const auto& row : table.rows) {
    add(row);
  }
  return out;
}

void write_score_html(const std::filesystem::path& path, const ScoreReports& reports) {
  const std::string protocol = protocol_of(reports);
  std::vector<vision::Section> sections = {
      {fmt::format("Scores by protocol {}", protocol), html(overall_table(reports))},
      {"Plots", plots(reports)}};
  const Table groups =
      reports.lasot.empty()
          ? group_table(reports.got10k, "AO by motion",
                        [](const Got10kReport& r, size_t n) { return r.scores[n].ao; })
          : group_table(reports.lasot, "AUC by attribute",
                        [](const LasotReport& r, size_t n) { return r.curves[n].auc(); });
  if (!groups.rows.empty()) {
    sections.push_back({"Groups of sequences", html(groups)});
  }
  sections.push_back({"Sequences", html(sequence_table(reports))});
  vision::write_report(path, fmt::format("{}, protocol {}", reports.benchmark, protocol), sections);
}

}  // namespace comba::tracking
