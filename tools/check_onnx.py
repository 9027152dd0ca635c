#!/usr/bin/env python3
"""check_onnx.py MODEL.onnx EXAMPLES.safetensors: runs an exported model in onnxruntime and compares it with known answers.

EXAMPLES holds fp32 tensors N.input.NAME and N.output.NAME for examples N = 0, 1, ... Prints one line of JSON: the versions
used, the largest difference of each output, and seconds a run of each example took. Where the package onnx is installed, its
checker and its strict shape inference have to pass. Exit code 77: onnxruntime is missing.
"""
import json
import struct
import sys
import time

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    body = data[8 + size :]
    return {name: np.frombuffer(body[slice(*e["data_offsets"])], "<f4").reshape(e["shape"])
            for name, e in header.items()}


def check_structure(path):
    try:
        import onnx
    except ImportError:
        return None
    onnx.checker.check_model(path, full_check=True)
    onnx.shape_inference.infer_shapes_path(path, "/dev/null", check_type=True, strict_mode=True, data_prop=True)
    return onnx.__version__


def main(model, examples):
    checked = check_structure(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    tensors, outputs = read(examples), [o.name for o in session.get_outputs()]
    differences, seconds = {name: 0.0 for name in outputs}, []
    for n in sorted({name.split(".")[0] for name in tensors}, key=int):
        prefix = f"{n}.input."
        feed = {name[len(prefix):]: x for name, x in tensors.items() if name.startswith(prefix)}
        session.run(outputs, feed)
        begin = time.perf_counter()
        answers = session.run(outputs, feed)
        seconds.append(time.perf_counter() - begin)
        for name, answer in zip(outputs, answers):
            expected = tensors[f"{n}.output.{name}"]
            if answer.shape != expected.shape:
                sys.exit(f"{model}: output {name} of example {n}: expected shape {expected.shape}, got {answer.shape}")
            difference = np.abs(answer.astype(np.float64) - expected).max(initial=0.0)
            differences[name] = float(max(differences[name], difference)) if np.isfinite(difference) else 1e30
    print(json.dumps({"onnxruntime": onnxruntime.__version__, "onnx": checked, "differences": differences,
                      "seconds": seconds}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
