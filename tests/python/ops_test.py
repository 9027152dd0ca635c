#!/usr/bin/env python3
"""The operators from Python: python3 ops_test.py PATH_TO_LIBCOMBA_OPS

Loads the library, runs torch.library.opcheck on every operator and device, traces them with torch.compile,
and looks at the error messages. Prints PASS, FAIL or SKIP per check; exit code 1 if one failed, 77 if there
is nothing to run with.
"""
import sys

try:
    import torch
except ImportError as error:
    print(f"SKIP everything: no torch in this Python ({error})")
    sys.exit(77)

from checks import check, expect_error, finish

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def scan_inputs(device, dtype, batch=2, length=9, heads=2, key_dim=16, value_dim=32, directions=()):
    """q, k, v, log_alpha, beta, c, d, initial_state; all require gradients."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    rows, gates = (batch, length, heads), (*directions, batch, length, heads)
    tensors = [unit(normal(*rows, key_dim)), unit(normal(*rows, key_dim)), normal(*rows, value_dim)]
    tensors = [x.to(dtype) for x in tensors]
    tensors += [-0.1 * normal(*gates).exp(), normal(*gates).sigmoid(), normal(*gates).sigmoid()]
    tensors += [normal(heads), normal(batch, heads, key_dim, value_dim)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tensors[3:] = [x.to(wide) for x in tensors[3:]]
    return [x.to(device).requires_grad_() for x in tensors]


def mlp_inputs(device, dtype, rows=5, width=4, hidden=6):
    """x, weight1, bias1, weight2, bias2; all require gradients."""
    generator = torch.Generator().manual_seed(4)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = [(rows, width), (hidden, width), (hidden,), (width, hidden), (width,)]
    tensors = [torch.randn(*shape, generator=generator).to(wide) for shape in shapes]
    tensors[0] = tensors[0].to(dtype)
    return [x.to(device).requires_grad_() for x in tensors]


def conv_inputs(device, dtype, batch=2, length=5, channels=3, taps=4):
    """x, weight, bias; all require gradients."""
    generator = torch.Generator().manual_seed(6)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(batch, length, channels, generator=generator).to(dtype)
    weight, bias = (torch.randn(*shape, generator=generator).to(wide) for shape in ((channels, taps), (channels,)))
    return [x.to(device).requires_grad_() for x in (x, weight, bias)]


def mixer_inputs(device, dtype, batch=2, length=9, heads=2, dim=16, taps=4, directions=2):
    """qkv, taps, log_alpha, beta, c, d, gate, norm_weight; all require gradients."""
    generator = torch.Generator().manual_seed(2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape, of=wide):
        return torch.randn(*shape, generator=generator).to(of)

    gates = (directions, batch, length, heads)
    tensors = [normal(batch, length, 3, heads, dim, of=dtype), normal(directions, 3, heads, dim, taps),
               -0.1 * normal(*gates).exp(), normal(*gates).sigmoid(), normal(*gates).sigmoid(),
               normal(directions, heads), normal(batch, length, heads, dim, of=dtype), 1 + normal(dim)]
    return [x.to(device).requires_grad_() for x in tensors]


def gate_inputs(device, dtype, batch=2, length=9, heads=2):
    """raw, A_log, dt_bias, decay; all require gradients."""
    generator = torch.Generator().manual_seed(3)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [torch.randn(batch, length, 2, 2, heads, generator=generator).to(dtype)]
    tensors += [torch.randn(2, heads, generator=generator).to(wide) for _ in range(3)]
    return [x.to(device).requires_grad_() for x in tensors]


def block_inputs(device, dtype, batch=2, length=3, width=8):
    """x, branch, weight, bias, which require gradients; share does not."""
    generator = torch.Generator().manual_seed(4)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rows = [torch.randn(batch, length, width, generator=generator).to(dtype) for _ in range(2)]
    parameters = [torch.randn(width, generator=generator).to(wide) for _ in range(2)]
    x, branch, weight, bias = (t.to(device).requires_grad_() for t in rows + parameters)
    return x, branch, weight, bias, torch.tensor([0.0, 1.25], dtype=wide, device=device)[:batch]


def selective_scan_inputs(device, dtype, batch=2, length=9, channels=5, states=16):
    """u, delta, A, B, C, D, z, delta_bias; all require gradients."""
    generator = torch.Generator().manual_seed(6)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape, of=wide):
        return torch.randn(*shape, generator=generator).to(of)

    rows = (batch, length)
    tensors = [normal(*rows, channels, of=dtype), normal(*rows, channels, of=dtype),
               -normal(channels, states).exp(), normal(*rows, states, of=dtype),
               normal(*rows, states, of=dtype), normal(channels), normal(*rows, channels, of=dtype),
               normal(channels)]
    return [x.to(device).requires_grad_() for x in tensors]


def calls(device, dtype):
    """Every operator as (name, operator, positional arguments, keyword arguments)."""
    ops = torch.ops.comba
    one = scan_inputs(device, dtype)
    two = scan_inputs(device, dtype, directions=(2,))[:7]
    yield "scan", ops.scan.default, one, dict(scale=0.25)
    yield ("scan decayed reverse without d and state", ops.scan.default, one[:6],
           dict(scale=0.25, decayed_feedback=True, reverse=True))
    for merge in ("mean", "none"):
        yield (f"bidirectional_scan {merge}", ops.bidirectional_scan.default, two,
               dict(scale=0.25, merge=merge))
    mixer = mixer_inputs(device, dtype)
    yield "mixer", ops.mixer.default, mixer, dict(scale=0.25)
    yield ("mixer sum without d and gate", ops.mixer.default, [*mixer[:5], None, None, mixer[7]],
           dict(scale=0.25, merge="sum", normalize=True, decayed_feedback=True))
    yield "mixer concat", ops.mixer.default, mixer, dict(scale=0.25, merge="concat")
    yield ("mixer of one direction without convolution", ops.mixer.default,
           mixer_inputs(device, dtype, taps=0, directions=1), dict(scale=0.25))
    raw = gate_inputs(device, dtype)
    yield "gates", ops.gates.default, raw, dict(feedback=2.0)
    yield "gates without decay", ops.gates.default, [*raw[:3], None], {}
    x, branch, weight, bias, share = block_inputs(device, dtype)
    yield ("add_norm", ops.add_norm.default, [x, branch, share, weight, bias], dict(centred=True))
    yield "add_norm without branch", ops.add_norm.default, [x, None, None, weight, None], {}
    yield "bias_gelu", ops.bias_gelu.default, [x, bias], {}
    yield "bias_gelu without bias", ops.bias_gelu.default, [x], {}
    yield "causal_conv", ops.causal_conv.default, conv_inputs(device, dtype), dict(silu=True)
    yield ("causal_conv reverse without bias", ops.causal_conv.default, conv_inputs(device, dtype)[:2],
           dict(reverse=True))
    rows, *weights = mlp_inputs(device, dtype)
    yield "mlp", ops.mlp.default, [rows, *weights], {}
    yield "mlp without biases", ops.mlp.default, [rows, weights[0], None, weights[2], None], {}
    selective = selective_scan_inputs(device, dtype)
    yield "selective_scan", ops.selective_scan.default, selective, {}
    yield ("selective_scan reverse without D, z and bias", ops.selective_scan.default, selective[:5],
           dict(reverse=True))


def image_calls(device):
    """Training images, which have no gradients: two images of 6 x 5 px -> 4 x 4 px; of the batch then one box is erased and both
    are mixed."""
    ops = torch.ops.comba
    generator = torch.Generator().manual_seed(5)

    def bytes_of(*shape):
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(device)

    images = torch.tensor([[0, 6, 5, 1, 0, 4, 4, 1], [90, 6, 5, 0, 0, 6, 5, 0]], dtype=torch.float64)
    steps = torch.tensor([[[3, 0.5, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0]], [[0] * 7] * 2], dtype=torch.float64)
    yield "augment_images", ops.augment_images.default, [bytes_of(180), images, steps], dict(size=[4, 4])
    pixels = bytes_of(2, 4, 4, 3)
    scale, shift = torch.rand(3, generator=generator).to(device), torch.rand(3, generator=generator).to(device)
    erased = dict(boxes=torch.tensor([[[1, 1, 2, 2]], [[0, 0, 0, 0]]]), streams=torch.arange(12).view(2, 6),
                  noise=torch.randn(4096, generator=generator),
                  mixes=torch.tensor([[1, 0.7, 0, 0, 0, 0], [0, 0.7, 0, 0, 0, 0]], dtype=torch.float64))
    yield "normalise_images", ops.normalise_images.default, [pixels, scale, shift], erased
    yield "normalise_images alone", ops.normalise_images.default, [pixels, scale, shift], dict(dtype=torch.bfloat16)


def backward_calls(device, dtype):
    """The operators of the gradients, which nobody differentiates again."""
    ops = torch.ops.comba
    one = [x.detach() for x in scan_inputs(device, dtype)]
    two = [x.detach() for x in scan_inputs(device, dtype, directions=(2,))[:7]]
    o, state = ops.scan(*one, scale=0.25)
    yield ("scan_backward", ops.scan_backward.default, [torch.ones_like(o), torch.ones_like(state), *one],
           dict(scale=0.25, decayed_feedback=False, reverse=False))
    yield ("scan_backward of o alone, without d and state", ops.scan_backward.default,
           [torch.ones_like(o), None, *one[:6], None, None],
           dict(scale=0.25, decayed_feedback=True, reverse=True))
    yield ("bidirectional_scan_backward", ops.bidirectional_scan_backward.default,
           [torch.ones_like(o), *two], dict(scale=0.25, decayed_feedback=False, merge="mean"))
    yield ("bidirectional_scan_backward without d", ops.bidirectional_scan_backward.default,
           [torch.ones_like(o), *two[:6], None], dict(scale=0.25, decayed_feedback=True, merge="sum"))
    mixer = [x.detach() for x in mixer_inputs(device, dtype)]
    y, o = ops.mixer(*mixer, scale=0.25)
    yield ("mixer_backward", ops.mixer_backward.default, [torch.ones_like(y), o, *mixer],
           dict(scale=0.25, decayed_feedback=False, normalize=True, merge="mean", norm_eps=1e-6))
    selective = [x.detach() for x in selective_scan_inputs(device, dtype)]
    yield ("selective_scan_backward", ops.selective_scan_backward.default,
           [torch.ones_like(selective[0]), *selective], dict(reverse=False))
    yield ("selective_scan_backward without D, z and bias", ops.selective_scan_backward.default,
           [torch.ones_like(selective[0]), *selective[:5], None, None, None], dict(reverse=True))
    raw = [x.detach() for x in gate_inputs(device, dtype)]
    grads = [torch.ones_like(x) for x in ops.gates(*raw)]
    yield "gates_backward", ops.gates_backward.default, [*grads, *raw], dict(feedback=1.0)
    x, branch, weight, bias, share = (t.detach() for t in block_inputs(device, dtype))
    yield ("add_norm_backward", ops.add_norm_backward.default, [x, branch, x, share, weight, bias],
           dict(eps=1e-6, centred=True, branch_dtype=dtype))
    yield ("add_norm_backward without sum and branch", ops.add_norm_backward.default,
           [None, branch, x, None, weight, None], dict(eps=1e-6, centred=False, branch_dtype=None))
    yield "bias_gelu_backward", ops.bias_gelu_backward.default, [x, branch, bias], {}
    conv = [t.detach() for t in conv_inputs(device, dtype)]
    yield ("causal_conv_backward", ops.causal_conv_backward.default, [torch.ones_like(conv[0]), *conv],
           dict(silu=True, reverse=False))
    yield ("causal_conv_backward without bias", ops.causal_conv_backward.default,
           [torch.ones_like(conv[0]), *conv[:2], None], dict(silu=False, reverse=True))
    yield "column_sums", ops.column_sums.default, [x], {}
    rows, *weights = (t.detach() for t in mlp_inputs(device, dtype))
    yield "mlp_backward", ops.mlp_backward.default, [torch.ones_like(rows), rows, *weights], {}
    yield ("mlp_backward without biases", ops.mlp_backward.default,
           [torch.ones_like(rows), rows, weights[0], None, weights[2], None], {})
    yield "join_columns", ops.join_columns.default, [x[0], branch[0].float(), 8], {}
    images = torch.zeros(2, 3, 32, 16, device=device)
    yield "patch_rows", ops.patch_rows.default, [images, 16, dtype], {}
    yield "patch_rows of one patch", ops.patch_rows.default, [images[:, :1, :16], 16, torch.float32], {}


def run_opchecks(device, dtype):
    label = f"{device} {str(dtype).removeprefix('torch.')}"
    for name, op, args, kwargs in calls(device, dtype):
        for test in OPCHECKS:
            check(f"opcheck {name} {test} {label}",
                  lambda: torch.library.opcheck(op, args, kwargs, test_utils=test) and None)
    for name, op, args, kwargs in [*backward_calls(device, dtype), *image_calls(device)]:
        # Fake tensors have one device for all arguments; tables of images lie on the CPU beside pixels on the GPU.
        mixed = len({x.device for x in [*args, *kwargs.values()] if isinstance(x, torch.Tensor)}) > 1
        for test in ("test_schema",) if mixed else ("test_schema", "test_faketensor"):
            check(f"opcheck {name} {test} {label}",
                  lambda: torch.library.opcheck(op, args, kwargs, test_utils=test) and None)


def expect_all_are_checked():
    checked = {op._schema.name for calls_of in (calls, backward_calls) for _, op, *_ in calls_of("cpu", torch.float32)}
    checked |= {op._schema.name for _, op, *_ in image_calls("cpu")}
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("comba::")}
    assert checked == registered, f"not checked: {registered - checked}; not registered: {checked - registered}"


def expect_gradcheck():
    inputs = scan_inputs("cpu", torch.float64, batch=1, length=5, heads=1, key_dim=3, value_dim=2)
    torch.autograd.gradcheck(lambda *x: torch.ops.comba.scan(*x, scale=0.5), inputs)
    inputs = scan_inputs("cpu", torch.float64, batch=1, length=4, heads=1, key_dim=3, value_dim=2,
                         directions=(2,))[:7]
    torch.autograd.gradcheck(lambda *x: torch.ops.comba.bidirectional_scan(*x, scale=0.5), inputs)
    inputs = mixer_inputs("cpu", torch.float64, batch=1, length=4, heads=1, dim=3, taps=2)
    torch.autograd.gradcheck(lambda *x: torch.ops.comba.mixer(*x, scale=0.5)[0], inputs)
    torch.autograd.gradcheck(lambda *x: torch.ops.comba.gates(*x, feedback=2.0),
                             gate_inputs("cpu", torch.float64, batch=1, length=3))
    x, branch, weight, bias, share = block_inputs("cpu", torch.float64)
    torch.autograd.gradcheck(
        lambda x, branch, weight, bias: torch.ops.comba.add_norm(x, branch, share, weight, bias, centred=True),
        [x, branch, weight, bias])
    torch.autograd.gradcheck(lambda x, weight: torch.ops.comba.add_norm(x, None, None, weight, None)[1],
                             [x, weight])
    torch.autograd.gradcheck(torch.ops.comba.bias_gelu, [x, bias])
    torch.autograd.gradcheck(lambda *x: torch.ops.comba.causal_conv(*x, silu=True, reverse=True),
                             conv_inputs("cpu", torch.float64))
    torch.autograd.gradcheck(torch.ops.comba.mlp, mlp_inputs("cpu", torch.float64))


def expect_compiled_equals_eager(device):
    def loss(*x):
        o = torch.ops.comba.bidirectional_scan(*x, scale=0.25)
        return (o.float() ** 2).sum()

    inputs = scan_inputs(device, torch.float32, directions=(2,))[:7]
    expected = torch.autograd.grad(loss(*inputs), inputs)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for one, other in zip(torch.autograd.grad(compiled(*inputs), inputs), expected):
        torch.testing.assert_close(one, other)


def expect_token_recurrence(device):
    """A few tokens of plain tensor operations: the library computes what its documentation says."""
    q, k, v, log_alpha, beta, c, d, state = [x.detach().double() for x in scan_inputs(device, torch.float32)]
    o, last = torch.ops.comba.scan(*[x.float() for x in (q, k, v, log_alpha, beta, c, d, state)], scale=0.25)
    for t in range(q.shape[1]):
        read = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        write = beta[:, t, :, None] * v[:, t] - c[:, t, :, None] * read
        state = log_alpha[:, t].exp()[..., None, None] * state + k[:, t, :, :, None] * write[:, :, None, :]
        row = 0.25 * torch.einsum("bhkv,bhk->bhv", state, q[:, t] - d[None, :, None] * k[:, t])
        torch.testing.assert_close(o[:, t].double(), row, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.double(), state, rtol=1e-4, atol=1e-5)


def run_error_checks(device):
    scan, both = torch.ops.comba.scan, torch.ops.comba.bidirectional_scan
    good = [x.detach() for x in scan_inputs(device, torch.float32)]
    pair = [x.detach() for x in scan_inputs(device, torch.float32, directions=(2,))[:7]]

    def changed(tensors, index, x):
        return [*tensors[:index], x, *tensors[index + 1:]]

    cases = {
        "shape of k": (["comba::scan", "k", "[2, 9, 2, 16]", "[2, 8, 2, 16]"],
                       lambda: scan(*changed(good, 1, good[1][:, :8]), scale=1.0)),
        "dtype of v": (["comba::scan", "v", "Float", "Half"],
                       lambda: scan(*changed(good, 2, good[2].half()), scale=1.0)),
        "shape of log_alpha": (["log_alpha", "[B, T, H]", "[2, 9]"],
                               lambda: scan(*changed(good, 3, good[3][:, :, 0]), scale=1.0)),
        "merge": (["comba::bidirectional_scan", "merge", "average"],
                  lambda: both(*pair, scale=1.0, merge="average")),
        "scale is required": (["scale"], lambda: scan(*good)),
    }
    for name, (words, call) in cases.items():
        check(f"error message {name} {device}", lambda: expect_error(words, call))


def expect_double_backward_throws():
    inputs = scan_inputs("cpu", torch.float64)
    o, _ = torch.ops.comba.scan(*inputs, scale=0.25)
    (first,) = torch.autograd.grad((o * o).sum(), inputs[1], create_graph=True)
    expect_error(["scan_backward"], lambda: torch.autograd.grad(first.sum(), inputs[2]))


def expect_export():
    class Mixer(torch.nn.Module):
        def forward(self, *x):
            return torch.ops.comba.bidirectional_scan(*x, scale=0.25, merge="sum")

    inputs = tuple(x.detach() for x in scan_inputs("cpu", torch.float32, directions=(2,))[:7])
    program = torch.export.export(Mixer(), inputs)
    torch.testing.assert_close(program.module()(*inputs), Mixer()(*inputs))


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    print(f"torch {torch.__version__}, library {sys.argv[1]}")
    torch.ops.load_library(sys.argv[1])
    check("every operator is among those checked", expect_all_are_checked)
    check("gradcheck", expect_gradcheck)
    check("double backward throws", expect_double_backward_throws)
    check("torch.export", expect_export)
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    if len(devices) == 1:
        print("SKIP everything on cuda: no CUDA device")
    for device in devices:
        check(f"token recurrence {device}", lambda: expect_token_recurrence(device))
        for dtype in (torch.float32, torch.float64 if device == "cpu" else torch.bfloat16):
            run_opchecks(device, dtype)
        check(f"torch.compile {device}", lambda: expect_compiled_equals_eager(device))
        run_error_checks(device)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
