#include "vision/engine/import_weights.h"

#include "vision/base/error.h"
#include "vision/base/log.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <fmt/ranges.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Tensors = std::map<std::string, at::Tensor>;

constexpr const char* kPositions = "pos_embed";
constexpr const char* kPatches = "patch_embed.proj.weight";
constexpr size_t kShown = 6;  // names of a list in a message

std::string shape_of(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

std::string shortened(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kShown);
  const std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + shown, ", "));
  return names.size() > shown ? fmt::format("{} and {} more", text, names.size() - shown) : text;
}

// The side of a square of so many patches; nothing if it is none.
std::optional<int64_t> side_of(int64_t patches) {
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(patches))));
  return patches > 0 && side * side == patches ? std::optional(side) : std::nullopt;
}

// positions [1, p + s^2, d] -> [1, prefix + side^2, d], where p is one of `their_prefixes`; undefined if neither leaves a square.
at::Tensor resize_positions(const at::Tensor& positions, const std::vector<int64_t>& their_prefixes,
                            int64_t prefix, int64_t side) {
  for (const int64_t theirs : their_prefixes) {
    const std::optional<int64_t> from = side_of(positions.size(1) - theirs);
    if (!from) {
      continue;
    }
    const at::Tensor all = positions.to(at::kFloat);
    at::Tensor patches = all.narrow(1, theirs, *from * *from);
    if (*from != side) {
      const at::Tensor grid = patches.transpose(1, 2).unflatten(2, {*from, *from}).contiguous();
      patches = at::_upsample_bicubic2d_aa(grid, {side, side}, /*align_corners=*/false)
                    .flatten(2)
                    .transpose(1, 2);
    }
    if (prefix == 0) {
      return patches;
    }
    const at::Tensor first = theirs > 0 ? all.narrow(1, 0, 1) : at::zeros({1, 1, all.size(2)});
    return at::cat({first, patches}, 1);
  }
  return {};
}

class Importer {
 public:
  Importer(torch::nn::Module& model, Tensors tensors, WeightsUse use, const fs::path& path)
      : tensors_(std::move(tensors)), training_(use == WeightsUse::training), path_(path.string()) {
    diff_.changed = map_foreign_keys(tensors_, use, path);
    for (const auto& item : model.named_parameters()) {
      targets_.emplace(item.key(), item.value());
    }
    for (const auto& item : model.named_buffers()) {
      targets_.emplace(item.key(), item.value());
    }
  }

  KeyDiff run() {
    for (const auto& [name, target] : targets_) {
      find_source(name, target);
    }
    sort_out_the_rest();
    check();
    const at::NoGradGuard no_grad;
    for (auto& [name, source] : sources_) {
      targets_.at(name).copy_(source);
    }
    return std::move(diff_);
  }

 private:
  // What `target` is filled from, if anything.
  void find_source(const std::string& name, const at::Tensor& target) {
    Tensors::const_iterator found = tensors_.find(name);
    if (found == tensors_.end() && training_) {
      found = of_first_direction(name);
    }
    if (found == tensors_.end()) {
      diff_.missing.push_back(name);
      return;
    }
    used_.insert(found->first);
    const at::Tensor& theirs = found->second;
    if (theirs.sizes() == target.sizes()) {
      sources_.emplace_back(name, theirs);
      if (found->first == name) {
        ++diff_.taken;
      } else {
        diff_.changed.push_back(fmt::format("{} from {}", name, found->first));
      }
      return;
    }
    if (training_ && name.starts_with("head.")) {
      diff_.dropped.push_back(
          fmt::format("{} {} (the model's is {})", name, shape_of(theirs), shape_of(target)));
      return;
    }
    const at::Tensor fitted = fit(name, theirs, target);
    COMBA_CHECK(
        fitted.defined(),
        "loading {}: tensor {} is {}, the model of its configuration expects {}; model.* has "
        "to be as it was trained",
        path_, found->first, shape_of(theirs), shape_of(target));
    sources_.emplace_back(name, fitted);
    diff_.changed.push_back(fmt::format("{} {} -> {}", name, shape_of(theirs), shape_of(target)));
  }

