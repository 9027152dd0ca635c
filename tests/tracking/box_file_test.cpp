#include "tracking/box_file.h"

#include "vision/base/error.h"

#include <string>

#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

std::string message_of(const std::string& text) {
  try {
    parse_boxes(text, "boxes.txt");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(BoxFile, TakesEverySeparatorThatTrackersWrite) {
  const std::vector<Box> want = {{1, 2, 3, 4}, {-5.5, 0.25, 1e3, 7}};
  for (const char* text :
       {"1,2,3,4\n-5.5,0.25,1e3,7\n", "1\t2\t3\t4\n-5.5\t0.25\t1e3\t7",
        "1 2 3 4\n-5.5  0.25 1e3   7\n\n\n", "1, 2, 3, 4\r\n-5.5, .25, 1e3, 7\r\n",
        "\357\273\2771,2,3,4\n+-5.5,0.25,1e3,7\n", " 1 , 2,\t3,4 \n-5.5,0.25,1000,+7\n"}) {
    if (std::string(text).find("+-") != std::string::npos) {
      EXPECT_NE(message_of(text), "") << text;  // two signs are no number
      continue;
    }
    EXPECT_EQ(parse_boxes(text, "boxes.txt"), want) << text;
  }
}

TEST(BoxFile, ReadsNan) {
  const auto boxes = parse_boxes("nan,NaN,nan,nan\n1,2,3,4\n", "boxes.txt");
  ASSERT_EQ(boxes.size(), 2U);
  EXPECT_TRUE(boxes[0].has_nan());
  EXPECT_FALSE(boxes[1].has_nan());
}

TEST(BoxFile, AnEmptyFileHasNoBoxes) {
  EXPECT_TRUE(parse_boxes("", "boxes.txt").empty());
  EXPECT_TRUE(parse_boxes("\n\n", "boxes.txt").empty());
}

TEST(BoxFile, NamesFileLineAndWhatStandsThere) {
  EXPECT_EQ(message_of("1,2,3,4\n1,2,3\n"),
            "reading boxes from boxes.txt:2: expected four numbers x,y,w,h, got \"1,2,3\"");
  EXPECT_EQ(message_of("1,2,3,4,5\n"),
            "reading boxes from boxes.txt:1: expected four numbers x,y,w,h, got \"1,2,3,4,5\"");
  for (const char* line : {"a,b,c,d", "1,,2,3,4", "1,2,3,4,", ",1,2,3,4", "1;2;3;4", "1,2,3,4x",
                           "0x10,2,3,4", "1,2,3,1e999", "\x01\x02"}) {
    EXPECT_NE(message_of(line).find("boxes.txt:1: expected four numbers"), std::string::npos)
        << line;
  }
  EXPECT_NE(
      message_of("1,2,3,4\n\n1,2,3,4\n").find("boxes.txt:2: expected x,y,w,h, got an empty line"),
      std::string::npos);
  EXPECT_NE(message_of(std::string(500, 'z')).find("zzz...\""), std::string::npos);
}

TEST(NumberFile, ReadsOneLineOrMany) {
  const std::vector<double> want = {0, 1, 0, 0.5};
  for (const char* text :
       {"0,1,0,0.5", "0\n1\n0\n0.5\n", "0 1\n0\t0.5\n", "0,1,0,0.5,\n", "0,\n1,\n0,\n0.5,\n"}) {
    EXPECT_EQ(parse_numbers(text, "flags.txt"), want) << text;
  }
  EXPECT_THROW(parse_numbers("0,one", "flags.txt"), Error);
}

}  // namespace
}  // namespace comba::tracking
