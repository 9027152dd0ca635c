#!/usr/bin/env python3
"""Exported models of every kind in plain Python: onnxruntime and torch.jit give what the model itself gives.

export_test.py TESTS_BINARY TEST: the binary's test writes NAME.onnx, NAME.torchscript and NAME.safetensors (inputs and the
model's answers) into COMBA_INTEROP_FOLDER.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import onnx
    import onnxruntime
    import torch
    from safetensors.torch import load_file
except ImportError as error:
    print(f"SKIP everything: no {error.name}")
    sys.exit(77)

BOUND = 1e-4
script = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check_onnx.py"


def check_torchscript(path, examples):
    """Largest difference, on as many examples as there are; the outputs come in the order of their names in the file."""
    extra = {"comba.kind": ""}
    model = torch.jit.load(str(path), _extra_files=extra)
    assert extra["comba.kind"], f"{path}: its metadata is missing"
    largest = 0.0
    with torch.no_grad():
        for n in sorted({name.split(".")[0] for name in examples}):
            names = [name for name in examples if name.startswith(f"{n}.input.")]
            order = [argument.name for argument in model.forward.schema.arguments]
            names.sort(key=lambda name: order.index(name.split(".", 2)[2]))
            outputs = model(*[examples[name] for name in names])
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            expected = [x for name, x in examples.items() if name.startswith(f"{n}.output.")]
            assert len(outputs) == len(expected), path
            for x in outputs:
                largest = max(largest, min((x - y).abs().max().item() if x.shape == y.shape else 1e30 for y in expected))
    return largest


def main(binary, test):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([binary, f"--gtest_filter={test}"], env=dict(os.environ, COMBA_INTEROP_FOLDER=folder), check=True,
                       stdout=subprocess.DEVNULL)
        files = sorted(pathlib.Path(folder).glob("*.onnx"))
        assert files, f"{binary} {test} has written nothing"
        failed = 0
        for path in files:
            answers = path.with_suffix(".safetensors")
            result = subprocess.run([sys.executable, str(script), str(path), str(answers)], capture_output=True, text=True)
            assert result.returncode == 0, f"{path.name}: {result.stdout}{result.stderr}"
            in_onnx = max(json.loads(result.stdout)["differences"].values())
            assert any(p.key == "comba.kind" for p in onnx.load(path, load_external_data=False).metadata_props), path
            in_torch = check_torchscript(path.with_suffix(".torchscript"), load_file(answers))
            bad = not (in_onnx <= BOUND and in_torch <= BOUND)
            failed += bad
            print(f"{path.stem:<40} onnxruntime {in_onnx:.1e}  torch.jit {in_torch:.1e}{'  TOO FAR' if bad else ''}")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
