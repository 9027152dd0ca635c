"""A bidirectional Comba block (arXiv 2506.02475) from the operators of comba_ops.

The parameters have the names and shapes of `comba export --format safetensors`, configuration model.mixer = "comba" as it
is by default; vision/nn/comba_mixer.h has the formulas.
"""
import math
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

import comba_ops  # registers torch.ops.comba


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class CombaMixer(nn.Module):
    """x [B, T, width] -> [B, T, width]. What belongs to the backward direction alone has names that end in _b."""

    def __init__(self, width, head_dim=64, taps=4):
        super().__init__()
        if width % head_dim:
            raise ValueError(f"CombaMixer: width: expected a multiple of head_dim = {head_dim}, got {width}")
        self.heads, self.head_dim = width // head_dim, head_dim
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, linear(width, width))
        self.g_proj_down, self.g_proj_up = linear(width, width // 8), linear(width // 8, width)
        self.o_norm = nn.RMSNorm(head_dim, eps=1e-6)
        for end in ("", "_b"):
            for name in ("a_proj", "b_proj"):
                self.add_module(name + end, linear(width, self.heads))
            for name in ("q_conv1d", "k_conv1d", "v_conv1d"):
                self.add_module(name + end, nn.Conv1d(width, width, taps, groups=width, bias=False))
            dt = torch.empty(self.heads).uniform_(math.log(1e-3), math.log(0.1)).exp()  # alpha begins near 1
            start = {"A_log": torch.empty(self.heads).uniform_(1e-3, 16).log(), "dt_bias": dt.expm1().log(),
                     "decay": torch.ones(self.heads), "D": torch.full((self.heads,), 0.02)}
            for name, value in start.items():
                self.register_parameter(name + end, nn.Parameter(value))

    def forward(self, x):
        heads = (self.heads, self.head_dim)
        qkv = F.linear(x, torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]))
        gate = self.g_proj_up(self.g_proj_down(x))
        with torch.autocast(x.device.type, enabled=False):  # the gates decide over all tokens: never in half width
            rows = torch.cat([self.a_proj.weight, self.a_proj_b.weight, self.b_proj.weight, self.b_proj_b.weight])
            raw = F.linear(x.to(rows.dtype), rows).unflatten(-1, (2, 2, self.heads))
        log_alpha, beta, c = torch.ops.comba.gates(raw, torch.stack([self.A_log, self.A_log_b]), torch.stack(
            [self.dt_bias, self.dt_bias_b]), torch.stack([self.decay, self.decay_b]))
        convs = (self.q_conv1d, self.k_conv1d, self.v_conv1d, self.q_conv1d_b, self.k_conv1d_b, self.v_conv1d_b)
        taps = torch.stack([conv.weight for conv in convs]).view(2, 3, *heads, -1)
        y, _ = torch.ops.comba.mixer(qkv.unflatten(-1, (3, *heads)), taps, log_alpha, beta, c, torch.stack([self.D, self.D_b]),
                                     gate.unflatten(-1, heads), self.o_norm.weight, scale=self.head_dim ** -0.5)
        return self.o_proj(y.flatten(2))


class Block(nn.Module):
    """x [B, T, width] -> [B, T, width]: x + mixer(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width, head_dim=64, mlp_ratio=4.0):
        super().__init__()
        hidden = int(mlp_ratio * width)
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.mixer = CombaMixer(width, head_dim)
        self.mlp = nn.Sequential(OrderedDict(fc1=linear(width, hidden), gelu=nn.GELU(), fc2=linear(hidden, width)))

    def forward(self, x):
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))
