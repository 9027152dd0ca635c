#include "tracking/lasot_score.h"

#include "vision/base/error.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace comba::tracking {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

double threshold_success(size_t i) { return static_cast<double>(i) * 0.05; }
double threshold_normalized(size_t i) { return static_cast<double>(i) / 100; }
// numpy.linspace(0, 1, 21) and (0, 0.5, 51): the last is exact.
double linspace_success(size_t i) { return i == 20 ? 1.0 : static_cast<double>(i) * (1.0 / 20); }
double linspace_normalized(size_t i) { return i == 50 ? 0.5 : static_cast<double>(i) * (0.5 / 50); }

// As MATLAB's toolkit and pytracking write it: pixels from x to x + w - 1.
double pixel_iou(const Box& a, const Box& b) {
  const double w = std::min(a.x + a.w - 1, b.x + b.w - 1) - std::max(a.x, b.x) + 1;
  const double h = std::min(a.y + a.h - 1, b.y + b.h - 1) - std::max(a.y, b.y) + 1;
  const double shared = std::max(0.0, w) * std::max(0.0, h);
  return shared / (a.w * a.h + b.w * b.h - shared);
}
double plain_iou(const Box& a, const Box& b) {
  const double w = std::max(0.0, std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x));
  const double h = std::max(0.0, std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y));
  return std::clamp(w * h / (a.w * a.h + b.w * b.h - w * h + kEpsilon), 0.0, 1.0);
}
double centre_error(const Box& a, const Box& b, double width, double height) {
  const double x = (a.x + (a.w - 1) / 2) / width - (b.x + (b.w - 1) / 2) / width;
  const double y = (a.y + (a.h - 1) / 2) / height - (b.y + (b.h - 1) / 2) / height;
  return std::sqrt(x * x + y * y);
}

struct FrameErrors {
  double overlap, centre, normalized;
};

bool all_positive(const Box& b) { return b.x > 0 && b.y > 0 && b.w > 0 && b.h > 0; }

FrameErrors matlab_errors(const Box& p, const Box& truth, bool visible) {
  if (!visible) {
    return {-kInfinity, kInfinity, kInfinity};  // removed there, but still in the denominator
  }
  if (!all_positive(truth)) {
    return {-1, -1, -1};
  }
  return {pixel_iou(p, truth), centre_error(p, truth, 1, 1),
          centre_error(p, truth, truth.w, truth.h)};
}

FrameErrors pytracking_errors(const Box& p, const Box& truth, bool visible) {
  if (!visible) {
    return {-1, kInfinity, kInfinity};
  }
  if (!all_positive(truth)) {
    return {-1, kInfinity, -1};
  }
  return matlab_errors(p, truth, true);
}

// The toolkits differ in the last bit, which decides at a threshold: this one subtracts before it divides.
FrameErrors got10k_errors(const Box& p, const Box& truth) {
  const double x = (p.x + (p.w - 1) / 2) - (truth.x + (truth.w - 1) / 2);
  const double y = (p.y + (p.h - 1) / 2) - (truth.y + (truth.h - 1) / 2);
  const double u = x / std::max(1.0, truth.w), v = y / std::max(1.0, truth.h);
  return {plain_iou(p, truth), std::sqrt(x * x + y * y), std::sqrt(u * u + v * v)};
}

// Predictions without area become the one before, as the toolkits do before they look at anything else.
void hold_invalid(const Sequence& s, std::vector<Box>& predictions, LasotProtocol protocol) {
  for (size_t i = 0; i < predictions.size(); ++i) {
    const Box& p = predictions[i];
    if (protocol == LasotProtocol::pytracking) {
      COMBA_CHECK(!p.has_nan() && p.w >= 0 && p.h >= 0,
                  "scoring {} by pytracking's protocol: frame {}: expected a box with sides of at "
                  "least 0, got {},{},{},{}; that protocol refuses such results",
                  s.name, i + 1, p.x, p.y, p.w, p.h);
    }
    if (i > 0 && (p.has_nan() || !p.has_area()) && !s.truth[i].has_nan()) {
      predictions[i] = predictions[i - 1];
    }
  }
}

