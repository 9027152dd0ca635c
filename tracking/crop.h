// The square around a target that a tracker sees, and the way between its pixels and the image's.
//
// As OSTrack 33b5e12 cuts it (lib/train/data/processing_utils.py): side ceil(sqrt(w h) factor), corner rounded half to even,
// zeros beyond the image, and where the square reaches the right or lower edge the image's last column or row is zero too.
#pragma once

#include "datasets/image.h"
#include "tracking/box.h"

#include <optional>

namespace comba::tracking {

// Image pixels x .. x + side - 1, y .. y + side - 1.
struct CropWindow {
  int x = 0, y = 0, side = 0;
};

// Nothing if the target has no area or is not finite, or if the square would be beyond what an int counts.
std::optional<CropWindow> crop_window(const Box& target, double factor);

// [size, size], bilinear with pixel centres at half (cv::INTER_LINEAR, to one level). The square is not copied, so that a
// target as large as a large image costs no more than a small one.
datasets::Image crop_image(const datasets::Image& image, const CropWindow& window, int size);
// Its rows first .. end - 1 only, into `crop` [size, size, channels].
void crop_rows(const datasets::Image& image, const CropWindow& window, int size, int first, int end,
               uint8_t* crop);
// Whether any pixel of the square lies in the image.
bool touches_image(const CropWindow& window, int width, int height);

// Tells a template's target from what is around it: outside the box its pixels keep `share` of their distance from mid grey.
void fade_outside(datasets::Image& crop, const Box& box, double share);

// Boxes of the image in the crop's pixels, and back; exact inverses of each other.
Box box_in_crop(const Box& box, const CropWindow& window, int size);
Box box_from_crop(const Box& box, const CropWindow& window, int size);

// The box, moved and shrunk as trackers do it: corners in the image, at least `margin` px of it, and at least as large.
Box clip_box(const Box& box, int width, int height, double margin);

}  // namespace comba::tracking