  // The tensor that `name`, of the second direction ("mixer.a_proj_b.weight"), has in the first.
  Tensors::const_iterator of_first_direction(const std::string& name) const {
    const size_t mixer = name.find(".mixer.");
    const size_t part = mixer == std::string::npos ? mixer : mixer + std::string(".mixer.").size();
    const size_t end =
        part == std::string::npos ? part : std::min(name.find('.', part), name.size());
    if (end == std::string::npos || !name.substr(part, end - part).ends_with("_b")) {
      return tensors_.end();
    }
    return tensors_.find(name.substr(0, end - 2) + name.substr(end));
  }

  // `theirs` in the shape of `target`, or undefined.
  at::Tensor fit(const std::string& name, const at::Tensor& theirs,
                 const at::Tensor& target) const {
    if (theirs.dim() != target.dim()) {
      return {};
    }
    if (name == kPositions && theirs.size(0) == 1 && theirs.size(2) == target.size(2)) {
      const int64_t prefix = targets_.contains("cls_token") ? 1 : 0;
      const std::optional<int64_t> side = side_of(target.size(1) - prefix);
      const int64_t tokens = static_cast<int64_t>(tensors_.contains("cls_token")) +
                             static_cast<int64_t>(tensors_.contains("dist_token"));
      return side ? resize_positions(theirs, {tokens, 0}, prefix, *side) : at::Tensor();
    }
    if (name == kPatches && theirs.size(0) == target.size(0) &&
        theirs.sizes().slice(2) == target.sizes().slice(2)) {
      const at::Tensor sum = theirs.to(at::kFloat).sum(1, /*keepdim=*/true);
      return sum.div(static_cast<double>(target.size(1))).expand_as(target);
    }
    return {};
  }

  // Tensors of the file that no parameter took.
  void sort_out_the_rest() {
    for (const auto& [name, tensor] : tensors_) {
      if (used_.contains(name)) {
        continue;
      }
      const bool of_distillation = name == "dist_token" || name.starts_with("head_dist.");
      const bool of_a_head = name.starts_with("head.") && !targets_.contains(name);
      (training_ && (of_distillation || of_a_head) ? diff_.dropped : diff_.unexpected)
          .push_back(fmt::format("{} {}", name, shape_of(tensor)));
    }
  }

  void check() const {
    COMBA_CHECK(
        !sources_.empty(),
        "loading {}: none of its {} tensors has the name of one of the model: it has {}; the "
        "model has {}",
        path_, tensors_.size(), shortened(names_of(tensors_)), shortened(names_of(targets_)));
    if (training_) {
      return;
    }
    COMBA_CHECK(diff_.missing.empty(),
                "loading {}: the model of the configuration has {} tensors that are missing there: "
                "{}{}; model.* has to be as it was trained",
                path_, diff_.missing.size(), shortened(diff_.missing),
                diff_.unexpected.empty()
                    ? ""
                    : fmt::format(" (and the file has {})", shortened(diff_.unexpected)));
    COMBA_CHECK(diff_.unexpected.empty(),
                "loading {}: {} of its tensors are unknown to the model of the configuration: {}; "
                "model.* has to be as it was trained",
                path_, diff_.unexpected.size(), shortened(diff_.unexpected));
  }

  static std::vector<std::string> names_of(const Tensors& tensors) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors) {
      names.push_back(name);
    }
    return names;
  }

  Tensors tensors_, targets_;
  bool training_;
  std::string path_;
  std::vector<std::pair<std::string, at::Tensor>> sources_;
  std::set<std::string> used_;
  KeyDiff diff_;
};

}  // namespace

KeyDiff import_weights(torch::nn::Module& model, Tensors tensors, WeightsUse use,
                       const fs::path& path) {
  return Importer(model, std::move(tensors), use, path).run();
}

void log_key_diff(const KeyDiff& diff, const fs::path& path) {
  log::info("weights of {}: {} tensors taken as they are, {} changed to fit", path.string(),
            diff.taken, diff.changed.size());
  if (!diff.changed.empty()) {
    log::info("  changed: {}", shortened(diff.changed));
  }
  const auto warn = [](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) {
      log::warning("  {}: {}", what, shortened(names));
    }
  };
  warn("dropped", diff.dropped);
  warn("missing there, begins at random", diff.missing);
  warn("unexpected, not used", diff.unexpected);
}

}  // namespace comba::vision
