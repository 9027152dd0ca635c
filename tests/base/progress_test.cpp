// Progress as it is seen when stderr is a file.
#include "vision/base/progress.h"

#include "tests/base/temporary_folder.h"

namespace comba {
namespace {

TEST(Progress, EndsInOnePlainLineWithCountRateAndNote) {
  testing::internal::CaptureStderr();
  {
    Progress progress("packing", 10, "img");
    for (int i = 1; i <= 10; ++i) {
      progress.update(i);
    }
    progress.finish("loss 0.31");
    progress.finish("never twice");
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_SAYS(text, "packing 10/10 img");
  EXPECT_SAYS(text, "img/s");
  EXPECT_SAYS(text, "loss 0.31");
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Progress, DurationsReadAsPeopleSayThem) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.6), "1m 00s");
  EXPECT_EQ(format_duration(187), "3m 07s");
  EXPECT_EQ(format_duration(3725), "1h 02m");
  EXPECT_EQ(format_duration(-5), "0s");
}

}  // namespace
}  // namespace comba
