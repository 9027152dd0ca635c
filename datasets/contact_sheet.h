// Many images on one picture.
#pragma once

#include "datasets/image.h"

#include <string>
#include <vector>

namespace comba::datasets {

struct SheetTile {
  Image image;
  std::string caption;
};

// RGB; tiles of `side` px, `columns` to a row, captions below them, broken where they are too long, of as many
// lines as the longest has.
Image contact_sheet(const std::vector<SheetTile>& tiles, int side, int columns);

}  // namespace comba::datasets
