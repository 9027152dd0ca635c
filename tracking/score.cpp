#include "tracking/score.h"

#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/parallel.h"

#include <algorithm>

namespace comba::tracking {
namespace {

constexpr size_t kNamed = 5;  // missing sequences that a message names

struct Matched {
  std::vector<Sequence> sequences;
  std::vector<ResultFiles> files;
};

Matched match_results(const std::vector<Sequence>& sequences, const TrackerResults& tracker,
                      const ScoreOptions& options) {
  COMBA_CHECK(std::filesystem::is_directory(tracker.folder),
              "scoring {}: expected the folder {} with one result file a sequence, there is none",
              tracker.name, tracker.folder.string());
  Matched matched;
  std::vector<std::string> missing;
  for (const Sequence& s : sequences) {
    ResultFiles files = find_results(tracker.folder, s.name);
    if (files.boxes.empty()) {
      missing.push_back(s.name);
    } else {
      matched.sequences.push_back(s);
      matched.files.push_back(std::move(files));
    }
  }
  std::string names;
  for (size_t i = 0; i < std::min(kNamed, missing.size()); ++i) {
    names += (i > 0 ? ", " : "") + missing[i];
  }
  COMBA_CHECK(!matched.files.empty() && (missing.empty() || options.partial),
              "scoring {}: expected {}/<sequence>.txt (or <sequence>/<sequence>_001.txt) for {} "
              "sequences, {} are not there: {}{}{}",
              tracker.name, tracker.folder.string(), sequences.size(), missing.size(), names,
              missing.size() > kNamed ? ", .." : "",
              matched.files.empty() ? "" : "; --partial scores those that are");
  return matched;
}

// Sum and count of 1/t.
struct Rates {
  double sum = 0, count = 0;

  explicit Rates(const std::filesystem::path& times) {
    if (!times.empty()) {
      for (const double t : read_numbers(times)) {
        sum += t > 0 ? 1 / t : 0;
        count += t > 0 ? 1 : 0;
      }
    }
  }
  double mean() const { return count > 0 ? sum / count : 0; }
};

void forget_boxes(std::vector<Sequence>& sequences) {
  for (Sequence& s : sequences) {
    s.truth = {};
    s.visible = {};
  }
}

}  // namespace

Got10kReport score_got10k(const std::vector<Sequence>& sequences, const TrackerResults& tracker,
                          const ScoreOptions& options) {
  Matched matched = match_results(sequences, tracker, options);
  const size_t count = matched.sequences.size();
  std::vector<std::vector<double>> overlaps(count);
  std::vector<Rates> rates(count, Rates({}));
  parallel_for(count, options.threads, [&](size_t n) {
    for (const auto& file : matched.files[n].boxes) {
      const auto more = got10k_overlaps(matched.sequences[n], read_boxes(file));
      overlaps[n].insert(overlaps[n].end(), more.begin(), more.end());
    }
    rates[n] = Rates(matched.files[n].times);
  });
  Got10kReport report;
  report.tracker = tracker.name;
  std::vector<double> pooled, ao;
  double rate_sum = 0, rate_count = 0;
  for (size_t n = 0; n < count; ++n) {
    report.scores.push_back(score_overlaps(overlaps[n]));
    report.lengths.push_back(matched.sequences[n].truth.size() - 1);
    ao.push_back(report.scores.back().ao);
    pooled.insert(pooled.end(), overlaps[n].begin(), overlaps[n].end());
    rate_sum += rates[n].sum;
    rate_count += rates[n].count;
  }
  report.overall = score_overlaps(pooled);
  report.class_balanced_ao = class_balanced_ao(matched.sequences, ao);
  report.frames_per_second = rate_count > 0 ? rate_sum / rate_count : 0;
  report.sequences = std::move(matched.sequences);
  forget_boxes(report.sequences);
  return report;
}

LasotReport score_lasot(const std::vector<Sequence>& sequences, const TrackerResults& tracker,
                        LasotProtocol protocol, const ScoreOptions& options) {
  Matched matched = match_results(sequences, tracker, options);
  const size_t count = matched.sequences.size();
  LasotReport report;
  report.tracker = tracker.name;
  report.protocol = protocol;
  report.curves.resize(count);
  std::vector<double> rates(count);
  parallel_for(count, options.threads, [&](size_t n) {
    report.curves[n] =
        score_lasot(matched.sequences[n], read_boxes(matched.files[n].boxes[0]), protocol);
    rates[n] = Rates(matched.files[n].times).mean();
  });
  double timed = 0;
  for (const double rate : rates) {
    report.frames_per_second += rate;
    timed += rate > 0 ? 1 : 0;
  }
  report.frames_per_second /= std::max(timed, 1.0);
  report.overall = mean_curves(report.curves, protocol);
  report.sequences = std::move(matched.sequences);
  forget_boxes(report.sequences);
  return report;
}

}  // namespace comba::tracking
