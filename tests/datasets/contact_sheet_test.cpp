#include "datasets/contact_sheet.h"

#include "tests/datasets/pictures.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

constexpr int kBlack = 0, kBackground = 32;

Image sheet_of(const std::string& caption, int side) {
  const Image black{4, 4, 3, std::vector<uint8_t>(48, kBlack)};
  return contact_sheet({{black, caption}}, side, 1);
}

// Of the captions: what is brighter than the background.
int64_t ink(const Image& sheet) {
  return std::ranges::count_if(sheet.pixels, [](uint8_t level) { return level > kBackground; });
}

TEST(ContactSheet, LongCaptionsGoOnInTheNextLine) {
  const std::string name = "a_rather_long_class_name";
  const Image one_line = sheet_of(name, 400), narrow = sheet_of(name, 96);
  const int line = sheet_of("a\nb", 96).height - sheet_of("a", 96).height;
  EXPECT_EQ(one_line.height - 400, sheet_of("a", 96).height - 96);
  EXPECT_EQ(narrow.height, sheet_of("a", 96).height + line);
  // Nothing of it is lost; letters are smoothed a little differently at other places.
  EXPECT_NEAR(static_cast<double>(ink(narrow)), static_cast<double>(ink(one_line)),
              0.1 * static_cast<double>(ink(one_line)));
}

TEST(ContactSheet, ATileTooNarrowForAWordBreaksIt) {
  EXPECT_GT(ink(sheet_of("mmmmmmmm", 16)),
            0.8 * static_cast<double>(ink(sheet_of("mmmmmmmm", 200))));
  EXPECT_GT(sheet_of("mmmmmmmm", 16).height, sheet_of("m", 16).height);
}

TEST(ContactSheet, ALongLineBreaksBetweenItsWords) {
  const Image broken = sheet_of("0.48 n00000014", 96), given = sheet_of("0.48\nn00000014", 96);
  EXPECT_EQ(broken.pixels, given.pixels);
}

TEST(ContactSheet, ACaptionMayBeEmpty) {
  EXPECT_EQ(ink(sheet_of("", 32)), 0);
  EXPECT_EQ(sheet_of("", 32).height, sheet_of("a", 32).height);
}

}  // namespace
}  // namespace comba::datasets
