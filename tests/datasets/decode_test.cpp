// Decoding: the right pixels from good files, a message that names the file from all others.
#include "datasets/decode.h"

#include "tests/base/temporary_folder.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"

#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>
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

// A JPEG of one colour with any number of components.
std::string one_colour_jpeg(J_COLOR_SPACE space, std::initializer_list<uint8_t> colour,
                            bool adobe) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = info.image_height = 16;
  info.input_components = static_cast<int>(colour.size());
  info.in_color_space = space;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 100, TRUE);
  info.write_Adobe_marker = adobe ? TRUE : FALSE;
  jpeg_start_compress(&info, TRUE);
  std::string line;
  for (int x = 0; x < 16; ++x) {
    line.append(reinterpret_cast<const char*>(colour.begin()), colour.size());
  }
  auto* row = reinterpret_cast<JSAMPROW>(line.data());
  while (info.next_scanline < 16) {
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string bytes(reinterpret_cast<char*>(buffer), size);
  std::free(buffer);
  return bytes;
}

// Sets height and width in the frame header of a baseline JPEG.
std::string with_claimed_size(std::string jpeg, int height, int width) {
  const size_t frame = jpeg.find("\xff\xc0");
  EXPECT_NE(frame, std::string::npos);
  jpeg[frame + 5] = static_cast<char>(height >> 8);
  jpeg[frame + 6] = static_cast<char>(height);
  jpeg[frame + 7] = static_cast<char>(width >> 8);
  jpeg[frame + 8] = static_cast<char>(width);
  return jpeg;
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

}  // namespace
}  // namespace comba::datasets
