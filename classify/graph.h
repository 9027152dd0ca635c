// A classifier as vision/io/recording.h records it.
#pragma once

#include "classify/bundle.h"
#include "vision/io/recording.h"

#include <map>
#include <string>

namespace comba::classify {

// images -> logits
vision::GraphModel classifier_graph(const Classifier& model);

// The same classifier for images of another side.
Classifier resized(const Classifier& model, int64_t image_size);

// What a program needs to feed the model's graphs and to read their answers, as strings: comba.task, comba.classes (JSON),
// comba.image_size, comba.mean, comba.std (JSON, of pixels scaled to 0..1), comba.crop, comba.interpolation, comba.config.
std::map<std::string, std::string> graph_metadata(const Bundle& bundle);

}  // namespace comba::classify
