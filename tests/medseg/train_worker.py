"""A training in a process of its own, which a test may kill, or several that torchrun would start.

python train_worker.py FOLDER [changes of the recipe's training as JSON]
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from voxelight.medseg.cases import Case
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.train import fit
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.training_log import TrainingLog

SMALL = {
    "agunet": {"filters": (8, 16)},
    "segresnet": {"filters": 8, "blocks_down": (1, 1), "blocks_up": (1,)},
}


def make_recipe(network="agunet", config=None, **training):
    """Return a small recipe for balls."""
    recipe = find_recipe("hippocampus-agunet")
    options = {"steps": 60, "batch": 2, "window": (16, 16, 16), "warm_up": 5, "settling": 8, "average": 0.9} | training
    made = recipe.model_dump() | {
        "name": "balls",
        "network": network,
        "config": {"in_channels": 1, "classes": 3} | SMALL.get(network, {}) | (config or {}),
        "patch": (24, 24, 1 if options["window"][2] == 1 else 24),
        "training": recipe.training.model_dump() | options,
    }
    return type(recipe).model_validate(made)


def make_case(number, side=18):
    """Two bright half balls on a dark, noisy ground."""
    random = np.random.default_rng(number)
    middle = random.uniform(side / 2 - 2, side / 2 + 1, 3)[:, None, None, None]
    at = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij")) - middle
    ball = np.square(at).sum(axis=0) < 25
    labels = (ball * np.where(at[1] > 0, 1, 2)).astype(np.uint8)
    image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
    grid = Geometry(labels.shape, np.eye(4))
    return Case(f"ball{number}", Volume(image[None], grid), LabelMap(labels, grid, {1: "anterior", 2: "posterior"}))


def train(folder, pause=None, checkpoint_steps=4, cases=4, **changes):
    """Train on balls, with checkpoints and a log in a folder."""
    hooks = Hooks(CheckpointFolder(folder / "checkpoints"), TrainingLog(folder / "log.jsonl"), pause=pause)
    options = LoopOptions(checkpoint_steps=checkpoint_steps, log_steps=1)
    return fit([make_case(number) for number in range(cases)], make_recipe(**changes), "cpu", hooks, options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes.joined("cpu"):
        fitted = train(Path(sys.argv[1]), **json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
        name = "weights.pt" if processes.is_first() else f"weights-{processes.rank()}.pt"
        torch.save(dict(fitted.weights), Path(sys.argv[1]) / name)
