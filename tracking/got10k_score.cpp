#include "tracking/got10k_score.h"

#include "vision/base/error.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

namespace comba::tracking {
namespace {

Box clipped(const Box& b, double width, double height) {
  const double x = std::clamp(b.x, 0.0, width), y = std::clamp(b.y, 0.0, height);
  return {x, y, std::clamp(b.w, 0.0, width - x), std::clamp(b.h, 0.0, height - y)};
}

double overlap(const Box& a, const Box& b) {
  const double w = std::max(0.0, std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x));
  const double h = std::max(0.0, std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y));
  const double all = a.w * a.h + b.w * b.h - w * h;
  return std::clamp(w * h / (all + std::numeric_limits<double>::epsilon()), 0.0, 1.0);
}

}  // namespace

std::vector<double> got10k_overlaps(const Sequence& s, const std::vector<Box>& predictions) {
  COMBA_CHECK(predictions.size() == s.truth.size(),
              "scoring {}: expected a box for each of {} frames, got {}", s.name, s.truth.size(),
              predictions.size());
  std::vector<double> overlaps;
  for (size_t n = 1; n < s.truth.size(); ++n) {
    if (s.visible[n] != 0) {
      const Box& p = predictions[n];
      COMBA_CHECK(!p.has_nan(), "scoring {}: frame {}: expected a box, got \"nan\"", s.name, n + 1);
      COMBA_CHECK(!s.truth[n].has_nan(),
                  "scoring {}: frame {}: its ground truth is \"nan\", but its cover is above 0",
                  s.name, n + 1);
      overlaps.push_back(
          overlap(clipped(p, s.width, s.height), clipped(s.truth[n], s.width, s.height)));
    }
  }
  return overlaps;
}

Got10kScore score_overlaps(const std::vector<double>& overlaps) {
  Got10kScore score;
  if (overlaps.empty()) {
    return score;
  }
  const auto count = static_cast<double>(overlaps.size());
  score.ao = std::accumulate(overlaps.begin(), overlaps.end(), 0.0) / count;
  for (size_t i = 0; i < score.success.size(); ++i) {
    const double threshold = i == 100 ? 1.0 : static_cast<double>(i) * 0.01;
    score.success[i] = static_cast<double>(std::ranges::count_if(
                           overlaps, [&](double x) { return x > threshold; })) /
                       count;
  }
  score.sr50 = score.success[50];
  score.sr75 = score.success[75];
  return score;
}

double class_balanced_ao(const std::vector<Sequence>& sequences, const std::vector<double>& ao) {
  std::map<std::string, std::pair<double, double>> classes;  // sum, count
  for (size_t i = 0; i < sequences.size(); ++i) {
    auto& [sum, count] = classes[sequences[i].object_class];
    sum += ao[i];
    ++count;
  }
  double total = 0;
  for (const auto& [name, values] : classes) {
    total += values.first / values.second;
  }
  return classes.empty() ? 0 : total / static_cast<double>(classes.size());
}

}  // namespace comba::tracking
