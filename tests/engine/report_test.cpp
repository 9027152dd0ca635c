#include "vision/engine/report.h"

#include <regex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

std::vector<double> numbers(const std::string& svg, const std::string& pattern) {
  const std::regex expression(pattern);
  std::vector<double> found;
  for (std::sregex_iterator it(svg.begin(), svg.end(), expression), end; it != end; ++it) {
    found.push_back(std::stod((*it)[1]));
  }
  return found;
}

TEST(LinePlot, ALogarithmicAxisPlacesPowersOfTwoEvenlyAndSaysThem) {
  const std::string svg = line_plot_svg(
      {.title = "time", .x_label = "T", .y_label = "ns", .log_x = true, .log_y = true},
      {{"scan", {512, 1024, 2048, 4096}, {1, 10, 100, 1000}}});
  const std::vector<double> xs = numbers(svg, "cx=\"([0-9.]+)\""),
                            ys = numbers(svg, "cy=\"([0-9.]+)\"");
  ASSERT_EQ(xs.size(), 4u);
  for (size_t i = 2; i < xs.size(); ++i) {
    EXPECT_NEAR(xs[i] - xs[i - 1], xs[1] - xs[0], 0.2);
    EXPECT_NEAR(ys[i] - ys[i - 1], ys[1] - ys[0], 0.2);
  }
  for (const char* label : {">512<", ">1024<", ">2048<", ">4096<", ">10<", ">1000<"}) {
    EXPECT_NE(svg.find(label), std::string::npos) << label << " in " << svg;
  }
}

TEST(LinePlot, TheLastLabelOfTheAxisIsInsideThePicture) {
  const std::string svg =
      line_plot_svg({.title = "t", .log_x = true}, {{"a", {1024, 1048576}, {1, 2}}});
  const std::vector<double> middle = numbers(svg, "x=\"([0-9.]+)\"[^>]*>1.04858e\\+06<");
  ASSERT_EQ(middle.size(), 1u);
  EXPECT_LT(middle[0] + 3.5 * 11, 560);
}

TEST(LinePlot, LeavesOutWhatALogarithmicAxisCannotShow) {
  const std::string svg = line_plot_svg({.title = "t", .log_x = true, .log_y = true},
                                        {{"a", {0, 2, 4, 8}, {1, 0, 2, -1}}});
  EXPECT_EQ(numbers(svg, "cx=\"([0-9.]+)\"").size(), 1u);
}

TEST(LinePlot, ALinearAxisHasRoundNumbersAndZeroIsZero) {
  const std::string svg = line_plot_svg({.title = "t"}, {{"a", {-0.3, 0.3}, {-0.3, 0.3}}});
  for (const char* label : {">-0.2<", ">0<", ">0.2<"}) {
    EXPECT_NE(svg.find(label), std::string::npos) << label << " in " << svg;
  }
}

TEST(LinePlot, NamesThatHaveNoRoomBesideTheTitleStandBelowIt) {
  const std::string title(50, 'x');  // nearly as wide as the plot
  const std::string svg =
      line_plot_svg({.title = title}, {{"comba by token", {1}, {1}}, {"retention", {1}, {2}}});
  const std::vector<double> lines =
      numbers(svg, "y=\"([0-9.]+)\" text-anchor=\"end\" style=\"fill");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_GT(lines[0], 18);
  EXPECT_GT(lines[1], 18);
}

}  // namespace
}  // namespace comba::vision
