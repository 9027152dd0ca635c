// The Comba mixer against its definition, token by token in fp64: projections, convolutions, gates, the recurrence of
// arXiv 2506.02475, merging, per-head norm, gate.
#include "vision/nn/comba_mixer.h"

#include "vision/backbone.h"

#include <cmath>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // rows

Matrix matrix_of(const at::Tensor& tensor) {
  const at::Tensor m = tensor.detach().to(at::kDouble).reshape({tensor.size(0), -1}).contiguous();
  Matrix rows(static_cast<size_t>(m.size(0)), Vector(static_cast<size_t>(m.size(1))));
  for (int64_t i = 0; i < m.size(0); ++i) {
    for (int64_t j = 0; j < m.size(1); ++j) {
      rows[i][j] = m.const_data_ptr<double>()[i * m.size(1) + j];
    }
  }
  return rows;
}
Vector vector_of(const at::Tensor& tensor) { return matrix_of(tensor.unsqueeze(0))[0]; }

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }

// y[t] = weight x[t]
Matrix project(const Matrix& x, const at::Tensor& weight) {
  const Matrix w = matrix_of(weight);
  Matrix y(x.size(), Vector(w.size(), 0.0));
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t o = 0; o < w.size(); ++o) {
      for (size_t i = 0; i < w[o].size(); ++i) {
        y[t][o] += w[o][i] * x[t][i];
      }
    }
  }
  return y;
}

// In scan order; the caller has reversed the tokens of the second direction.
Matrix convolve(const Matrix& x, const ShortConv& conv) {
  if (conv.is_empty()) {
    return x;
  }
  const Matrix w = matrix_of(conv->weight);
  Matrix y(x.size(), Vector(x[0].size(), 0.0));
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t c = 0; c < w.size(); ++c) {
      const size_t taps = w[c].size();
      for (size_t back = 0; back < taps && back <= t; ++back) {
        y[t][c] += w[c][taps - 1 - back] * x[t - back][c];
      }
      y[t][c] = silu(y[t][c]);
    }
  }
  return y;
}

void normalise(Vector& row, size_t begin, size_t count) {
  double square = 1e-6;
  for (size_t i = begin; i < begin + count; ++i) {
    square += row[i] * row[i];
  }
  for (size_t i = begin; i < begin + count; ++i) {
    row[i] /= std::sqrt(square);
  }
}

