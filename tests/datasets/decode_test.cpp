// Decoding: the right pixels from good files, a message that names the file from all others.
#include "datasets/decode.h"

#include "datasets/jpeg.h"
#include "datasets/resample.h"
#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"
#include "vision/base/random.h"

#include <cstdlib>

#include <opencv2/imgcodecs.hpp>

namespace comba::datasets {
namespace {

using testing_tools::message_of;

int largest_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    largest = std::max(largest, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
  }
  return largest;
}

double mean_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  double sum = 0;
  for (size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    sum += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
  }
  return sum / static_cast<double>(a.pixels.size());
}

std::string decode_error(const std::string& bytes) {
  return message_of<Error>([&] { decode_image(as_bytes(bytes), 3, "some/file"); });
}

TEST(Decode, PngKeepsEveryPixelInRgbOrder) {
  for (const int channels : {1, 3}) {
    const Image image = picture(17, 23, channels);
    const Image back = decode_image(as_bytes(encode_png(image)), channels, "p");
    EXPECT_EQ(back.height, 17);
    EXPECT_EQ(back.width, 23);
    EXPECT_EQ(back.pixels, image.pixels);
  }
}

void expect_part_of(const std::string& jpeg, const ImageBox& box, int channels) {
  const Image whole = decode_image(as_bytes(jpeg), channels, "j");
  const DecodedPart part =
      decode_part(as_bytes(jpeg), channels, "j", [&](int, int) { return box; }, 1 << 20);
  ASSERT_EQ(part.image.height, box.height);
  ASSERT_EQ(part.image.width, box.width);
  EXPECT_EQ(part.y, 0);
  EXPECT_EQ(part.x, 0);
  for (int y = 0; y < box.height; ++y) {
    const uint8_t* const row = whole.row(box.y + y) + static_cast<ptrdiff_t>(box.x) * channels;
    ASSERT_TRUE(
        std::equal(row, row + static_cast<ptrdiff_t>(box.width) * channels, part.image.row(y)))
        << "row " << y << " of " << box.height << " x " << box.width << " at " << box.y << ", "
        << box.x;
  }
}

TEST(DecodePart, HasThePixelsOfTheWholeImage) {
  const std::vector<std::string> files = {
      encode_jpeg(noisy_picture(210, 317, 3), 90),
      encode_jpeg(noisy_picture(210, 317, 1), 90),
      opencv_jpeg(noisy_picture(210, 317, 3), {cv::IMWRITE_JPEG_PROGRESSIVE, 1}),
      opencv_jpeg(noisy_picture(210, 317, 3), {cv::IMWRITE_JPEG_RST_INTERVAL, 3}),
      sampled_jpeg(noisy_picture(210, 317, 3), 1, 1),
      sampled_jpeg(noisy_picture(210, 317, 3), 2, 1),
      sampled_jpeg(noisy_picture(210, 317, 3), 1, 2),
      sampled_jpeg(noisy_picture(210, 317, 3), 4, 1),
  };
  RandomStream random(4, 5, 6, RandomPurpose::synthesise);
  for (size_t file = 0; file < files.size(); ++file) {
    for (int i = 0; i < 60; ++i) {
      SCOPED_TRACE(file);
      const int height = 1 + static_cast<int>(random.below(210)),
                width = 1 + static_cast<int>(random.below(317));
      const ImageBox box{static_cast<int>(random.below(211 - height)),
                         static_cast<int>(random.below(318 - width)), height, width};
      expect_part_of(files[file], box, i % 3 == 0 ? 1 : 3);
    }
  }
}

