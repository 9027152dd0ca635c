#include "tools/published.h"

#include <array>

namespace comba::tools {
namespace {

constexpr std::string_view kDeit =
    "arXiv 2012.12877 and the model zoo of facebookresearch/deit; size and MACs: timm";
constexpr std::string_view kComba = "arXiv 2506.02475; its vision code is not public";
constexpr std::string_view kAgent =
    "agent_transformer/README.md of LeapLabTHU/Agent-Attention; arXiv 2312.08874";
constexpr std::string_view kVim = "README.md of hustvl/Vim; MACs: arXiv 2401.09417";
constexpr std::string_view kAsymTrack =
    "tables of jiawen-zhu/AsymTrack, which lists other trackers as well";
constexpr std::string_view kRomTrack = "model zoo of dawnyc/ROMTrack; arXiv 2308.05140";

constexpr Published classifier(std::string_view config, std::string_view model, double parameters,
                               double macs, double top1, std::string_view source) {
  return {config, model, parameters, macs, top1, 0, 0, source};
}

constexpr Published tracker(std::string_view config, std::string_view model, double ao, double auc,
                            std::string_view source, double parameters = 0, double macs = 0) {
  return {config, model, parameters, macs, 0, ao, auc, source};
}

constexpr std::array kClassifiers = {
    classifier("imagenet/deit_t", "DeiT-Ti", 5.72, 1.26, 72.2, kDeit),
    classifier("imagenet/deit_s", "DeiT-S", 22.05, 4.61, 79.9, kDeit),
    classifier("imagenet/comba_t", "Comba-T", 5.8, 1.1, 76.3, kComba),
    classifier("imagenet/comba_s", "Comba-S", 22.6, 4.4, 80.5, kComba),
    classifier("imagenet/comba_t_mamba_like", "Comba-T", 5.8, 1.1, 76.3, kComba),
    classifier("imagenet/comba_s_mamba_like", "Comba-S", 22.6, 4.4, 80.5, kComba),
    classifier("imagenet/agent_t", "Agent-DeiT-T", 6.0, 1.2, 74.9, kAgent),
    classifier("imagenet/agent_s", "Agent-DeiT-S", 22.7, 4.4, 80.5, kAgent),
    classifier("imagenet/vim_t", "Vim-Ti", 7, 1.5, 76.1, kVim),
    classifier("imagenet/vim_s", "Vim-S", 26, 5.1, 80.5, kVim)};

// No one has published a tracker like ours; the first two are those of DeiT's sizes.
constexpr std::array kTrackers = {
    tracker("tracking/deit_t", "ROMTrack-Tiny", 0, 59.3, kRomTrack, 8.0, 2.7),
    tracker("tracking/deit_s", "ROMTrack-Small", 0, 62.3, kRomTrack, 25.4, 9.3),
    tracker("", "ROMTrack", 72.9, 69.3, kRomTrack, 92.1, 34.5),
    tracker("", "OSTrack-256", 71.0, 69.1, "README.md of botaoye/OSTrack"),
    tracker("", "MixFormerV2-S", 61.9, 60.6, kAsymTrack),
    tracker("", "HiT-Base", 64.0, 64.6, "README.md of kangben258/HiT"),
    tracker("", "AsymTrack-B", 67.7, 64.7, kAsymTrack),
    tracker("", "AsymTrack-T", 62.3, 60.8, kAsymTrack),
    tracker("", "LiteTrack-B4", 65.2, 62.5, "README.md of TsingWei/LiteTrack"),
    tracker("", "SGLATrack-DeiT", 66.3, 63.0, "README.md of GXNU-ZhongLab/SGLATrack")};

}  // namespace

std::span<const Published> published_classifiers() { return kClassifiers; }
std::span<const Published> published_trackers() { return kTrackers; }

}  // namespace comba::tools
