// A tracker as vision/io/recording.h records it, in two parts.
#pragma once

#include "tracking/bundle.h"
#include "vision/io/recording.h"

#include <map>
#include <string>
#include <vector>

namespace comba::tracking {

// "tracker_template": template [B, n, C, S_t, S_t] -> template_tokens, once for an object;
// "tracker_search": template_tokens, search [B, C, S, S] -> score, size, offset (tracking/head.h), for each frame.
std::vector<vision::GraphModel> tracker_graphs(const Network& network);

// The same tracker for search images of another side.
Network resized(const Network& network, int64_t image_size);

// As classify::graph_metadata(): comba.task, comba.image_size (of search images), comba.template_size, comba.mean, comba.std,
// comba.search_factor, comba.template_factor (side of the crop over the root of the box's area), comba.config.
std::map<std::string, std::string> graph_metadata(const TrackConfig& config);

}  // namespace comba::tracking