TEST(DecodePart, OfASmallerDecodingHasItsPixels) {
  RandomStream random(4, 5, 7, RandomPurpose::synthesise);
  for (const int across : {1, 2}) {
    const std::string jpeg = sampled_jpeg(noisy_picture(420, 520, 3), across, across);
    for (const int scale : {2, 4}) {
      // Whole pixels of that size, so that the box is where it is asked for.
      const auto part_of = [&](ImageBox box) {
        return decode_part(
            as_bytes(jpeg), 3, "j",
            [&](int, int) {
              return ImageBox{box.y * scale, box.x * scale, box.height * scale, box.width * scale};
            },
            std::min(box.height, box.width));
      };
      const Image whole = part_of({0, 0, 420 / scale, 520 / scale}).image;
      ASSERT_EQ(whole.width, 520 / scale);
      for (int i = 0; i < 60; ++i) {
        const int height = 60 + static_cast<int>(random.below(whole.height - 60 + 1)),
                  width = 60 + static_cast<int>(random.below(whole.width - 60 + 1));
        const ImageBox box{static_cast<int>(random.below(whole.height - height + 1)),
                           static_cast<int>(random.below(whole.width - width + 1)), height, width};
        const Image part = part_of(box).image;
        ASSERT_EQ(part.width, width);
        for (int y = 0; y < height; ++y) {
          const uint8_t* const row = whole.row(box.y + y) + ptrdiff_t{box.x} * 3;
          ASSERT_TRUE(std::equal(row, row + ptrdiff_t{width} * 3, part.row(y)))
              << "1 / " << scale << ", chroma 1 / " << across << ", row " << y << " of " << height
              << " x " << width << " at " << box.y << ", " << box.x;
        }
      }
    }
  }
}

TEST(DecodePart, MemoryOfEarlierImagesChangesNone) {
  const auto decoded = [](int height, int width, int channels) {
    const std::string jpeg = encode_jpeg(noisy_picture(height, width, channels), 90);
    return decode_image(as_bytes(jpeg), channels, "j");
  };
  const Image small = decoded(20, 30, 3), large = decoded(90, 80, 3), grey = decoded(50, 40, 1);
  for (int i = 0; i < 3; ++i) {
    for (const Image& expected : {small, large, grey, large, small}) {
      Image image = decoded(expected.height, expected.width, expected.channels);
      EXPECT_EQ(image.pixels, expected.pixels);
      recycle(std::move(image));
    }
  }
}

TEST(DecodePart, OfCmykAndPngIsRightToo) {
  const std::string cmyk = one_colour_jpeg(JCS_CMYK, {200, 30, 120, 255}, true);
  expect_part_of(cmyk, {3, 5, 7, 9}, 3);
  const std::string png = encode_png(noisy_picture(30, 20, 3));
  const DecodedPart part =
      decode_part(as_bytes(png), 3, "p", [](int, int) { return ImageBox{2, 3, 10, 11}; }, 5);
  EXPECT_EQ(part.image.height, 30);
  EXPECT_EQ(part.y, 2);
  EXPECT_EQ(part.x, 3);
  EXPECT_EQ(part.height, 10);
  EXPECT_EQ(part.width, 11);
}

TEST(DecodePart, IsDecodedSmallerWhenTheBoxStaysLargeEnough) {
  const std::string jpeg = encode_jpeg(picture(600, 800, 3), 95);
  const ImageBox box{101, 203, 402, 411};
  const auto at = [&](int least) {
    return decode_part(as_bytes(jpeg), 3, "j", [&](int, int) { return box; }, least);
  };
  EXPECT_EQ(at(202).height, 402);
  EXPECT_EQ(at(201).height, 201);
  EXPECT_EQ(at(101).height, 201);
  const DecodedPart quarter = at(100);
  EXPECT_EQ(quarter.height, 100.5);
  EXPECT_EQ(quarter.width, 102.75);
  EXPECT_EQ(quarter.y, 0.25);
  EXPECT_EQ(quarter.x, 0.75);
  // The same picture, whichever way it became small.
  const Image full = resample(at(500), 96, 96);
  EXPECT_LE(mean_difference(resample(at(201), 96, 96), full), 1.0);
  EXPECT_LE(mean_difference(resample(quarter, 96, 96), full), 1.0);
}

TEST(DecodePart, DamageIsNamed) {
  const std::string jpeg = encode_jpeg(noisy_picture(200, 300, 3), 90);
  for (const size_t size : {size_t{0}, size_t{2}, size_t{100}, jpeg.size() / 4}) {
    const std::string cut = jpeg.substr(0, size);
    const std::string problem = message_of<Error>([&] {
      decode_part(
          as_bytes(cut), 3, "some/file",
          [](int h, int w) { return ImageBox{h / 2, w / 2, h / 2, w / 2}; }, 1000);
    });
    EXPECT_NE(problem.find("some/file"), std::string::npos) << size;
  }
}