struct Case {
  const char* name;
  const char* form;
  BackboneConfig config;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// One direction over tokens already in scan order: [T][d].
Matrix scan_by_hand(const CombaMixer& mixer, const ScanDirection& direction, const Matrix& x,
                    const Case& c) {
  const size_t dim = static_cast<size_t>(c.config.head_dim),
               heads = static_cast<size_t>(c.config.scan_width()) / dim;
  Matrix q = convolve(project(x, mixer.q_proj->weight), direction.q_conv);
  Matrix k = convolve(project(x, mixer.k_proj->weight), direction.k_conv);
  const Matrix v = convolve(project(x, mixer.v_proj->weight), direction.v_conv);
  const std::string form = c.form;
  const bool learns_alpha = form != "delta" && form != "retention",
             learns_beta = form != "retention" && form != "gla";
  const auto gate = [&](bool learned, const torch::nn::Linear& linear) {
    return learned ? project(x, linear->weight) : Matrix();
  };
  const Matrix a = gate(learns_alpha, direction.a_proj), b = gate(learns_beta, direction.b_proj);
  Matrix out(x.size(), Vector(q[0].size(), 0.0));
  for (size_t h = 0; h < heads; ++h) {
    Matrix state(dim, Vector(dim, 0.0));  // [value][key]
    for (size_t t = 0; t < x.size(); ++t) {
      if (c.config.qk_norm) {
        normalise(q[t], h * dim, dim);
        normalise(k[t], h * dim, dim);
      }
      double alpha = form == "retention" ? 1.0 - std::pow(2.0, -5.0 - static_cast<double>(h)) : 1.0;
      if (learns_alpha) {
        const double rate = std::exp(vector_of(direction.A_log)[h]);
        alpha = std::exp(-rate * std::log1p(std::exp(a[t][h] + vector_of(direction.dt_bias)[h])));
      }
      const double beta = learns_beta ? sigmoid(b[t][h]) : 1.0;
      const double share = direction.decay.defined() ? sigmoid(vector_of(direction.decay)[h]) : 1.0;
      const double correction = direction.D.defined() ? vector_of(direction.D)[h] : 0.0;
      const bool splr = form == "splr";
      // Feedback on the undecayed state (splr) or on the decayed one, there with strength 2 b beta (iplr) or beta.
      double strength = form == "retention" || form == "gla" ? 0.0 : share * beta;
      if (!splr) {
        strength *= alpha * (form == "iplr" ? 2.0 : 1.0);
      }
      if (c.config.feedback > 0) {
        strength *= c.config.feedback / (form == "iplr" ? 2.0 : 1.0);
      }
      for (size_t i = 0; i < dim; ++i) {
        double read = 0;
        for (size_t j = 0; j < dim; ++j) {
          read += state[i][j] * k[t][h * dim + j];
        }
        double answer = 0;
        for (size_t j = 0; j < dim; ++j) {
          const double key = k[t][h * dim + j];
          state[i][j] = alpha * state[i][j] + (beta * v[t][h * dim + i] - strength * read) * key;
          answer += state[i][j] * (q[t][h * dim + j] - correction * key);
        }
        out[t][h * dim + i] = answer / std::sqrt(static_cast<double>(dim));
      }
    }
  }
  return out;
}

// RMS norm of each head, times the sigmoid of the gate unless that is empty.
Matrix normed_and_gated(Matrix o, const Matrix& gate, const Vector& weight, size_t dim,
                        double eps) {
  for (size_t t = 0; t < o.size(); ++t) {
    for (size_t h = 0; h < o[t].size() / dim; ++h) {
      double square = 0;
      for (size_t i = 0; i < dim; ++i) {
        square += o[t][h * dim + i] * o[t][h * dim + i];
      }
      for (size_t i = 0; i < dim; ++i) {
        o[t][h * dim + i] *= weight[i] / std::sqrt(square / static_cast<double>(dim) + eps);
      }
    }
    for (size_t i = 0; i < o[t].size() && !gate.empty(); ++i) {
      o[t][i] *= sigmoid(gate[t][i]);
    }
  }
  return o;
}

// The second direction reads the prefix from its end, then the rest from its end.
Matrix mixer_by_hand(const CombaMixer& mixer, const Matrix& x, const Case& c, size_t prefix = 0) {
  const auto second = [&](size_t s) {
    return s < prefix ? prefix - 1 - s : x.size() - 1 - s + prefix;
  };
  const size_t dim = static_cast<size_t>(c.config.head_dim);
  Matrix gate = x;
  for (const auto& linear : mixer.g_proj) {
    gate = project(gate, linear->weight);
  }
  const auto finish = [&](const Matrix& rows) {
    return normed_and_gated(rows, mixer.g_proj.empty() ? Matrix() : gate,
                            vector_of(mixer.o_norm->weight), dim, c.config.norm_eps);
  };
  Matrix o = scan_by_hand(mixer, mixer.directions[0], x, c);
  if (mixer.directions.size() == 2) {
    Matrix turned;
    for (size_t s = 0; s < x.size(); ++s) {
      turned.push_back(x[second(s)]);
    }
    const Matrix back = scan_by_hand(mixer, mixer.directions[1], turned, c);
    if (c.config.merge == "concat") {
      Matrix behind(o.size());
      for (size_t s = 0; s < o.size(); ++s) {
        behind[second(s)] = back[s];
      }
      o = finish(o);
      behind = finish(behind);
      for (size_t t = 0; t < o.size(); ++t) {
        o[t].insert(o[t].end(), behind[t].begin(), behind[t].end());
      }
      return project(o, mixer.o_proj->weight);
    }
    for (size_t s = 0; s < o.size(); ++s) {
      Vector& row = o[second(s)];
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = (row[i] + back[s][i]) * (c.config.merge == "mean" ? 0.5 : 1.0);
      }
    }
  }
  return project(finish(o), mixer.o_proj->weight);
}

Case make_case(const char* name, const char* form,
               const std::function<void(BackboneConfig&)>& change = {}) {
  BackboneConfig config;
  config.width = 16;
  config.head_dim = 8;
  if (change) {
    change(config);
  }
  return {name, form, config};
}

class CombaMixerOracle : public testing::TestWithParam<Case> {};

