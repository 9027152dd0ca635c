// What others have published of the models that ours stand beside, each with its source. Nothing here was measured by us.
#pragma once

#include <span>
#include <string_view>

namespace comba::tools {

// 0: the source does not say.
struct Published {
  std::string_view config;  // the configuration of configs/ beside which it stands, or "": none
  std::string_view model;
  double parameters = 0;  // millions
  double macs = 0;        // 10^9, by the source's own way of counting
  double top1 = 0;        // ImageNet-1k, %; classifiers
  double ao = 0;          // GOT-10k test, %; trackers
  double auc = 0;         // LaSOT test, %; trackers
  std::string_view source;
};

std::span<const Published> published_classifiers();
std::span<const Published> published_trackers();

}  // namespace comba::tools