TEST(Decode, JpegAgreesWithOpenCv) {
  const std::string bytes = encode_jpeg(picture(61, 45, 3), 92);
  const Image ours = decode_image(as_bytes(bytes), 3, "j");
  const cv::Mat bgr =
      cv::imdecode(std::vector<uint8_t>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
  Image theirs{bgr.rows, bgr.cols, 3, {}};
  for (int y = 0; y < bgr.rows; ++y) {
    for (int x = 0; x < bgr.cols; ++x) {
      for (const int c : {2, 1, 0}) {
        theirs.pixels.push_back(bgr.at<cv::Vec3b>(y, x)[c]);
      }
    }
  }
  EXPECT_EQ(ours.height, 61);
  EXPECT_EQ(ours.width, 45);
  EXPECT_LE(largest_difference(ours, theirs),
            2);  // another version of the library may round otherwise
  EXPECT_LE(largest_difference(ours, picture(61, 45, 3)), 16);
}

TEST(Decode, CmykJpegsBecomeRgbWhetherAdobeInvertedThemOrNot) {
  // 0 % cyan, 100 % magenta, 100 % yellow, 0 % black is red.
  for (const bool adobe : {true, false}) {
    const auto ink = [&](int percent) {
      return static_cast<uint8_t>(adobe ? 255 - percent * 255 / 100 : percent * 255 / 100);
    };
    const std::string red = one_colour_jpeg(JCS_CMYK, {ink(0), ink(100), ink(100), ink(0)}, adobe);
    const Image image = decode_image(as_bytes(red), 3, "cmyk.jpg");
    EXPECT_NEAR(image.pixels[0], 255, 3) << adobe;
    EXPECT_NEAR(image.pixels[1], 0, 3) << adobe;
    EXPECT_NEAR(image.pixels[2], 0, 3) << adobe;
    EXPECT_NEAR(decode_image(as_bytes(red), 1, "cmyk.jpg").pixels[0], 76, 3)
        << adobe;  // 0.299 * 255
  }
}

TEST(Decode, GreyAndColourConvertIntoEachOther) {
  const std::string grey = one_colour_jpeg(JCS_GRAYSCALE, {90}, false);
  EXPECT_EQ(decode_image(as_bytes(grey), 3, "g").pixels, std::vector<uint8_t>(16 * 16 * 3, 90));
  const std::string green = one_colour_jpeg(JCS_RGB, {0, 200, 0}, false);
  EXPECT_NEAR(decode_image(as_bytes(green), 1, "c").pixels[100], 117, 2);  // 0.587 * 200
}

TEST(Decode, SixteenBitPngsKeepTheirHighBytes) {
  cv::Mat deep(4, 5, CV_16UC3, cv::Scalar(0x1234, 0x8000, 0xfedc));  // BGR
  std::vector<uint8_t> bytes;
  ASSERT_TRUE(cv::imencode(".png", deep, bytes));
  const Image image = decode_image(bytes, 3, "deep.png");
  EXPECT_NEAR(image.pixels[0], 0xfe, 1);
  EXPECT_NEAR(image.pixels[1], 0x80, 1);
  EXPECT_NEAR(image.pixels[2], 0x12, 1);
}

TEST(Decode, TransparencyIsDropped) {
  cv::Mat clear(4, 4, CV_8UC4, cv::Scalar(10, 20, 30, 0));
  std::vector<uint8_t> bytes;
  ASSERT_TRUE(cv::imencode(".png", clear, bytes));
  const Image image = decode_image(bytes, 3, "clear.png");
  EXPECT_EQ(image.pixels[0], 30);
  EXPECT_EQ(image.pixels[2], 10);
}

TEST(Decode, TheFormatIsToldByContent) {
  EXPECT_TRUE(is_jpeg(as_bytes(encode_jpeg(picture(8, 8, 3), 80))));
  EXPECT_FALSE(is_jpeg(as_bytes(encode_png(picture(8, 8, 3)))));
  const std::string bmp_named_jpg = [] {
    std::vector<uint8_t> bytes;
    cv::imencode(".bmp", cv::Mat(3, 3, CV_8UC3, cv::Scalar(1, 2, 3)), bytes);
    return std::string(bytes.begin(), bytes.end());
  }();
  EXPECT_EQ(decode_image(as_bytes(bmp_named_jpg), 3, "x.jpg").pixels[0], 3);
}

TEST(Decode, AnEmptyFileIsNamed) {
  const std::string message = decode_error("");
  EXPECT_SAYS(message, "some/file");
  EXPECT_SAYS(message, "empty");
}

TEST(Decode, WhatIsNoImageIsNamed) {
  EXPECT_SAYS(decode_error("this is a letter"), "some/file");
  EXPECT_SAYS(decode_error("this is a letter"), "JPEG, PNG, BMP");
  EXPECT_SAYS(decode_error(std::string(128, '\0') + "DICM" + std::string(500, 'x')),
              "not an image of a format read here");
}

TEST(Decode, EveryPromisedFormatIsRead) {
  const cv::Mat picture(7, 5, CV_8UC3, cv::Scalar(200, 100, 50));  // BGR
  for (const char* extension : {".png", ".bmp", ".webp", ".tif", ".ppm"}) {
    std::vector<uint8_t> bytes;
    ASSERT_TRUE(cv::imencode(extension, picture, bytes, {cv::IMWRITE_WEBP_QUALITY, 101}))
        << extension;
    const Image image = decode_image(bytes, 3, extension);
    EXPECT_EQ(image.width, 5) << extension;
    EXPECT_EQ(image.pixels[0], 50) << extension;
    EXPECT_EQ(image.pixels[2], 200) << extension;
  }
}

TEST(Decode, FilesCutAnywhereAreRefused) {
  const std::string jpeg = encode_jpeg(picture(48, 48, 3), 90),
                    png = encode_png(picture(48, 48, 3));
  for (const std::string& whole : {jpeg, png}) {
    for (size_t length = 1; length < whole.size(); length += 1 + whole.size() / 60) {
      EXPECT_SAYS(decode_error(whole.substr(0, length)), "some/file");
    }
  }
}

TEST(Decode, BytesOverwrittenAnywhereGiveAnImageOrAMessageButNoCrash) {
  const std::string jpeg = encode_jpeg(picture(48, 48, 3), 90),
                    png = encode_png(picture(48, 48, 3));
  for (const std::string& whole : {jpeg, png}) {
    for (size_t at = 0; at < whole.size(); at += 3) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ 0xff);
      try {
        decode_image(as_bytes(bytes), 3, "some/file");
      } catch (const Error& error) {
        EXPECT_SAYS(error.what(), "some/file");
      }
    }
  }
}

