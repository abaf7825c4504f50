"""A small decoder, small subjects and random targets."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.neuro.training.batches import TrainingSubject
from voxelight.neuro.training.recipe import Losses, TrainingRecipe, find_training_recipe
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.start import build_decoder
from voxelight.neuro.training.targets import CachedTargets
from voxelight.storage.targets import TargetStore

TOKENS, DIM, MAPS = 4, 8, 12
SMALL = {
    "hidden": 24,
    "tokens": TOKENS,
    "dim": DIM,
    "decoder_widths": [32, 32, 32],
    "maps_width": MAPS,
    "prior": {"dim": DIM, "tokens": TOKENS, "depth": 2, "heads": 2, "dim_head": 4, "timesteps": 10},
}
SHAPES = {"tokens": (TOKENS, DIM), "latent": (4, 28, 28), "maps": (49, MAPS)}


def key(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def silence(network):
    """Take dropout out, so that a batch gives the same however it is cut."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def make_subject(name, voxels=20, trials=60, first=0, repeats=2, sessions=3):
    rng = np.random.default_rng(int(key(name)[:8], 16))
    pictures = [key(first + number) for number in range(trials // repeats)] * repeats
    order = rng.permutation(trials)
    return TrainingSubject(
        name,
        rng.normal(size=(trials, voxels)).astype(np.float32),
        tuple(pictures[row] for row in order),
        tuple(f"session-{sessions * row // trials}" for row in range(trials)),
        np.arange(trials),
    )


def make_targets(folder, subjects, copies=2):
    """Targets of every picture, rounded as they are kept."""
    store = TargetStore(folder)
    keys = list(dict.fromkeys(picture for subject in subjects for picture in subject.pictures))
    tables = {}
    for kind, encoder in [*((kind, "x") for kind in SHAPES), *(("maps", f"copy {copy}") for copy in range(copies))]:
        table = store.table(kind, encoder)
        if table.missing(keys):
            # Drawn for each table by itself: another process may write the same ones at the same time.
            rng = np.random.default_rng(int(key(f"{kind} {encoder}")[:8], 16))
            table.write(keys, rng.normal(size=(len(keys), *SHAPES[kind])).astype(np.float16))
        tables[kind, encoder] = table
    return CachedTargets(
        {kind: tables[kind, "x"] for kind in SHAPES}, [tables["maps", f"copy {copy}"] for copy in range(copies)]
    )


def find_config(recipe, voxels):
    return MindEye2Config(voxels=tuple(voxels), **recipe.config)


def make_recipe(**changes):
    """Two steps an epoch for one subject: two epochs mixed of six."""
    options = {
        "config": SMALL, "start": "fresh", "sessions": 3, "trials_a_session": 4, "batch": 6, "epochs": 6,
        "precision": "fp32", "losses": Losses(mixing_share=0.34),
    }  # fmt: skip
    shown = find_training_recipe("mindeye2-finetune").model_dump(include={"title", "summary"})
    return TrainingRecipe(name="small", **shown, **options | changes)


@pytest.fixture
def make_data(tmp_path):
    def make(subjects=1, held_out=frozenset(), **changes):
        made = tuple(
            make_subject(f"subject {number}", voxels=20 + number, first=1000 * number, **changes)
            for number in range(subjects)
        )
        return TrainingData(made, make_targets(tmp_path / "targets", made), frozenset(held_out))

    return make


@pytest.fixture
def make_network():
    def make(data, recipe, dropout=False):
        network = build_decoder(recipe, [subject.voxels.shape[1] for subject in data.subjects])
        return network if dropout else silence(network)

    return make


@pytest.fixture(scope="session")
def small():
    """The functions above, which no test can import."""
    return SimpleNamespace(
        key=key,
        make_subject=make_subject,
        make_targets=make_targets,
        make_recipe=make_recipe,
        find_config=find_config,
        silence=silence,
        config=SMALL,
    )
