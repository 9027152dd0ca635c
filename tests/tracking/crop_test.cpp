// The oracle is OpenCV's own padding and resizing, put together as OSTrack does it.
#include "tracking/crop.h"

#include "vision/base/error.h"
#include "vision/base/random.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>
#include <opencv2/imgproc.hpp>

namespace comba::tracking {
namespace {

datasets::Image random_image(int width, int height) {
  RandomStream random(1, 0, static_cast<uint64_t>(width), RandomPurpose::crop);
  datasets::Image image{height, width, 3, {}};
  for (int i = 0; i < width * height * 3; ++i) {
    image.pixels.push_back(static_cast<uint8_t>(random.below(256)));
  }
  return image;
}

cv::Mat3b opencv_crop(const datasets::Image& image, const CropWindow& w, int size) {
  const cv::Mat3b source(image.height, image.width,
                         reinterpret_cast<cv::Vec3b*>(const_cast<uint8_t*>(image.pixels.data())));
  const int left = std::max(0, -w.x), top = std::max(0, -w.y);
  const int right = std::max(0, w.x + w.side - image.width + 1),
            bottom = std::max(0, w.y + w.side - image.height + 1);
  const cv::Rect kept(w.x + left, w.y + top, w.side - left - right, w.side - top - bottom);
  cv::Mat3b padded(w.side, w.side, cv::Vec3b(0, 0, 0)), out;
  if (kept.width > 0 && kept.height > 0) {
    source(kept).copyTo(padded(cv::Rect(left, top, kept.width, kept.height)));
  }
  cv::resize(padded, out, {size, size}, 0, 0, cv::INTER_LINEAR);
  return out;
}

TEST(Crop, IsWhatPaddingAndResizingGive) {
  const datasets::Image image = random_image(97, 61);
  for (const CropWindow w : {CropWindow{10, 5, 40},
                             {-13, -7, 50},
                             {60, 30, 64},
                             {-40, -50, 200},
                             {57, 20, 40},
                             {56, 20, 40},
                             {57, 21, 40},
                             {0, 0, 1},
                             {96, 60, 3},
                             {-500, -500, 100},
                             {20, 20, 7}}) {
    for (const int size : {16, 33, 128}) {
      const datasets::Image ours = crop_image(image, w, size);
      const cv::Mat3b theirs = opencv_crop(image, w, size);
      int largest = 0;
      for (size_t i = 0; i < ours.pixels.size(); ++i) {
        largest = std::max(largest, std::abs(ours.pixels[i] - theirs.data[i]));
      }
      EXPECT_LE(largest, 1) << w.x << " " << w.y << " " << w.side << " -> " << size;
    }
  }
}

TEST(Crop, WindowsRoundHalfToEvenAsPythonDoes) {
  // 10 + 2.5 - 5 = 7.5 and 11 + 2.5 - 5 = 8.5 are 8 both.
  EXPECT_EQ(crop_window({10, 11, 5, 5}, 2)->x, 8);
  EXPECT_EQ(crop_window({10, 11, 5, 5}, 2)->y, 8);
  EXPECT_EQ(crop_window({-10, -11, 5, 5}, 2)->x, -12);  // -12.5
  EXPECT_EQ(crop_window({-10, -11, 5, 5}, 2)->y, -14);  // -13.5
  EXPECT_EQ(crop_window({0, 0, 3, 5}, 2)->side, 8);     // 2 sqrt(15) = 7.7
}

TEST(Crop, HasNoWindowForWhatIsNoTarget) {
  for (const Box b : {Box{1, 1, 0, 5},
                      {1, 1, -3, -3},
                      {NAN, 1, 2, 2},
                      {1, 1, 1e300, 1e300},
                      {1e18, 0, 5, 5},
                      {0, 0, 1e-200, 1e-200},
                      {0, INFINITY, 5, 5}}) {
    EXPECT_FALSE(crop_window(b, 4).has_value()) << b.x << " " << b.w;
  }
  EXPECT_EQ(crop_window({0, 0, 0.01, 0.01}, 4)->side, 1);
}

TEST(Crop, ATargetAsLargeAsALargeImageCostsWhatASmallOneDoes) {
  const datasets::Image image = random_image(64, 64);
  const datasets::Image crop = crop_image(image, {-50000, -50000, 100000}, 256);
  EXPECT_EQ(crop.pixels.size(), 256U * 256 * 3);
}

TEST(Crop, BoxesGoThereAndBack) {
  for (const Box b : {Box{10.25, -3.5, 17, 22.75}, {300, 200, 3, 900}}) {
    const CropWindow w = *crop_window(b, 4);
    const Box there = box_in_crop(b, w, 256), back = box_from_crop(there, w, 256);
    EXPECT_NEAR(back.x, b.x, 1e-9);
    EXPECT_NEAR(back.y, b.y, 1e-9);
    EXPECT_NEAR(back.w, b.w, 1e-9);
    EXPECT_NEAR(back.h, b.h, 1e-9);
    // The target sits in the middle, to half an image pixel.
    EXPECT_NEAR(there.x + there.w / 2, 128, 256.0 / w.side);
    EXPECT_NEAR(there.y + there.h / 2, 128, 256.0 / w.side);
  }
}

TEST(Crop, ABrightSquareIsWhereItsBoxSays) {
  datasets::Image image{100, 120, 3, std::vector<uint8_t>(120 * 100 * 3)};
  for (int y = 40; y < 60; ++y) {
    std::memset(image.row(y) + 70 * 3, 255, 30 * 3);
  }
  const CropWindow w = *crop_window({70, 40, 30, 20}, 3);
  const datasets::Image crop = crop_image(image, w, 128);
  const Box box = box_in_crop({70, 40, 30, 20}, w, 128);
  int left = 128, right = 0, top = 128, bottom = 0;
  for (int y = 0; y < 128; ++y) {
    for (int x = 0; x < 128; ++x) {
      if (crop.row(y)[3 * x] > 127) {
        left = std::min(left, x);
        right = std::max(right, x + 1);
        top = std::min(top, y);
        bottom = std::max(bottom, y + 1);
      }
    }
  }
  EXPECT_NEAR(left, box.x, 1);
  EXPECT_NEAR(right, box.x + box.w, 1);
  EXPECT_NEAR(top, box.y, 1);
  EXPECT_NEAR(bottom, box.y + box.h, 1);
}

TEST(FadeOutside, LeavesTheBoxAloneAndMovesTheRestTowardsGrey) {
  datasets::Image image{10, 12, 3, {}};
  for (int i = 0; i < 10 * 12 * 3; ++i) {
    image.pixels.push_back(static_cast<uint8_t>(i * 37 % 256));
  }
  const Box box{3, 2, 5.4, 4};  // pixel centres 3.5 .. 7.5 and 2.5 .. 5.5
  datasets::Image faded = image, gone = image, same = image;
  fade_outside(faded, box, 0.25);
  fade_outside(gone, {-50, -50, 20, 20}, 0);
  fade_outside(same, box, 1);
  EXPECT_EQ(same.pixels, image.pixels);
  for (int y = 0; y < 10; ++y) {
    for (int x = 0; x < 12; ++x) {
      const bool inside = x >= 3 && x <= 7 && y >= 2 && y <= 5;
      for (int c = 0; c < 3; ++c) {
        const int before = image.row(y)[x * 3 + c];
        EXPECT_NEAR(faded.row(y)[x * 3 + c], inside ? before : 128 + 0.25 * (before - 128), 0.51);
        EXPECT_EQ(gone.row(y)[x * 3 + c], 128);
      }
    }
  }
}

TEST(ClipBox, KeepsAMarginInTheImageWhateverTheBox) {
  EXPECT_EQ(clip_box({20, 30, 40, 50}, 200, 100, 10), (Box{20, 30, 40, 50}));
  EXPECT_EQ(clip_box({-30, 90, 20, 50}, 200, 100, 10), (Box{0, 90, 10, 10}));
  EXPECT_EQ(clip_box({500, 500, 5, 5}, 200, 100, 10), (Box{190, 90, 10, 10}));
  EXPECT_EQ(clip_box({-1e6, -1e6, 3e6, 3e6}, 200, 100, 10), (Box{0, 0, 200, 100}));
  const Box tiny = clip_box({1, 1, 2, 2}, 5, 5, 10);  // an image smaller than the margin
  EXPECT_TRUE(tiny.has_area());
}

TEST(Crop, TouchesTheImageOrNot) {
  EXPECT_TRUE(touches_image({-9, 0, 10}, 50, 50));
  EXPECT_FALSE(touches_image({-10, 0, 10}, 50, 50));
  EXPECT_FALSE(touches_image({0, 50, 10}, 50, 50));
}

TEST(Crop, BandsOfRowsMakeUpTheWhole) {
  const datasets::Image image = random_image(97, 61);
  const CropWindow window{-13, 20, 70};
  const datasets::Image whole = crop_image(image, window, 50);
  std::vector<uint8_t> banded(whole.pixels.size(), 7);
  for (const auto& [first, end] : {std::pair(33, 50), std::pair(0, 1), std::pair(1, 33)}) {
    crop_rows(image, window, 50, first, end, banded.data());
  }
  EXPECT_EQ(banded, whole.pixels);
}

}  // namespace
}  // namespace comba::tracking
