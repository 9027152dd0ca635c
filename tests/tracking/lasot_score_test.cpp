// Vectors and whole-set figures were computed with ports of the three toolkits (LaSOT_Evaluation_Toolkit 95bf38a, pytracking
// 7eb9e74, got-10k/toolkit 956e728), the last by running its own metrics.py.
#include "tracking/lasot_score.h"

#include "tracking/score.h"
#include "vision/base/error.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include <gtest/gtest.h>
#include <unistd.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
constexpr auto kMatlab = LasotProtocol::lasot_matlab, kPytracking = LasotProtocol::pytracking,
               kGot10k = LasotProtocol::got10k;

Sequence vector_sequence() {
  Sequence s;
  s.name = "bird-1";
  s.truth = {
      {10, 10, 20, 20}, {10, 10, 20, 20}, {10, 10, 20, 20}, {1, 1, -1, -1}, {10, 10, 20, 20}};
  s.visible = {1, 1, 0, 1, 1};
  return s;
}
const std::vector<Box> kPredictions = {
    {50, 50, 5, 5}, {14, 12, 20, 20}, {10, 10, 20, 20}, {1, 1, 30, 30}, {100, 100, 0, 5}};

TEST(LasotScore, EachProtocolGivesItsToolkitsFigures) {
  const LasotCurves matlab = score_lasot(vector_sequence(), kPredictions, kMatlab);
  EXPECT_NEAR(matlab.auc(), 8.2 / 21, 1e-12);
  EXPECT_NEAR(matlab.precision20(), 0.8, 1e-12);
  EXPECT_NEAR(matlab.normalized20(), 0.4, 1e-12);
  const LasotCurves pytracking = score_lasot(vector_sequence(), kPredictions, kPytracking);
  EXPECT_NEAR(pytracking.auc(), 8.2 / 21, 1e-7);  // single precision there
  EXPECT_NEAR(pytracking.precision20(), 0.6, 1e-7);
  EXPECT_NEAR(pytracking.normalized20(), 0.4, 1e-7);
  const LasotCurves got10k = score_lasot(vector_sequence(), kPredictions, kGot10k);
  EXPECT_NEAR(got10k.auc(), 10.4 / 21, 1e-12);
  EXPECT_NEAR(got10k.precision20(), 0.6, 1e-12);
  EXPECT_NEAR(got10k.normalized_mean(), 26.0 / 51, 1e-12);
  EXPECT_NEAR(got10k.normalized20(), 0.4, 1e-12);
}

TEST(LasotScore, CutsWhatIsBeyondTheTruthAndRefusesWhatIsMissing) {
  auto predictions = kPredictions;
  predictions.push_back({1, 2, 3, 4});
  EXPECT_EQ(score_lasot(vector_sequence(), predictions, kMatlab).auc(),
            score_lasot(vector_sequence(), kPredictions, kMatlab).auc());
  predictions.resize(4);
  EXPECT_THROW(score_lasot(vector_sequence(), predictions, kMatlab), Error);
}

TEST(LasotScore, PytrackingRefusesNanAndNegativeSizesMatlabHoldsTheLastBox) {
  for (const Box bad : {Box{NAN, 1, 2, 3}, Box{1, 1, -2, 3}}) {
    auto predictions = kPredictions, held = kPredictions;
    predictions[2] = bad;
    held[2] = held[1];
    EXPECT_THROW(score_lasot(vector_sequence(), predictions, kPytracking), Error);
    EXPECT_EQ(score_lasot(vector_sequence(), predictions, kMatlab).success,
              score_lasot(vector_sequence(), held, kMatlab).success);
  }
}

TEST(LasotScore, MatlabDropsSequencesWhoseCurveIsZero) {
  LasotCurves hit, none;
  hit.success.fill(0.5);
  EXPECT_DOUBLE_EQ(mean_curves({hit, none}, kMatlab).auc(), 0.5);
  EXPECT_DOUBLE_EQ(mean_curves({hit, none}, kPytracking).auc(), 0.25);
}

