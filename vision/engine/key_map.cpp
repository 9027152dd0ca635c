#include "vision/engine/key_map.h"

#include "vision/base/error.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Tensors = std::map<std::string, at::Tensor>;

// The first name that ends so, or "".
std::string name_ending_in(const Tensors& tensors, std::string_view end) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const auto& item) { return item.first.ends_with(end); });
  return found == tensors.end() ? "" : found->first;
}

void refuse_distilled(const Tensors& tensors, WeightsUse use, const fs::path& path) {
  COMBA_CHECK(
      use == WeightsUse::training || !tensors.contains("dist_token"),
      "loading {}: these are weights of a distilled DeiT (dist_token, head_dist), whose two "
      "outputs no model here has; train from them (model.init), or take the model that was "
      "not distilled",
      path.string());
}

struct Fold {
  const char *scale, *into;  // behind "blocks.N."
};
constexpr Fold kLayerScales[] = {{"ls1.gamma", "attn.proj"},
                                 {"gamma_1", "attn.proj"},
                                 {"ls2.gamma", "mlp.fc2"},
                                 {"gamma_2", "mlp.fc2"}};

// x + gamma (W y + b) = x + (gamma W) y + gamma b
void fold_layer_scale(Tensors& tensors, const std::string& scale, const std::string& into,
                      const fs::path& path) {
  const at::Tensor gamma = tensors.at(scale).to(at::kFloat);
  const auto weight = tensors.find(into + ".weight"), bias = tensors.find(into + ".bias");
  COMBA_CHECK(gamma.dim() == 1 && weight != tensors.end() && weight->second.dim() == 2 &&
                  weight->second.size(0) == gamma.size(0) &&
                  (bias == tensors.end() || bias->second.sizes() == gamma.sizes()),
              "loading {}: tensor {}: expected as many scales as {}.weight has outputs",
              path.string(), scale, into);
  weight->second = weight->second.to(at::kFloat).mul(gamma.unsqueeze(1));
  if (bias != tensors.end()) {
    bias->second = bias->second.to(at::kFloat).mul(gamma);
  }
  tensors.erase(scale);
}

std::vector<std::string> fold_layer_scales(Tensors& tensors, const fs::path& path) {
  std::vector<std::pair<std::string, std::string>> folds;
  for (const auto& [name, tensor] : tensors) {
    for (const Fold& fold : kLayerScales) {
      if (name.starts_with("blocks.") && name.ends_with(std::string(".") + fold.scale)) {
        folds.emplace_back(
            name, name.substr(0, name.size() - std::string_view(fold.scale).size()) + fold.into);
      }
    }
  }
  std::vector<std::string> lines;
  for (const auto& [scale, into] : folds) {
    fold_layer_scale(tensors, scale, into, path);
    lines.push_back(fmt::format("{} into {}", scale, into));
  }
  return lines;
}

struct Rename {
  std::string_view theirs, ours;
};
using Renames = std::vector<Rename>;

// The name here of a tensor of layer N; its own where there is none.
std::string layer_name(std::string_view name, const Renames& renames) {
  if (!name.starts_with("layers.") && !name.starts_with("blocks.")) {
    return std::string(name);
  }
  const size_t end = name.find('.', 7);
  if (end == std::string_view::npos) {
    return std::string(name);
  }
  const std::string_view number = name.substr(7, end - 7), rest = name.substr(end + 1);
  for (const Rename& rename : renames) {
    if (rest.starts_with(rename.theirs)) {
      return fmt::format("blocks.{}.{}{}", number, rename.ours, rest.substr(rename.theirs.size()));
    }
  }
  return std::string(name);
}

std::string name_of_fla(std::string_view name) {
  static const Renames kLayer = {
      {"attn.", "mixer."}, {"attn_norm.", "norm1."}, {"mlp_norm.", "norm2."}};
  if (name.starts_with("model.")) {
    name.remove_prefix(6);
  }
  return layer_name(name, kLayer);
}

std::string name_of_vim(std::string_view name) {
  static const Renames kLayer = {{"mixer.", "mixer."}, {"norm.", "norm1."}};
  constexpr std::string_view kLast = "norm_f.";
  return name.starts_with(kLast) ? fmt::format("norm.{}", name.substr(kLast.size()))
                                 : layer_name(name, kLayer);
}

void rename_all(Tensors& tensors, std::string (*name_of)(std::string_view), const fs::path& path) {
  Tensors renamed;
  for (auto& [name, tensor] : tensors) {
    const std::string ours = name_of(name);
    COMBA_CHECK(renamed.emplace(ours, std::move(tensor)).second,
                "loading {}: two of its tensors are {} here, one of them {}", path.string(), ours,
                name);
  }
  tensors = std::move(renamed);
}

void rename_fla(Tensors& tensors, WeightsUse use, const fs::path& path) {
  const std::string layer = name_ending_in(tensors, ".attn.A_log");
  if (layer.empty()) {
    return;
  }
  COMBA_CHECK(use == WeightsUse::training,
              "loading {}: these are weights of fla's Comba layers ({}), which correct queries "
              "before they are normalised and so compute something else than those here; train "
              "from them (model.init)",
              path.string(), layer);
  rename_all(tensors, name_of_fla, path);
}

void rename_vim(Tensors& tensors, const fs::path& path) {
  if (!name_ending_in(tensors, ".mixer.x_proj.weight").empty()) {
    rename_all(tensors, name_of_vim, path);
  }
}

}  // namespace

std::vector<std::string> map_foreign_keys(Tensors& tensors, WeightsUse use, const fs::path& path) {
  refuse_distilled(tensors, use, path);
  rename_fla(tensors, use, path);
  rename_vim(tensors, path);
  return fold_layer_scales(tensors, path);
}

}  // namespace comba::vision