TEST(Decode, AHeaderThatClaimsTooManyPixelsIsRefusedBeforeTheyAreAllocated) {
  const std::string jpeg = with_claimed_size(encode_jpeg(picture(16, 16, 3), 90), 20000, 20000);
  std::string png = encode_png(picture(16, 16, 3));
  for (const size_t at : {size_t{16}, size_t{20}}) {
    png.replace(at, 4, std::string("\x00\x00\x4e\x20", 4));  // 20,000
  }
  for (const std::string& bytes : {jpeg, png}) {
    const std::string message = decode_error(bytes);
    EXPECT_SAYS(message, "20000 x 20000");
    EXPECT_SAYS(message, "some/file");
  }
}

TEST(Decode, AJpegOfVeryManyScansIsRefused) {
  const std::string jpeg = opencv_jpeg(picture(32, 32, 3), {cv::IMWRITE_JPEG_PROGRESSIVE, 1});
  const size_t last = jpeg.rfind("\xff\xda");
  const std::string scan = jpeg.substr(last, jpeg.size() - 2 - last);
  std::string bomb = jpeg.substr(0, last);
  for (int i = 0; i < 300; ++i) {
    bomb += scan;
  }
  EXPECT_SAYS(decode_error(bomb + "\xff\xd9"), "more than 200 scans");
}

}  // namespace
}  // namespace comba::datasets
