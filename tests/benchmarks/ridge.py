"""Ridge beside scikit-learn, and the whole target of MindEye2 on a GPU. Prints one JSON object.

python tests/benchmarks/ridge.py [--trials 600] [--voxels 3000] [--targets 2000] [--repeats 3]
    many targets, many alphas, the same folds
python tests/benchmarks/ridge.py tokens [--share 4]
    the 197 fits of Brain Captioning, a token each, at a quarter of each size
python tests/benchmarks/ridge.py gpu [--small] [--out FILE]
    27,000 trials of 15,724 voxels to 425,984 targets, streamed; needs torch, numpy, scipy and pydantic only
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ALPHAS = tuple(10.0**power for power in np.arange(0, 6, 0.5))
BRAIN_CAPTIONING = {"trials": 8_859, "voxels": 15_724, "tokens": 197, "dim": 768, "alpha": 6e4}
MINDEYE2 = {"trials": 27_000, "voxels": 15_724, "targets": 256 * 1664, "pictures": 9_000, "alpha": 6e4, "folds": 5}


def make_problem(arguments):
    random = np.random.default_rng(0)
    betas = random.normal(size=(arguments.trials, arguments.voxels))
    weights = random.normal(size=(arguments.voxels, arguments.targets)) / np.sqrt(arguments.voxels)
    return betas, betas @ weights + random.normal(size=(arguments.trials, arguments.targets))


def fit_here(betas, targets, folds):
    from voxelight.models.decoders.ridge import RidgeConfig

    decoder = RidgeConfig(alphas=ALPHAS).fit(betas, targets, folds)
    return decoder(betas[:20]), decoder.alpha


def fit_ridge_cv(betas, targets, folds):
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit(betas, targets)
    return model.predict(betas[:20]), float(model.alpha_)


def fit_in_a_loop(betas, targets, folds):
    from sklearn.linear_model import Ridge

    errors = [
        sum(
            ((Ridge(alpha=alpha).fit(betas[train], targets[train]).predict(betas[test]) - targets[test]) ** 2).sum()
            for train, test in folds
        )
        for alpha in ALPHAS
    ]
    alpha = ALPHAS[int(np.argmin(errors))]
    return Ridge(alpha=alpha).fit(betas, targets).predict(betas[:20]), alpha


WAYS = {"voxelight": fit_here, "sklearn_ridge_cv": fit_ridge_cv, "sklearn_loop": fit_in_a_loop}


def compare_paths(arguments):
    from sklearn.model_selection import KFold

    betas, targets = make_problem(arguments)
    folds = list(KFold(5).split(betas))
    seconds = {name: [] for name in WAYS}
    found = {}
    for _ in range(arguments.repeats):  # turn and turn about, so that a busy machine slows all of them
        for name, fit in WAYS.items():
            start = time.perf_counter()
            found[name] = fit(betas, targets, folds)
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    ours = found["voxelight"]
    return {
        "trials": arguments.trials,
        "voxels": arguments.voxels,
        "targets": arguments.targets,
        "alphas": len(ALPHAS),
        "folds": len(folds),
        "seconds": {name: round(value, 3) for name, value in best.items()},
        "times_faster": {name: round(value / best["voxelight"], 1) for name, value in best.items()},
        "same_alpha": all(alpha == ours[1] for _, alpha in found.values()),
        "largest_difference": max(float(np.abs(predicted - ours[0]).max()) for predicted, _ in found.values()),
    }


def compare_tokens(arguments):
    """Fit every token by itself as Brain Captioning does, and all of them at once as we do, both in float32."""
    from sklearn.linear_model import Ridge

    from voxelight.models.decoders.ridge import RidgeConfig
    from voxelight.models.decoders.ridge_stream import TargetTable, fit_streamed

    sizes = {name: max(2, round(BRAIN_CAPTIONING[name] / arguments.share)) for name in ("trials", "voxels", "dim")}
    tokens, alpha = BRAIN_CAPTIONING["tokens"], BRAIN_CAPTIONING["alpha"] / arguments.share**2
    random = np.random.default_rng(0)
    betas = random.standard_normal((sizes["trials"], sizes["voxels"]), np.float32)
    targets = random.standard_normal((sizes["trials"], tokens, sizes["dim"]), np.float32)
    new = random.standard_normal((20, sizes["voxels"]), np.float32)
    theirs, ours = [], []
    out = np.empty((tokens * sizes["dim"], sizes["voxels"]), np.float32)
    for _ in range(arguments.repeats):  # turn and turn about, so that a busy machine slows both
        start = time.perf_counter()
        models = [Ridge(alpha=alpha).fit(betas, targets[:, token]) for token in range(tokens)]
        theirs.append(time.perf_counter() - start)
        start = time.perf_counter()
        flat = targets.reshape(len(targets), -1)
        decoder = fit_streamed(betas, TargetTable(flat), RidgeConfig(alphas=(alpha,)), out).decoder
        ours.append(time.perf_counter() - start)
    expected = np.concatenate([model.predict(new) for model in models], axis=1)
    return {
        **sizes,
        "tokens": tokens,
        "alpha": alpha,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {"voxelight": round(min(ours), 2), "sklearn": round(min(theirs), 2)},
        "times_faster": round(min(theirs) / min(ours), 1),
        "aim": 12,
        "largest_difference": float(np.abs(decoder(new) - expected).max()),
        "spread_of_predictions": float(expected.std()),
    }


class Windows:
    """Random targets of any number: every block is another window into one random table, read like a file's."""

    def __init__(self, rows, targets, seed=0):
        self.shape = (rows, targets)
        self._wide = min(18_432, targets)
        self._table = np.random.default_rng(seed).standard_normal((rows, self._wide), np.float32).astype(np.float16)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, place):
        rows, columns = place
        begin, end, _ = columns.indices(self.shape[1])
        start = begin * 7 % (self._wide - (end - begin) + 1)
        return self._table[rows, start : start + end - begin]


