#!/usr/bin/env python3
"""Weights pass from Python's safetensors to Comba and back: safetensors_interop.py VISION_TESTS_BINARY"""
import os
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file
except ImportError as error:
    print(f"SKIP everything: no {error.name}")
    sys.exit(77)

tensors = {
    "f32": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8,
    "f64": torch.linspace(0, 1, 7, dtype=torch.float64),
    "f16": torch.tensor([1.0, -0.5, 65504.0], dtype=torch.float16),
    "bf16": torch.full((2, 1, 2), 1.5, dtype=torch.bfloat16),
    "i64": torch.arange(5) - 2,
    "u8": torch.arange(3, dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
}
with tempfile.TemporaryDirectory() as folder:
    save_file(tensors, os.path.join(folder, "python.safetensors"), {"written by": "python \u00e9"})
    environment = dict(os.environ, COMBA_INTEROP_FOLDER=folder)
    subprocess.run([sys.argv[1], "--gtest_filter=SafetensorsInterop.*"], env=environment, check=True)
    with safe_open(os.path.join(folder, "comba.safetensors"), "pt") as file:
        assert file.metadata() == {"written by": "python \u00e9"}, file.metadata()
        assert set(file.keys()) == set(tensors), file.keys()
        for name, tensor in tensors.items():
            back = file.get_tensor(name)
            assert back.dtype == tensor.dtype and torch.equal(back, tensor), name
print(f"{len(tensors)} tensors went to Comba and came back")
