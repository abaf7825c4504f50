"""MindEye2's widest layer stepped in place, beside its gradient written and stepped by AdamW. Prints one JSON object.

python tests/benchmarks/wide_step.py [--tiles 16x64x8,16x128x16,...] [--out FILE]

Needs a GPU. ``relative_errors`` are of weights (of what they moved), moments and the slope of the input after some
steps of a layer whose sizes no tile divides, under autocast to bf16. ``released_size`` are milliseconds of what differs
between both ways at 425,984 x 4,096 weights: the product that writes the gradient, AdamW and the copy in half
precision, or the kernel alone, with each tile (outputs x inputs x warps); and the bandwidth that the kernel reaches.
"""

import argparse
import json
import statistics
from pathlib import Path
from types import SimpleNamespace

import torch

from voxelight.models.decoders.wide import WideLinear
from voxelight.neuro.training.in_place import stepped_in_place

OUT, IN, SAMPLES = 256 * 1664, 4096, 24
TILES = "16x64x8,16x128x16,32x64x16,32x32x8,64x64x32,16x128x8,32x128x16"
BYTES_A_WEIGHT = 6 * 4 + 2


def check(out=20_011, across=1_000, steps=4):
    """Return relative errors of steps in place, the steps of PyTorch's fused AdamW being right."""
    torch.manual_seed(0)
    layers = [WideLinear(across, out, device="cuda") for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    first = layers[0].weight.detach().clone()
    optimisers = [torch.optim.AdamW(layer.parameters(), lr=1e-3, weight_decay=0.1, fused=True) for layer in layers]
    networks = [SimpleNamespace(backbone=SimpleNamespace(backbone_linear=layer)) for layer in layers]
    with stepped_in_place(networks[0], optimisers[0], True):
        for step in range(steps):
            x, slope = torch.randn(SAMPLES, across, device="cuda"), torch.randn(SAMPLES, out, device="cuda")
            slopes = []
            for layer, optimiser in zip(layers, optimisers, strict=True):
                optimiser.param_groups[0].update(lr=1e-3 * (step + 1), betas=(0.95 - 0.02 * step, 0.999))
                given = x.clone().requires_grad_()
                with torch.autocast("cuda", torch.bfloat16):
                    made = layer(given)
                made.backward(slope.to(made.dtype))
                slopes.append(given.grad)
                optimiser.step()
                optimiser.zero_grad()
        copied = torch.equal(layers[0].halve(torch.bfloat16), layers[0].weight.to(torch.bfloat16))
        kept = layers[0].halve(torch.bfloat16) is layers[0].halve(torch.bfloat16)
    states = [optimiser.state[layer.weight] for layer, optimiser in zip(layers, optimisers, strict=True)]
    pairs = {
        "weights": [layer.weight.detach() - first for layer in layers],
        "moments": [state["exp_avg"] for state in states],
        "squared_moments": [state["exp_avg_sq"] for state in states],
        "slope_of_input": slopes,
    }
    found = {name: float((one - other).norm() / other.norm()) for name, (one, other) in pairs.items()}
    return found | {"copy_is_the_weights": copied and kept}


def _time(run, repeats=15):
    run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return round(statistics.median(times), 3)


def time_released(tiles):
    """Return milliseconds at the released size."""
    from voxelight.models.decoders.wide_kernels import Rates, Tile, adamw_

    weight = torch.nn.Parameter(torch.randn(OUT, IN, device="cuda") / 64)
    slope, x = (torch.randn(SAMPLES, size, device="cuda").bfloat16() for size in (OUT, IN))
    optimiser = torch.optim.AdamW([weight], lr=1e-4, fused=True)
    weight.grad = torch.mm(slope.T, x, out_dtype=torch.float32)
    found = {
        "adamw_ms": _time(optimiser.step),
        "gradient_ms": _time(lambda: torch.mm(slope.T, x, out_dtype=torch.float32)),
        "copy_ms": _time(lambda: weight.detach().to(torch.bfloat16)),
    }
    found["plain_ms"] = round(sum(found.values()), 3)
    weight.grad, state, half = None, optimiser.state[weight], weight.detach().to(torch.bfloat16)
    weights = (weight, state["exp_avg"], state["exp_avg_sq"], half)
    for name in tiles.split(","):
        tile, rates = Tile(*map(int, name.split("x"))), Rates(1e-4, 0.9, 0.999, 1e-8, 1e-2)
        taken = _time(lambda tile=tile, rates=rates: adamw_(weights, slope, x, state["step"], rates, tile))
        found[f"in_place_{name}"] = {
            "ms": taken, "terabytes_a_second": round(BYTES_A_WEIGHT * weight.numel() / taken / 1e9, 2)
        }  # fmt: skip
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", default=TILES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "relative_errors": check()}
    report["released_size"] = time_released(options.tiles)
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
