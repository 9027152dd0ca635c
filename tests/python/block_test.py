#!/usr/bin/env python3
"""The Comba block in Python (kernels/python): python3 block_test.py FOLDER_OF_COMBA_OPS

Its oracle is the recurrence as the paper writes it, token by token in fp64. Prints PASS, FAIL or SKIP per check; exit code 1 if
one failed, 77 if there is nothing to run with.
"""
import copy
import io
import pathlib
import shutil
import sys

try:
    import torch
except ImportError as error:
    print(f"SKIP everything: no torch in this Python ({error})")
    sys.exit(77)

from checks import check, expect_error, finish

sys.path[:0] = [sys.argv[1], str(pathlib.Path(__file__).resolve().parents[2] / "kernels" / "python")]
import train_digits
from comba_block import Block, CombaMixer

WIDTH, HEAD_DIM = 32, 16


def make(kind=CombaMixer, device="cpu", dtype=torch.float32):
    """A module whose parameters are all at work: norms, gates and corrections away from where they begin."""
    torch.manual_seed(3)
    module = kind(WIDTH, HEAD_DIM)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module.to(device, dtype)


def tokens(batch, length, device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, length, WIDTH, generator=generator, dtype=torch.float64).to(device, dtype)


def rms(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def unit(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def short_conv(x, weight):
    """x [T, width], weight [width, 1, taps]: the last tap meets the token itself."""
    taps = weight.shape[-1]
    rows = [sum(weight[:, 0, taps - 1 - j] * x[t - j] for j in range(min(taps, t + 1))) for t in range(len(x))]
    y = torch.stack(rows) if rows else x
    return y / (1 + (-y).exp())


def one_direction(p, end, x):
    """x [T, width] in the order of the scan -> o [T, H, D]."""
    heads = WIDTH // HEAD_DIM
    q, k, v = (short_conv(x @ p[f"{n}_proj.weight"].T, p[f"{n}_conv1d{end}.weight"]).view(-1, heads, HEAD_DIM) for n in "qkv")
    q, k = unit(q), unit(k)
    rate = torch.log1p((x @ p[f"a_proj{end}.weight"].T + p["dt_bias" + end]).exp())
    alpha, beta = (-p["A_log" + end].exp() * rate).exp(), torch.sigmoid(x @ p[f"b_proj{end}.weight"].T)
    b = torch.sigmoid(p["decay" + end])
    o = torch.zeros(len(x), heads, HEAD_DIM, dtype=x.dtype)
    for h in range(heads):
        state = torch.zeros(HEAD_DIM, HEAD_DIM, dtype=x.dtype)  # [Dv, Dk]
        for t in range(len(x)):
            turned = alpha[t, h] * torch.eye(HEAD_DIM, dtype=x.dtype) - b[h] * beta[t, h] * torch.outer(k[t, h], k[t, h])
            state = state @ turned + beta[t, h] * torch.outer(v[t, h], k[t, h])
            o[t, h] = state @ (q[t, h] - p["D" + end][h] * k[t, h]) * HEAD_DIM ** -0.5
    return o


def reference_mixer(p, x):
    """p: parameters by name, fp64; x [B, T, width] fp64."""
    rows = []
    for sample in x:
        o = 0.5 * (one_direction(p, "", sample) + one_direction(p, "_b", sample.flip(0)).flip(0))
        gate = torch.sigmoid(sample @ p["g_proj_down.weight"].T @ p["g_proj_up.weight"].T)
        rows.append((rms(o, p["o_norm.weight"]).flatten(1) * gate) @ p["o_proj.weight"].T)
    return torch.stack(rows)


def reference_block(p, x):
    mixer = {name.removeprefix("mixer."): value for name, value in p.items()}
    x = x + reference_mixer(mixer, rms(x, p["norm1.weight"]))
    hidden = rms(x, p["norm2.weight"]) @ p["mlp.fc1.weight"].T
    return x + (0.5 * hidden * (1 + torch.erf(hidden / 2 ** 0.5))) @ p["mlp.fc2.weight"].T


def wide_parameters(module):
    return {name: p.detach().cpu().double() for name, p in module.named_parameters()}


def expect_reference(device, dtype, bound):
    for kind, reference in ((CombaMixer, reference_mixer), (Block, reference_block)):
        for length in (1, 3, 21):
            module = make(kind, device, dtype)
            with torch.no_grad():
                y = module(tokens(2, length, device, dtype)).cpu().double()
            expected = reference(wide_parameters(module), tokens(2, length, dtype=torch.float64))
            error = ((y - expected).abs().max() / expected.abs().max()).item()
            assert error <= bound, f"{kind.__name__}, {length} tokens: {error:.1e}"


def expect_no_tokens():
    assert make()(tokens(2, 0)).shape == (2, 0, WIDTH)


def expect_gradcheck():
    torch.manual_seed(5)
    module = CombaMixer(8, head_dim=4, taps=2).double()
    names, parameters = zip(*module.named_parameters())
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x, *p: torch.func.functional_call(module, dict(zip(names, p)), (x,)), (x, *parameters))


def expect_double_backward_throws():
    module, x = make(), tokens(1, 4).requires_grad_()
    (first,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    expect_error(["comba::", "_backward", "not implemented"], lambda: first.sum().backward())


def gradients(module, network, x):
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = network(x)
    y.square().mean().backward()
    return [y, x.grad, *(p.grad.clone() for p in module.parameters())]


def expect_compiled_equals_eager(device):
    module = make(Block, device)
    torch._dynamo.reset()
    backend = "inductor" if shutil.which("g++") else "aot_eager"
    network = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    for batch, length in ((2, 5), (3, 5), (5, 9)):
        x = tokens(batch, length, device)
        with torch.compiler.set_stance("default" if batch == 2 else "fail_on_recompile"):
            compiled = gradients(module, network, x)
        for one, other in zip(compiled, gradients(module, module, x)):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def expect_exported(device):
    module = make(Block, device)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (tokens(2, 6, device),), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    x = tokens(5, 6, device)
    torch.testing.assert_close(torch.export.load(file).module()(x), module(x))


def expect_autocast(device):
    """bf16 products: as near to fp32 as the rounding of a handful of products in a row, parameters and gradients stay fp32."""
    module, x = make(Block, device), tokens(4, 21, device)
    expected = gradients(module, module, x)
    with torch.autocast(device, torch.bfloat16):
        assert module.mixer(x).dtype == torch.bfloat16
        found = gradients(module, module, x)
    for name, one, other in zip(["y", "x", *(name for name, _ in module.named_parameters())], found, expected):
        assert one.dtype == torch.float32, f"{name}: {one.dtype}"
        error = ((one - other).norm() / other.norm()).item()
        assert error <= 8 * 2 ** -8, f"{name}: {error:.1e}"


def expect_copies():
    module, x = make(Block), tokens(2, 5)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), module(x))
        assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in module.parameters()}


