"""MSGA and cDAL with its discriminator, trained from cases to a label map by the engine that trains every network."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe, train

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import dice
from voxelight.medseg.predict import build_segmenter
from voxelight.medseg.recipes.training import Augmentation
from voxelight.medseg.segment import segment
from voxelight.medseg.train import fit
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.training_log import TrainingLog

WORKER = Path(__file__).with_name("train_worker.py")
STILL = Augmentation(mirror=0, rotation=0, scale=(1, 1), stretch=0, shift=0, bend=0, contrast=0, brightness=0, gamma=0,
                     bias=0, noise=0).model_dump()  # fmt: skip
MSGA = {"backbone": "resnet18", "backbone_width": 8, "width": 8}
CDAL = {"width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "latent": 4, "embedding": 8, "mapping_layers": 1,
        "steps": 2, "votes": 2, "discriminator_width": 4, "discriminator_time": 8, "r1_interval": 3}  # fmt: skip
FLAT = {"window": (16, 16, 1), "batch": 8, "learning_rate": 5e-3, "settling": 4}

pytestmark = pytest.mark.usefixtures("one_thread")


def make_shifted(number, side=32, depth=8):
    """A disc in each slice, at a place of its own; what is labelled is the disc of the slice above."""
    random = np.random.default_rng(number)
    places = np.indices((side, side))
    centres = random.uniform(8, side - 8, (depth, 2))
    discs = np.stack([np.hypot(*(places - centre[:, None, None])) < 6 for centre in centres], axis=-1)
    labels = discs[..., [*range(1, depth), depth - 1]].astype(np.uint8)
    image = (2 * discs + 0.2 * random.standard_normal(discs.shape)).astype(np.float32)
    grid = Geometry(labels.shape, np.eye(4))
    return Case(f"disc{number}", Volume(image[None], grid), LabelMap(labels, grid, {1: "anterior", 2: "posterior"}))


@pytest.mark.parametrize(("context", "learns"), [(1, False), (3, True)], ids=["2-D", "2.5-D"])
def test_msga_learns_from_the_slice_above_only_where_it_sees_it(context, learns, tmp_path):
    """Nothing in a slice says where the label is, so that a Dice can come of its neighbours alone."""
    training = FLAT | {"window": (32, 32, 1), "steps": 100, "augmentation": STILL, "average": 0.9}
    recipe = make_recipe("msga", MSGA | {"context": context}, **training)
    recipe = recipe.model_copy(update={"patch": (32, 32, 1), "mirror_average": False})
    log = TrainingLog(tmp_path / "log.jsonl")
    fitted = fit([make_shifted(n) for n in range(6)], recipe, "cpu", Hooks(log=log), LoopOptions(log_steps=1))
    rows = log.rows()
    assert {"loss", "heads", "guide", "reconstruction"} <= rows[0].keys()
    for row in rows:
        total = row["heads"] + 0.25 * row["guide"] + 0.1 * row["reconstruction"]
        assert row["loss"] == pytest.approx(total, rel=1e-4)
    assert rows[-1]["reconstruction"] < rows[0]["reconstruction"], "the autoencoders learn too"
    unseen = make_shifted(99)
    found = segment(unseen.volume, build_segmenter(recipe, fitted.weights, "cpu"))
    score = dice(found.array[..., :-1], unseen.labels.array[..., :-1], 1)  # the last slice has no slice above
    assert (score > 0.8) is learns
    assert score > 0.8 or score < 0.6


def test_msga_learns_slices_as_they_are():
    recipe = make_recipe("msga", MSGA, **FLAT, steps=80)
    fitted = fit([make_case(number) for number in range(6)], recipe, "cpu")
    unseen = make_case(99)
    found = segment(unseen.volume, build_segmenter(recipe, fitted.weights, "cpu")).array
    assert min(dice(found, unseen.labels.array, label) for label in (1, 2)) > 0.5


def test_cdal_and_its_discriminator_learn_and_a_pause_changes_nothing(tmp_path):
    changes = {"network": "cdal", "config": CDAL, "checkpoint_steps": 50} | FLAT
    calls = iter([False] * 67 + [True])
    paused = train(tmp_path / "one", pause=lambda: next(calls), steps=150, **changes)
    assert not paused.finished
    fitted = train(tmp_path / "one", steps=150, **changes)
    rows = TrainingLog(tmp_path / "one" / "log.jsonl").rows()
    assert [row["step"] for row in rows] == list(range(150))
    assert [row["step"] for row in rows if "discriminator_r1" in row][:4] == [0, 3, 6, 9]
    squared, judged = (
        [np.mean([row[name] for row in part]) for part in (rows[:15], rows[-15:])]
        for name in ("generator_squared error", "generator_adversarial")
    )
    assert squared[1] < 0.5 * squared[0]
    assert all(np.isfinite(judged))
    unseen, recipe = make_case(99), make_recipe("cdal", CDAL, **FLAT)
    found = segment(unseen.volume, build_segmenter(recipe, fitted.weights, "cpu")).array
    assert dice(found, unseen.labels.array, 1, 2) > 0.6

    whole = train(tmp_path / "two", steps=150, **changes)
    assert TrainingLog(tmp_path / "two" / "log.jsonl").rows() == rows, "losses of the discriminator among them"
    assert all(torch.equal(value, fitted.weights[name]) for name, value in whole.weights.items())


def test_two_processes_share_the_gradients_of_both_phases(tmp_path):
    """Each draws noise of its own, so that only shared gradients keep generator and discriminator alike."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    changes = {"network": "cdal", "config": CDAL, "steps": 6} | FLAT
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(tmp_path), json.dumps(changes)]
    pair = [subprocess.Popen(command, env=os.environ | shared | {"RANK": r, "LOCAL_RANK": r}) for r in ("0", "1")]
    assert [process.wait(300) for process in pair] == [0, 0]
    one, other = (torch.load(tmp_path / name, weights_only=True) for name in ("weights.pt", "weights-1.pt"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert len(TrainingLog(tmp_path / "log.jsonl").rows()) == 6
    assert CheckpointFolder(tmp_path / "checkpoints").steps()