def run_gpu(arguments):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = dict(MINDEYE2)
    if arguments.small or device == "cpu":
        sizes |= {"trials": 540, "voxels": 320, "targets": 4_096, "pictures": 180}
    report = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu, at a small size: to see that it works",
        "torch": torch.__version__,
        **sizes,
        "aim": "60 s after loading at one alpha",
    }
    begun = time.perf_counter()
    random = np.random.default_rng(1)
    loaded = {
        "betas": random.standard_normal((sizes["trials"], sizes["voxels"]), np.float32),
        "trials": Windows(sizes["trials"], sizes["targets"]),
        "pictures": Windows(sizes["pictures"], sizes["targets"]),
        "shown": random.permutation(np.repeat(np.arange(sizes["pictures"]), sizes["trials"] // sizes["pictures"])),
        "out": np.zeros((sizes["targets"], sizes["voxels"]), np.float16),
    }
    report["seconds_of_making_data"] = round(time.perf_counter() - begun, 1)
    for name, stage in STAGES.items():
        if time.perf_counter() - begun > arguments.seconds:
            report[name] = f"left out after {arguments.seconds} s"
            continue
        report[name] = stage(sizes, loaded, device)
        print(f"{name}: {json.dumps(report[name])}", file=sys.stderr, flush=True)
    one, three = (report[f"folds, {count}"] for count in ("1 alpha", "3 alphas"))
    if isinstance(three, dict) and isinstance(one, dict):
        each = (three["seconds"] - one["seconds"]) / 2
        report["seconds_of_each_further_alpha_by_folds"] = round(each, 2)
    report["seconds_in_all"] = round(time.perf_counter() - begun, 1)
    return report


def fit_gpu(sizes, loaded, device, rows="trials", alphas=1, precision="tf32"):
    """Fit the whole target once; with several alphas, their folds come first."""
    import torch

    from voxelight.models.decoders.ridge import RidgeConfig
    from voxelight.models.decoders.ridge_stream import StreamOptions, TargetTable, fit_streamed

    shared = loaded["shown"] if rows == "pictures" else None
    table = TargetTable(loaded[rows], shared)
    unit = loaded["shown"]
    held_out = [unit % sizes["folds"] == fold for fold in range(sizes["folds"])]
    folds = [(np.flatnonzero(~held), np.flatnonzero(held)) for held in held_out]
    rescale = alphas > 0
    config = RidgeConfig(alphas=tuple(sizes["alpha"] * 2**step for step in range(max(1, alphas))), rescale=rescale)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    done = fit_streamed(
        loaded["betas"],
        table,
        config,
        loaded["out"],
        folds if rescale else (),
        device,
        StreamOptions(precision=precision, kept_gib=8),
    )
    found = {
        "seconds": round(time.perf_counter() - start, 2),
        "float64_error": done.float64_error,
        "finite": bool(np.isfinite(done.decoder.scale).all() and np.isfinite(done.decoder.intercept).all()),
    }
    if device == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return found


def check_predictions(sizes, loaded, device):
    """Predict a few targets from what the last fit wrote, beside scipy in float64."""
    from scipy.linalg import solve

    out, count = loaded["out"], 8
    few = slice(0, min(2_000, sizes["trials"]))
    betas = loaded["betas"][few].astype(np.float64)
    centred = betas - betas.mean(0)
    targets = loaded["trials"][:, slice(0, count)][few].astype(np.float64)
    gram = centred @ centred.T + sizes["alpha"] * np.eye(len(centred))
    expected = centred.T @ solve(gram, targets - targets.mean(0), assume_a="pos")

    from voxelight.models.decoders.ridge import RidgeConfig
    from voxelight.models.decoders.ridge_stream import StreamOptions, TargetTable, fit_streamed

    room, config = np.zeros((count, out.shape[1]), np.float16), RidgeConfig(alphas=(sizes["alpha"],))
    table = TargetTable(loaded["trials"][:, slice(0, count)][few])
    done = fit_streamed(loaded["betas"][few], table, config, room, (), device, StreamOptions(precision="tf32"))
    stored = room.T.astype(np.float64) * done.decoder.scale
    return {"trials": len(betas), "relative_error": float(np.linalg.norm(stored - expected) / np.linalg.norm(expected))}


STAGES = {
    "beside scipy, half precision as stored": check_predictions,
    "one alpha, a target for each trial": lambda *all: fit_gpu(*all, alphas=0),
    "one alpha, a target for each picture": lambda *all: fit_gpu(*all, rows="pictures", alphas=0),
    "folds, 1 alpha": lambda *all: fit_gpu(*all, rows="pictures", alphas=1),
    "folds, 3 alphas": lambda *all: fit_gpu(*all, rows="pictures", alphas=3),
    "one alpha, a target for each trial, float32": lambda *all: fit_gpu(*all, alphas=0, precision="float32"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="paths", choices=("paths", "tokens", "gpu"))
    for name, default in {"trials": 600, "voxels": 3000, "targets": 2000, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--share", type=float, default=4, help="what the sizes of `tokens` are divided by")
    parser.add_argument("--small", action="store_true", help="`gpu` at a small size")
    parser.add_argument("--seconds", type=float, default=70, help="`gpu` starts nothing new after these")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    way = {"paths": compare_paths, "tokens": compare_tokens, "gpu": run_gpu}[arguments.what]
    text = json.dumps(way(arguments), indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
