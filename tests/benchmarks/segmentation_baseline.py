"""AGUNet beside MONAI's AttentionUnet: Dice by person and time. Prints one JSON object.

python tests/benchmarks/segmentation_baseline.py [--repeats 5]
    Dice from the scores that ship, time of one crop measured here.
python tests/benchmarks/segmentation_baseline.py --data FOLDER --fold 0 --device cuda [--steps 3200]
    Fits both again on the other folds of the recorded split, and scores the fold.
"""

import argparse
import json
import time
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from voxelight.medseg.evaluate import dice, mean_by_person, paired_difference
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.segment import build_segmenter, predict, segment
from voxelight.medseg.splits import find_split
from voxelight.medseg.train import build_network, fit

OURS = find_recipe("hippocampus-agunet")
BASELINE = {"network": "attention_unet", "config": {"in_channels": 1, "classes": 3, "filters": (24, 48, 96, 192)}}
RECIPES = {"agunet": OURS, "attention_unet": OURS.model_copy(update=BASELINE)}


def read_scores():
    """Return network -> label -> case -> Dice, from what ships."""
    shipped = json.loads(files("voxelight.models.shipped").joinpath(f"{OURS.name}.scores.json").read_text())
    cases = {
        network: {case: scores for fold in facts["folds"].values() for case, scores in fold["dice"].items()}
        for network, facts in shipped["networks"].items()
    }
    return {
        network: {label: {case: scores[label] for case, scores in found.items()} for label in OURS.labels.values()}
        for network, found in cases.items()
    }


def fit_again(arguments):
    """Return the same, from weights fitted now."""
    from voxelight.storage.formats.cases import read_cases

    cases = {case.name: case for case in read_cases(arguments.data, OURS.labels)}
    split = find_split(OURS.name, list(cases))
    scores = {}
    for network, recipe in RECIPES.items():
        training = recipe.training.model_copy(update={"steps": arguments.steps or recipe.training.steps})
        changed = recipe.model_copy(update={"training": training})
        state = fit([cases[name] for name in split.rest(arguments.fold)], changed, arguments.device).weights
        halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        segmenter = build_segmenter(changed, halved, arguments.device)
        found = {name: segment(cases[name].volume, segmenter).array for name in split.folds[arguments.fold]}
        scores[network] = {
            label: {name: dice(array, cases[name].labels.array, number) for name, array in found.items()}
            for number, label in OURS.labels.items()
        }
    return scores


def compare(scores):
    person_of = find_split(OURS.name, list(next(iter(scores["agunet"].values())))).person_of
    return {
        label: {network: asdict(mean_by_person(scores[network][label], person_of, seed=0)) for network in scores}
        | {"difference": asdict(paired_difference(*(scores[n][label] for n in RECIPES), person_of, seed=0))}
        for label in OURS.labels.values()
    }


def time_both(repeats, device):
    """Return the median seconds of one crop, mirrored average included; the two take turns."""
    crop = np.random.default_rng(0).standard_normal((1, 40, 56, 40)).astype(np.float32)
    ready, taken = {}, {network: [] for network in RECIPES}
    for network, recipe in RECIPES.items():
        torch.manual_seed(0)
        ready[network] = build_segmenter(recipe, build_network(recipe).state_dict(), device)
        predict(crop, ready[network])
    for _ in range(repeats):
        for network, segmenter in ready.items():
            start = time.perf_counter()
            predict(crop, segmenter)
            taken[network].append(time.perf_counter() - start)
    medians = {network: float(np.median(seconds)) for network, seconds in taken.items()}
    return {"seconds": medians, "agunet_over_baseline": medians["agunet"] / medians["attention_unet"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder with images/ and labels/; fits again where given")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    scores = fit_again(arguments) if arguments.data else read_scores()
    print(json.dumps({"dice": compare(scores), "time": time_both(arguments.repeats, arguments.device)}, indent=2))


if __name__ == "__main__":
    main()
