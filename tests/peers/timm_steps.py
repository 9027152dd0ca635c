#!/usr/bin/env python3
"""timm's models on one GPU, as `comba bench train` and `comba bench model` measure ours: images a second and peak memory.

    pip install timm && python3 timm_steps.py [--models deit_tiny_patch16_224 ...] [--batch 1024] [--json FILE]

Training: bf16 autocast, cross entropy with soft targets, fused AdamW, images that lie on the GPU; launch by launch and
under torch.compile. Inference: bf16 autocast without gradients. Medians of groups of steps ended by a synchronisation.
"""
import argparse
import json
import statistics
import time

import timm
import torch


def median_ms(step, repeats, group=3, warm_ups=6):
    for _ in range(warm_ups):
        step()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(group):
            step()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start) / group)
    return statistics.median(times)


def training_step(model, images, targets):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()

    return step


def inference(model, images):
    def step():
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            model(images)

    return step


def measure(name, batch, size, compiled, repeats):
    torch.manual_seed(1)
    torch.compiler.reset()
    model = timm.create_model(name, img_size=size).cuda()
    runnable = torch.compile(model) if compiled else model
    images = torch.randn(batch, 3, size, size, device="cuda")
    targets = torch.rand(batch, 1000, device="cuda").softmax(1)
    row = {"model": name, "batch": batch, "size": size, "compiled": compiled}
    torch.cuda.reset_peak_memory_stats()
    milliseconds = median_ms(training_step(runnable.train(), images, targets), repeats)
    row["train_images_per_second"] = 1e3 * batch / milliseconds
    row["train_peak_memory"] = torch.cuda.max_memory_allocated()
    milliseconds = median_ms(inference(runnable.eval(), images), repeats)
    row["infer_images_per_second"] = 1e3 * batch / milliseconds
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["deit_tiny_patch16_224", "deit_small_patch16_224"])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        for compiled in (False, True):
            rows.append(measure(name, arguments.batch, arguments.size, compiled, arguments.repeats))
            row = rows[-1]
            print(f"{name:24} {'compiled' if compiled else 'eager':9} train {row['train_images_per_second']:8.0f} "
                  f"infer {row['infer_images_per_second']:8.0f} images a second, "
                  f"peak {row['train_peak_memory'] / 2**30:.1f} GiB", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"torch": torch.__version__, "timm": timm.__version__,
                       "device": torch.cuda.get_device_name(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
