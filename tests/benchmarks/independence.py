"""What a batch, a device and a plan of memory change in a result: largest differences, as one JSON object.

python tests/benchmarks/independence.py [--device cuda] [--full]

Five images together, then each alone, then with every part resting on the CPU between stages. ``--full`` takes the
released sizes with random weights, which needs 40 GB of memory and minutes to draw them.
"""

import argparse
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from voxelight.neuro import networks as loading
from voxelight.neuro.memory import MemoryPlan, find_autoencoder_dtype
from voxelight.neuro.networks import load_networks
from voxelight.neuro.profiles import GenerationOptions, find_profile
from voxelight.neuro.reconstruct import reconstruct

NAMES = ("tokens", "retrieval", "blurry", "unrefined", "refined", "image")


def find_full_profile():
    """The released sizes with random weights and the words of the small profile."""
    small, released = find_profile("random-small"), find_profile("mindeye2")
    words = released.parts["captioner"].model_copy(update={"config": {"vocabulary": 512}})
    parts = {**released.parts, "captioner": words}
    return released.model_copy(update={"weights": {}, "random_seed": small.random_seed, "parts": parts})


def differ(ones, others):
    """Largest difference of each array over images, and how many captions differ."""
    pairs = list(zip(ones, others, strict=True))
    found = {name: float(max(np.abs(getattr(a, name) - getattr(b, name)).max() for a, b in pairs)) for name in NAMES}
    return {**found, "captions": sum(a.caption != b.caption for a, b in pairs)}


def run(profile, options, device):
    """Return differences between ways that should give one result."""
    random = np.random.default_rng(0)
    trials = [random.standard_normal((repeats, profile.voxels), dtype=np.float32) for repeats in (3, 1, 2, 3, 3)]
    seeds = list(range(5))
    loaded = load_networks(profile, Path(), options, device)
    together = reconstruct(loaded, trials, seeds, options)
    alone = [reconstruct(loaded, [trial], [seed], options)[0] for trial, seed in zip(trials, seeds, strict=True)]
    again = reconstruct(loaded, trials, seeds, options)
    del loaded
    away = MemoryPlan(2, frozenset(profile.list_parts(options)), True, find_autoencoder_dtype(options.dtype), 0)
    with mock.patch.object(loading, "plan_memory", return_value=away):
        visiting = load_networks(profile, Path(), options, device)
    resting = {part: next(module.parameters()).device.type for part, module in visiting.parts.items()}
    moved = reconstruct(visiting, trials, seeds, options)
    found = {
        "together and again": differ(together, again),
        "together and alone": differ(together, alone),
        "staying and visiting, by two": differ(together, moved),
        "where parts rest": sorted(set(resting.values())),
    }
    if device != "cpu":
        found["peak GiB, visiting by two"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        if profile.side < 100:
            there = load_networks(profile, Path(), options, "cpu")
            found["device and CPU"] = differ(together, reconstruct(there, trials, seeds, options))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    profile = find_full_profile() if arguments.full else find_profile("random-small")
    report = {}
    for dtype in ("bfloat16",) if arguments.full else ("float32", "bfloat16", "float16"):
        report[dtype] = run(profile, GenerationOptions(dtype=dtype, batch=5), arguments.device)
        print(f"{dtype} done", file=sys.stderr)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
