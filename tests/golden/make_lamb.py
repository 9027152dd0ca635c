"""Prints the values of tests/engine/optimizer_test.cpp's Lamb.GivesWhatTimmGives: timm 1.0.31's Lamb in double precision.

    python tests/golden/make_lamb.py     (needs torch, numpy and timm == 1.0.31)
"""
import numpy as np
import torch
from timm.optim.lamb import Lamb

weight = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64, requires_grad=True)
bias = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
lamb = Lamb(groups, betas=(0.9, 0.99), eps=1e-8, max_grad_norm=None)
for step in range(1, 21):
    base = np.float32(np.sin(np.float32(step)))
    gradient = [base, np.float32(-0.3), np.float32(0.2) * base, np.float32(4.0)]
    weight.grad = torch.tensor(gradient, dtype=torch.float64).view(2, 2)
    bias.grad = torch.tensor([-base, np.float32(0.7)], dtype=torch.float64)
    for group in lamb.param_groups:
        group["lr"] = 0.01 * step
    lamb.step()
    if step in (1, 5, 20):
        print(step, [f"{x:.9f}" for x in weight.flatten().tolist() + bias.tolist()])
