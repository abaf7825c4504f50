"""Ridge beside scikit-learn: many targets, many alphas, the same folds. Prints one JSON object.

python tests/benchmarks/ridge.py [--trials 600] [--voxels 3000] [--targets 2000] [--repeats 3]
"""

import argparse
import json
import time

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold

from voxelight.models.decoders.ridge import RidgeConfig

ALPHAS = tuple(10.0**power for power in np.arange(0, 6, 0.5))


def make_problem(arguments):
    random = np.random.default_rng(0)
    betas = random.normal(size=(arguments.trials, arguments.voxels))
    weights = random.normal(size=(arguments.voxels, arguments.targets)) / np.sqrt(arguments.voxels)
    return betas, betas @ weights + random.normal(size=(arguments.trials, arguments.targets))


def fit_here(betas, targets, folds):
    decoder = RidgeConfig(alphas=ALPHAS).fit(betas, targets, folds)
    return decoder(betas[:20]), decoder.alpha


def fit_ridge_cv(betas, targets, folds):
    model = RidgeCV(alphas=ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit(betas, targets)
    return model.predict(betas[:20]), float(model.alpha_)


def fit_in_a_loop(betas, targets, folds):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"trials": 600, "voxels": 3000, "targets": 2000, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
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
    report = {
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
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
