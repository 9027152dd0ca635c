// A flat folder of images with a file of labels, as ImageNet's validation images come.
#pragma once

#include "datasets/source.h"

#include <filesystem>
#include <memory>

namespace comba::datasets {

// The images of `folder` in the order of their names. Their labels are in the first of these files that is in the folder or
// beside it (LOC_... also up to four folders above, as Kaggle lays them out):
//   LOC_NAME_solution.csv, NAME.txt, NAME_labels.txt, labels.txt, synset_labels.txt,
//   imagenet_2012_validation_synset_labels.txt          see parse_labels(); NAME is that of the folder
//   ILSVRC2012_validation_ground_truth.txt               numbers of the devkit, whose meaning ILSVRC2012_synsets.txt beside it
//                                                        has; also looked for in devkit/data and ILSVRC2012_devkit_t12/data
// Classes are the folders of train/ beside it; or else the list LOC_synset_mapping.txt, synset_words.txt or synsets.txt; or
// else the names in the labels. All are sorted, and a number as a label is a place among them.
//
// Throws Error naming the file and what is missing, with how to make it.
std::unique_ptr<ImageSource> open_listed_folder(const std::filesystem::path& folder);

}  // namespace comba::datasets