def expect_vmap():
    """Samples one at a time give what they give together, gradients too; functorch's own gradients are refused."""
    module, x = make(), tokens(3, 5)
    together = gradients(module, module, x)
    apart = gradients(module, lambda x: torch.vmap(module)(x[:, None])[:, 0], x)
    for one, other in zip(apart, together):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    expect_error(["autograd::Function", "functorch"], lambda: torch.func.grad(lambda x: module(x).sum())(x))


def expect_errors(device):
    module, x = make(device=device), tokens(2, 5, device)
    ops = torch.ops.comba
    raw = torch.randn(2, 5, 2, 2, 2, device=device)
    rates = torch.randn(2, 2, device=device)
    expect_error(["comba::gates", "dt_bias", "[3, 2]"], lambda: ops.gates(raw, rates, torch.randn(3, 2, device=device)))
    qkv, gates = torch.randn(2, 5, 3, 2, 16, device=device), [torch.rand(2, 2, 5, 2, device=device) for _ in range(3)]
    taps, weight = torch.randn(2, 3, 2, 16, 4, device=device), torch.ones(16, device=device)
    call = dict(scale=0.25)
    expect_error(["comba::mixer", "taps", "[R, 3, H, D, taps]", "[3, 2, 16, 4]"],
                 lambda: ops.mixer(qkv, taps[0], *gates, None, None, weight, **call))
    expect_error(["comba::mixer", "norm_weight", "[16]", "[8]"],
                 lambda: ops.mixer(qkv, taps, *gates, None, None, weight[:8], **call))
    expect_error(["comba::mixer", "gate", "Float", "Half"],
                 lambda: ops.mixer(qkv, taps, *gates, None, qkv[:, :, 0].half(), weight, **call))
    expect_error(["width", "head_dim = 64", "100"], lambda: CombaMixer(100), ValueError)
    expect_error(["mat1 and mat2"], lambda: module(x[..., :8]))


def expect_training_lowers_the_loss(device):
    images, labels = train_digits.read_digits("train")
    assert images.shape == (4000, 1, 28, 28) and torch.bincount(labels).tolist() == [400] * 10
    losses = train_digits.train(train_digits.digits_classifier().to(device), images.to(device), labels.to(device), steps=30)
    assert losses[0] > 2 and sum(losses[-5:]) / 5 < 1.5, losses


def main():
    print(f"torch {torch.__version__}")
    check("no tokens", expect_no_tokens)
    check("gradcheck", expect_gradcheck)
    check("double backward throws", expect_double_backward_throws)
    check("deepcopy and torch.save", expect_copies)
    check("vmap", expect_vmap)
    check("token by token in fp64 cpu float64", lambda: expect_reference("cpu", torch.float64, 1e-12))
    for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
        check(f"token by token in fp64 {device} float32", lambda: expect_reference(device, torch.float32, 1e-5))
        check(f"torch.export {device}", lambda: expect_exported(device))
        check(f"autocast {device}", lambda: expect_autocast(device))
        check(f"error messages {device}", lambda: expect_errors(device))
        check(f"training {device}", lambda: expect_training_lowers_the_loss(device))
        check(f"torch.compile {device}", lambda: expect_compiled_equals_eager(device))
    return finish()


if __name__ == "__main__":
    sys.exit(main())
