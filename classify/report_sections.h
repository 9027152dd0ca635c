// What classification adds to a run's report.
#pragma once

#include "classify/config.h"
#include "classify/evaluate.h"
#include "datasets/contact_sheet.h"

#include <string>
#include <utility>
#include <vector>

namespace comba::classify {

// Confusion matrix, accuracy per class, images of the first training batch with their labels (as the network saw them),
// mistakes and right predictions. Returns titles and HTML.
std::vector<std::pair<std::string, std::string>> report_sections(
    const Evaluation& evaluation, const std::vector<std::string>& class_names,
    const std::vector<datasets::SheetTile>& first_images, const RunConfig& config);

}  // namespace comba::classify