void cut_to_truth(const Sequence& s, std::vector<Box>& predictions) {
  COMBA_CHECK(predictions.size() >= s.truth.size(),
              "scoring {}: expected a box for each of {} frames, got {}; is the result of another "
              "sequence or of a broken run?",
              s.name, s.truth.size(), predictions.size());
  predictions.resize(s.truth.size());
}

}  // namespace

double LasotCurves::auc() const {
  return std::accumulate(success.begin(), success.end(), 0.0) / static_cast<double>(success.size());
}
double LasotCurves::normalized_mean() const {
  return std::accumulate(normalized.begin(), normalized.end(), 0.0) /
         static_cast<double>(normalized.size());
}

LasotCurves score_lasot(const Sequence& s, std::vector<Box> predictions, LasotProtocol protocol) {
  const bool got10k = protocol == LasotProtocol::got10k;
  cut_to_truth(s, predictions);
  if (!got10k) {
    hold_invalid(s, predictions, protocol);
  }
  predictions[0] = s.truth[0];
  LasotCurves curves;
  double frames = 0;
  for (size_t n = 0; n < s.truth.size(); ++n) {
    const Box &p = predictions[n], &truth = s.truth[n];
    if (truth.has_nan()) {
      COMBA_CHECK(protocol != LasotProtocol::pytracking,
                  "scoring {} by pytracking's protocol: frame {}: the ground truth is not a number",
                  s.name, n + 1);
      if (got10k) {
        continue;
      }
    }
    ++frames;
    const bool visible = s.visible[n] != 0;
    const FrameErrors e = got10k ? got10k_errors(p, truth)
                          : protocol == LasotProtocol::pytracking
                              ? pytracking_errors(p, truth, visible)
                              : matlab_errors(p, truth, visible);
    for (size_t i = 0; i < curves.success.size(); ++i) {
      curves.success[i] += e.overlap > (got10k ? linspace_success(i) : threshold_success(i));
    }
    for (size_t i = 0; i < curves.precision.size(); ++i) {
      curves.precision[i] += e.centre <= static_cast<double>(i);
      curves.normalized[i] +=
          e.normalized <= (got10k ? linspace_normalized(i) : threshold_normalized(i));
    }
  }
  const auto share = [&](double& count) {
    switch (protocol) {
      case LasotProtocol::lasot_matlab:
        count /= frames + kEpsilon;
        break;
      case LasotProtocol::pytracking:  // kept in single precision there
        count = static_cast<double>(static_cast<float>(count) / static_cast<float>(frames));
        break;
      case LasotProtocol::got10k:
        count = frames > 0 ? count / frames : 0;
        break;
    }
  };
  std::ranges::for_each(curves.success, share);
  std::ranges::for_each(curves.precision, share);
  std::ranges::for_each(curves.normalized, share);
  return curves;
}

LasotCurves mean_curves(const std::vector<LasotCurves>& sequences, LasotProtocol protocol) {
  LasotCurves mean;
  const auto average = [&](auto member) {
    double count = 0;
    for (const LasotCurves& s : sequences) {
      const auto& curve = s.*member;
      const double sum = std::accumulate(curve.begin(), curve.end(), 0.0);
      if (protocol == LasotProtocol::lasot_matlab && sum <= kEpsilon) {
        continue;
      }
      ++count;
      for (size_t i = 0; i < curve.size(); ++i) {
        (mean.*member)[i] += curve[i];
      }
    }
    for (double& value : mean.*member) {
      value /= std::max(count, 1.0);
    }
  };
  average(&LasotCurves::success);
  average(&LasotCurves::precision);
  average(&LasotCurves::normalized);
  return mean;
}

}  // namespace comba::tracking