TEST_P(CombaMixerOracle, AgreesWithTheDefinitionTokenByToken) {
  at::manual_seed(11);
  const Case& c = GetParam();
  CombaMixer mixer(c.config, c.form);
  mixer.to(at::kDouble);
  {
    const at::NoGradGuard no_grad;  // values large enough for every term to count
    for (const auto& parameter : mixer.parameters()) {
      parameter.add_(at::randn_like(parameter), 0.4);
    }
  }
  const at::Tensor x = at::randn({2, 9, 16}, at::kDouble);
  const Matrix composed = matrix_of(mixer.forward(x).flatten(0, 1));
  const at::NoGradGuard no_grad;  // one operator where there is one
  const Matrix fused = matrix_of(mixer.forward(x).flatten(0, 1));
  const Matrix prefixed = matrix_of(mixer.forward(x, /*prefix=*/4).flatten(0, 1));
  for (int64_t b = 0; b < 2; ++b) {
    const Matrix expected = mixer_by_hand(mixer, matrix_of(x[b]), c);
    const Matrix expected_prefixed = mixer_by_hand(mixer, matrix_of(x[b]), c, 4);
    for (size_t t = 0; t < 9; ++t) {
      for (size_t i = 0; i < 16; ++i) {
        EXPECT_NEAR(composed[9 * b + t][i], expected[t][i], 1e-10) << "token " << t;
        EXPECT_NEAR(fused[9 * b + t][i], expected[t][i], 1e-10) << "token " << t;
        EXPECT_NEAR(prefixed[9 * b + t][i], expected_prefixed[t][i], 1e-10) << "token " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, CombaMixerOracle,
    testing::Values(
        make_case("splr", "splr"), make_case("iplr", "iplr"),
        make_case("gated_delta", "gated_delta"), make_case("delta", "delta"),
        make_case("retention", "retention"), make_case("gla", "gla"),
        make_case("retention_forward", "retention", [](auto& c) { c.directions = "forward"; }),
        make_case("gla_no_conv", "gla", [](auto& c) { c.conv = "none"; }),
        make_case("concat", "splr", [](auto& c) { c.merge = "concat"; }),
        make_case("concat_no_gate", "iplr",
                  [](auto& c) {
                    c.merge = "concat";
                    c.gate_rank = 0;
                  }),
        make_case("inner_width", "splr", [](auto& c) { c.inner_width = 24; }),
        make_case("inner_width_full_gate", "splr",
                  [](auto& c) {
                    c.inner_width = 32;
                    c.gate_rank = 16;
                  }),
        make_case("feedback_of_one", "iplr",
                  [](auto& c) {
                    c.feedback = 1.0;
                    c.feedback_scale = false;
                  }),
        make_case("forward", "splr", [](auto& c) { c.directions = "forward"; }),
        make_case("sum", "iplr", [](auto& c) { c.merge = "sum"; }),
        make_case("shared_conv", "splr", [](auto& c) { c.conv = "shared"; }),
        make_case("no_conv", "splr", [](auto& c) { c.conv = "none"; }),
        make_case("two_taps", "splr", [](auto& c) { c.conv_size = 2; }),
        make_case("no_gate", "splr", [](auto& c) { c.gate_rank = 0; }),
        make_case("full_gate", "splr", [](auto& c) { c.gate_rank = 16; }),
        make_case("no_correction", "splr", [](auto& c) { c.output_correction = false; }),
        make_case("no_scale", "iplr", [](auto& c) { c.feedback_scale = false; }),
        make_case("no_qk_norm", "gated_delta", [](auto& c) { c.qk_norm = false; }),
        make_case("forward_no_conv", "splr",
                  [](auto& c) {
                    c.directions = "forward";
                    c.conv = "none";
                  })),
    [](const auto& test) { return std::string(test.param.name); });

TEST(CombaMixerInit, TheDecayStartsNearOne) {
  at::manual_seed(12);
  BackboneConfig config;
  config.width = 512;
  config.head_dim = 16;
  CombaMixer mixer(config, "splr");
  for (const ScanDirection& direction : mixer.directions) {
    const at::Tensor alpha = (-direction.A_log.exp() * at::softplus(direction.dt_bias)).exp();
    EXPECT_GT(alpha.mean().item<double>(), 0.7);
    EXPECT_LT(alpha.max().item<double>(), 1.0);
    EXPECT_NEAR(direction.D.mean().item<double>(), 0.02, 1e-6);
  }
}

TEST(CombaMixerNames, WhatARecurrenceDoesNotLearnHasNoParameters) {
  BackboneConfig config;
  config.width = 16;
  config.head_dim = 8;
  const auto has = [&](const char* form, const char* name) {
    return CombaMixer(config, form).named_parameters().contains(name);
  };
  for (const char* form : {"delta", "retention", "gla"}) {
    for (const char* name : {"D", "decay"}) {
      EXPECT_FALSE(has(form, name)) << form << " " << name;
    }
    EXPECT_EQ(has(form, "A_log"), std::string(form) == "gla") << form;
    EXPECT_EQ(has(form, "b_proj_b.weight"), std::string(form) == "delta") << form;
  }
}

TEST(CombaMixerNames, AreThoseOfFlaWithASuffixForTheSecondDirection) {
  BackboneConfig config;
  config.width = 16;
  config.head_dim = 8;
  std::vector<std::string> names;
  for (const auto& item : CombaMixer(config, "splr").named_parameters()) {
    names.push_back(item.key());
  }
  for (const char* name :
       {"q_proj.weight", "a_proj.weight", "a_proj_b.weight", "A_log", "A_log_b", "dt_bias", "D",
        "D_b", "decay", "q_conv1d.weight", "v_conv1d_b.weight", "o_norm.weight", "o_proj.weight"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
}

}  // namespace
}  // namespace comba::vision
