#!/usr/bin/env python3
"""Comba reads what Python's torch.save writes: torch_archive_interop.py VISION_TESTS_BINARY"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import numpy
    import torch
    from safetensors.torch import save_file
except ImportError as error:
    print(f"SKIP everything: no {error.name}")
    sys.exit(77)

cases = []
torch.manual_seed(1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 2)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def case(name, value, expected, weights="auto", **options):
    """`expected`: tensors, or what an error has to say."""
    torch.save(value, f"{name}.pth", **options)
    add(name, expected, weights)


def add(name, expected, weights="auto"):
    entry = {"file": f"{name}.pth", "weights": weights}
    if isinstance(expected, str):
        entry["error"] = expected
    else:
        entry["tensors"] = f"{name}.{weights}.safetensors"
        save_file({key: tensor.detach().clone().contiguous() for key, tensor in expected.items()}, entry["tensors"])
    cases.append(entry)


def weights_of_models():
    net = Net()
    state = net.state_dict()
    case("state_dict", state, state)
    case("protocol_4", state, state, pickle_protocol=4)
    case("parameters", dict(net.named_parameters()), dict(net.named_parameters()))
    compiled = collections.OrderedDict((f"_orig_mod.module.{name}", value) for name, value in state.items())
    case("wrapped", compiled, state)
    case("half", {name: value.half() for name, value in state.items()}, {n: v.half() for n, v in state.items()})


def checkpoints():
    net, ema = Net(), Net()
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scores = collections.defaultdict(list, {"top1": [0.5]})
    deit = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7, "best": numpy.float64(0.75),
            "lr_scheduler": {"base": [1e-3, None, True]}, "scores": scores, "rng": torch.get_rng_state(),
            "numpy_rng": numpy.random.get_state(), "seed": 2**80, "size": torch.Size([1, 2]), "dtype": torch.bfloat16,
            "args": argparse.Namespace(lr=1e-3, name="deit", drop=None, sizes=(1, 2), tags={"a", "b"})}
    case("deit", deit, net.state_dict())
    deit["model_ema"] = {f"module.{name}": value for name, value in ema.state_dict().items()}
    case("deit_averaged", deit, ema.state_dict())
    add("deit_averaged", net.state_dict(), "raw")
    timm = {"state_dict": net.state_dict(), "state_dict_ema": ema.state_dict(), "arch": "vit", "version": 2}
    case("timm", timm, ema.state_dict())
    add("timm", net.state_dict(), "raw")
    case("no_average", {"state_dict": net.state_dict()}, "no averaged weights", "ema")


def tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tied = torch.randn(3, 3)
    kinds = {str(dtype): torch.tensor([0, 1, 100]).to(dtype) for dtype in
             (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
              torch.int8, torch.uint8, torch.bool)}
    views = {"transposed": base.t(), "row": base[2], "column": base[:, 1], "block": base[1:3, 2:5], "scalar": base[1, 1],
             "empty": base[:0], "tied": tied, "tied_too": tied, "parameter": torch.nn.Parameter(tied * 2)}
    case("tensors", {**kinds, **views}, {**kinds, **views})
    case("expanded", {"w": torch.ones(1).expand(1000)}, "expanded tensors")
    case("unusual", {"w": tied, "sparse": tied.to_sparse(), "step": 3}, {"w": tied})


def what_is_refused():
    net = Net()
    case("attack", {"w": torch.ones(1), "extra": Attack("trace")}, "not executed")
    case("module", net, "is not among what weights are made of")
    case("legacy", net.state_dict(), "before version 1.6", _use_new_zipfile_serialization=False)
    case("list", [torch.ones(1)], "expected a dictionary of tensors")
    case("nested", {"teacher": {"student": net.state_dict()}}, "found teacher")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "script.pth")
    add("script", "TorchScript")


def copies_of_archives():
    """The archive of state_dict.pth, rewritten: compressed, cut off, of a machine of the other byte order."""
    with zipfile.ZipFile("state_dict.pth") as source:
        records = {info.filename: source.read(info) for info in source.infolist()}
    with zipfile.ZipFile("compressed.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in records.items():
            target.writestr(name, content)
    add("compressed", "is compressed")
    with zipfile.ZipFile("big.pth", "w") as target:
        for name, content in records.items():
            target.writestr(name, b"big" if name.endswith("byteorder") else content)
    add("big", "big-endian")
    whole = open("state_dict.pth", "rb").read()
    for i, size in enumerate((4, 100, len(whole) // 2, len(whole) - 1)):
        open(f"cut_{i}.pth", "wb").write(whole[:size])
        add(f"cut_{i}", f"cut_{i}.pth")
    with zipfile.ZipFile("restored.pth", "w") as target:  # stored by Python's own writer
        for name, content in records.items():
            target.writestr(name, content)
    add("restored", torch.load("state_dict.pth"))


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for write in (weights_of_models, checkpoints, tensors, what_is_refused, copies_of_archives):
        write()
    with open("cases.json", "w") as file:
        json.dump(cases, file)
    environment = dict(os.environ, COMBA_INTEROP_FOLDER=folder)
    subprocess.run([sys.argv[1], "--gtest_filter=TorchArchiveInterop.*"], env=environment, check=True)
    assert not os.path.exists("trace"), "a pickle was executed"
    os.chdir("/")
print(f"{len(cases)} archives were read as they should be")
