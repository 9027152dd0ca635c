// What classification adds to a run's report.
#pragma once

#include "classify/config.h"
#include "classify/evaluate.h"
#include "datasets/loader.h"

#include <string>
#include <utility>
#include <vector>

namespace comba::classify {

// Confusion matrix, accuracy per class, the first training batch with its labels (as the network saw it, after
// augmentation), mistakes and right predictions. Returns titles and HTML.
std::vector<std::pair<std::string, std::string>> report_sections(
    const Evaluation& evaluation, const std::vector<std::string>& class_names,
    const datasets::Batch& first_batch, const RunConfig& config);

}  // namespace comba::classify