TEST(LasotScore, NanInTheTruth) {
  Sequence s = vector_sequence();
  s.truth[1] = {NAN, NAN, NAN, NAN};
  EXPECT_THROW(score_lasot(s, kPredictions, kPytracking), Error);
  EXPECT_NEAR(score_lasot(s, kPredictions, kGot10k).precision20(), 0.5, 1e-12);  // 2 of 4
  EXPECT_NEAR(score_lasot(s, kPredictions, kMatlab).precision20(), 0.8, 1e-12);  // a "hit"
}

// The official annotations of LaSOT's 280 test sequences: a folder or the archive, from COMBA_LASOT_ANNOTATIONS or a folder
// shared/data beside the clone.
fs::path lasot_annotations(const fs::path& unpacked) {
  const char* given = std::getenv("COMBA_LASOT_ANNOTATIONS");
  fs::path place = given != nullptr ? fs::path(given)
                                    : fs::path(COMBA_SOURCE_DIR) /
                                          "../shared/data/lasot_test_annotations.tar.xz";
  if (fs::is_directory(place) || !fs::exists(place)) {
    return place;
  }
  fs::create_directories(unpacked);
  const std::string command =
      "tar -xJf '" + fs::absolute(place).string() + "' -C '" + unpacked.string() + "'";
  return std::system(command.c_str()) == 0 ? unpacked / "lasot_test" : fs::path();
}

struct WholeSet {
  LasotProtocol protocol;
  bool oracle;                                                     // else the first box for ever
  double auc, op50, op75, precision, normalized, normalized_mean;  // per cent
};

TEST(LasotScore, TheOfficialTestSetScoresWhatTheToolkitsGive) {
  const fs::path unpacked = fs::temp_directory_path() / fmt::format("comba_lasot_{}", ::getpid());
  const fs::path folder = lasot_annotations(unpacked);
  if (!fs::is_directory(folder)) {
    GTEST_SKIP()
        << "no annotations of LaSOT: set COMBA_LASOT_ANNOTATIONS to their folder or archive";
  }
  const auto sequences = read_lasot(folder);
  fs::remove_all(unpacked);
  ASSERT_EQ(sequences.size(), 280U);
  const WholeSet kRows[] = {
      {kMatlab, true, 92.7414, 97.3785, 97.3785, 97.3790, 97.3790, 97.3790},
      {kPytracking, true, 92.7414, 97.3785, 97.3785, 97.3785, 97.3790, 97.3790},
      {kGot10k, true, 93.8382, 98.5301, 98.5301, 98.5301, 98.5301, 98.5301},
      {kMatlab, false, 14.5344, 8.5808, 3.0223, 6.0374, 9.2936, 12.6624},
      {kPytracking, false, 14.5344, 8.5808, 3.0223, 6.0369, 9.2936, 12.6624},
      {kGot10k, false, 14.5696, 8.5931, 3.0303, 6.0500, 9.3139, 12.6912}};
  for (const WholeSet& row : kRows) {
    std::vector<LasotCurves> curves;
    for (const Sequence& s : sequences) {
      std::vector<Box> predictions = s.truth;
      if (!row.oracle) {
        predictions.assign(s.truth.size(), s.truth[0]);
      } else {
        for (size_t i = 1; i < predictions.size(); ++i) {  // as the figures were made
          predictions[i] = predictions[i].has_area() ? predictions[i] : predictions[i - 1];
        }
      }
      curves.push_back(score_lasot(s, predictions, row.protocol));
    }
    const LasotCurves mean = mean_curves(curves, row.protocol);
    SCOPED_TRACE(fmt::format("protocol {} {}", static_cast<int>(row.protocol),
                             row.oracle ? "oracle" : "static"));
    const double kHalf = 6e-5;  // four decimals
    EXPECT_NEAR(100 * mean.auc(), row.auc, kHalf);
    EXPECT_NEAR(100 * mean.op50(), row.op50, kHalf);
    EXPECT_NEAR(100 * mean.op75(), row.op75, kHalf);
    EXPECT_NEAR(100 * mean.precision20(), row.precision, kHalf);
    EXPECT_NEAR(100 * mean.normalized20(), row.normalized, kHalf);
    EXPECT_NEAR(100 * mean.normalized_mean(), row.normalized_mean, kHalf);
  }
}

}  // namespace
}  // namespace comba::tracking
