// Models as vision/io/recording.h records them, and what has to hold for any of them.
#pragma once

#include "vision/backbone.h"
#include "vision/io/recording.h"

namespace comba::vision {

// images -> the map of patch tokens after the last norm, [B, d, S/p, S/p].
GraphModel backbone_graph(const Backbone& backbone);

// A backbone with the parameters that `source` has under the same names: what is left of a classifier without its head.
Backbone backbone_of(const BackboneImpl& source);

// The same weights for images of another side: learned positions are resized. `target`'s other parameters are `source`'s.
void copy_resized(const BackboneImpl& source, BackboneImpl& target);

// Rounds matrices and vectors alike; the recurrence's own parameters (A_log, dt_bias, decay, D) stay fp32. For
// c10::ScalarType::Float nothing changes.
void round_parameters(torch::nn::Module& model, at::ScalarType dtype);

}  // namespace comba::vision
