// The vector was computed with the official toolkit's rect_iou (got-10k/toolkit 956e728).
#include "tracking/got10k_score.h"

#include "vision/base/error.h"

#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

Sequence vector_sequence() {
  Sequence s;
  s.name = "GOT-10k_Val_000001";
  s.truth = {{10, 10, 20, 20}, {10, 10, 20, 20}, {-1, -1, -1, -1},
             {0, 5, 40, 20},   {60, 40, 50, 50}, {30.5, 20.25, 10, 10}};
  s.visible = {1, 1, 0, 1, 1, 1};  // cover 8, 8, 0, 4, 8, 2
  s.width = 100;
  s.height = 80;
  return s;
}
const std::vector<Box> kPredictions = {{10, 10, 20, 20}, {14, 12, 20, 20}, {50, 50, 10, 10},
                                       {-10, 5, 50, 20}, {70, 50, 60, 60}, {30.5, 20.25, 20, 20}};

TEST(Got10kScore, EqualsTheOfficialToolkit) {
  const auto overlaps = got10k_overlaps(vector_sequence(), kPredictions);
  const double want[] = {0.5625, 0.8, 0.5625, 0.25};
  ASSERT_EQ(overlaps.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(overlaps[i], want[i], 1e-12);
  }
  const Got10kScore score = score_overlaps(overlaps);
  EXPECT_NEAR(score.ao, 0.54375, 1e-12);
  EXPECT_NEAR(score.sr50, 0.75, 1e-12);
  EXPECT_NEAR(score.sr75, 0.25, 1e-12);
  EXPECT_EQ(score.success[0], 1.0);
  EXPECT_EQ(score.success[100], 0.0);
}

TEST(Got10kScore, AnOverlapOnTheThresholdDoesNotCount) {
  const Got10kScore score = score_overlaps({0.5, 0.75, 1.0});
  EXPECT_DOUBLE_EQ(score.sr50, 2.0 / 3);
  EXPECT_DOUBLE_EQ(score.sr75, 1.0 / 3);
}

TEST(Got10kScore, ClassesCountAlikeHoweverManySequencesTheyHave) {
  std::vector<Sequence> sequences(3);
  sequences[0].object_class = sequences[1].object_class = "bird";
  sequences[2].object_class = "car";
  EXPECT_DOUBLE_EQ(class_balanced_ao(sequences, {0.2, 0.4, 0.9}), 0.6);
}

TEST(Got10kScore, RefusesWrongLengthsAndNan) {
  auto predictions = kPredictions;
  predictions.pop_back();
  EXPECT_THROW(got10k_overlaps(vector_sequence(), predictions), Error);
  predictions = kPredictions;
  predictions[3].w = NAN;
  EXPECT_THROW(got10k_overlaps(vector_sequence(), predictions), Error);
  Sequence unknown = vector_sequence();
  unknown.truth[3] = {NAN, NAN, NAN, NAN};
  EXPECT_THROW(got10k_overlaps(unknown, kPredictions), Error) << "seen, but where?";
  unknown.visible[3] = 0;
  EXPECT_NO_THROW(got10k_overlaps(unknown, kPredictions));
}

TEST(Got10kScore, NothingVisibleScoresNothing) {
  Sequence s = vector_sequence();
  s.visible.assign(6, 0);
  EXPECT_TRUE(got10k_overlaps(s, kPredictions).empty());
  EXPECT_EQ(score_overlaps({}).ao, 0.0);
}

}  // namespace
}  // namespace comba::tracking
