"""What is learnt holds for pictures that were not trained on: the point of it all, at a small size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voxelight.models.diffusion.noise import SeededNoise
from voxelight.models.training.loop import Hooks
from voxelight.neuro.losses import cosine_similarity, top1
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training.batches import TrainingSubject
from voxelight.neuro.training.recipe import Losses
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.start import build_decoder
from voxelight.neuro.training.targets import CachedTargets
from voxelight.storage.targets import TargetStore

PICTURES, HELD_OUT, TOKENS, DIM = 240, 40, 4, 8


@pytest.fixture(scope="module")
def tokens():
    """Tokens of pictures, of which a few directions tell most."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, TOKENS * DIM))
    return (rng.normal(size=(PICTURES, 12)) @ mixing / 3).reshape(PICTURES, TOKENS, DIM).astype(np.float32)


def make_subject(name, tokens, small, voxels, seed, noise=0.5):
    """Two trials a picture of a subject whose betas are a noisy linear map of the tokens."""
    rng = np.random.default_rng(seed)
    code = rng.normal(size=(TOKENS * DIM, voxels)) / 4
    shown = np.tile(np.arange(PICTURES), 2)
    betas = tokens.reshape(PICTURES, -1)[shown] @ code + noise * rng.normal(size=(len(shown), voxels))
    rows = np.flatnonzero(shown < PICTURES - HELD_OUT)
    keys = tuple(small.key(picture) for picture in shown)
    return TrainingSubject(name, betas.astype(np.float32), keys, ("1",) * len(shown), rows)


@pytest.fixture(scope="module")
def learnt(tokens, small, tmp_path_factory):
    """A decoder of two subjects, then one fitted to a third, with the data of the third."""
    table = TargetStore(tmp_path_factory.mktemp("targets")).table("tokens", "linear")
    table.write([small.key(picture) for picture in range(PICTURES)], tokens)
    held_out = frozenset(small.key(picture) for picture in range(PICTURES - HELD_OUT, PICTURES))
    config = {**small.config, "hidden": 48, "low_level": False}
    recipe = small.make_recipe(
        config=config, losses=Losses(low_level=0), sessions=1, trials_a_session=400, batch=12, epochs=12,
        learning_rate=3e-3,
    )  # fmt: skip
    subjects = [make_subject(str(seed), tokens, small, 60 + seed, seed) for seed in range(3)]
    targets = CachedTargets({"tokens": table})
    many = build_decoder(recipe, [60, 61])
    fitted = fit_decoder(many, TrainingData(tuple(subjects[:2]), targets, held_out), recipe, "cpu", Hooks())
    last = recipe.model_copy(update={"start": "multisubject", "epochs": 6, "batch": 24})
    network = build_decoder(last, [62], fitted.weights)
    fit_decoder(network, TrainingData((subjects[2],), targets, held_out), last, "cpu", Hooks())
    return network, subjects[2]


def read_held_out(subject):
    rows = np.flatnonzero(np.arange(len(subject.pictures)) % PICTURES >= PICTURES - HELD_OUT)
    assert not set(rows) & set(subject.rows.tolist())
    return torch.from_numpy(subject.read(rows)), torch.from_numpy(rows % PICTURES)


def test_unseen_pictures_are_retrieved(learnt, tokens):
    network, subject = learnt
    trials, pictures = read_held_out(subject)
    with torch.no_grad():
        found = network(trials[:HELD_OUT, None]).retrieval.flatten(1)
    wanted = torch.from_numpy(tokens)[pictures[:HELD_OUT]].flatten(1)
    assert top1(cosine_similarity(found, wanted)) > 0.5
    shuffled = found[torch.randperm(HELD_OUT, generator=torch.Generator().manual_seed(0))]
    assert top1(cosine_similarity(shuffled, wanted)) < 0.2


def test_the_prior_draws_tokens_of_unseen_pictures(learnt, tokens):
    network, subject = learnt
    trials, pictures = read_held_out(subject)
    wanted = torch.from_numpy(tokens)[pictures]
    noise = SeededNoise(range(len(trials)), "prior")
    with torch.no_grad():
        brain = network(trials[:, None]).tokens
        drawn = network.diffusion_prior.sample(brain, lambda _: noise.draw(TOKENS, DIM), steps=10)
        other = network.diffusion_prior.sample(brain.roll(1, 0), lambda _: noise.draw(TOKENS, DIM), steps=10)
    error, shuffled = F.mse_loss(drawn, wanted), F.mse_loss(other, wanted)
    # So small a prior, trained so briefly, draws poorly; but what it draws is the picture's and no other's.
    assert error < 0.95 * shuffled


def test_trials_that_were_not_to_be_seen_change_nothing(tokens, small, tmp_path):
    """Noise in place of the held-out trials gives the same weights to the bit."""
    table = TargetStore(tmp_path).table("tokens", "linear")
    table.write([small.key(picture) for picture in range(PICTURES)], tokens)
    config = {**small.config, "low_level": False, "prior": None}
    recipe = small.make_recipe(
        config=config, losses=Losses(low_level=0, prior=0), sessions=1, trials_a_session=60, epochs=3
    )  # fmt: skip
    subject = make_subject("s", tokens, small, 60, 0)
    hidden = np.setdiff1d(np.arange(len(subject.pictures)), subject.rows)
    spoilt = np.array(subject.voxels)
    spoilt[hidden] = np.random.default_rng(9).normal(size=(len(hidden), 60))
    found = []
    for voxels in (subject.voxels, spoilt):
        data = TrainingData((replace(subject, voxels=voxels),), CachedTargets({"tokens": table}), frozenset())
        found.append(fit_decoder(build_decoder(recipe, [60]), data, recipe, "cpu", Hooks()).weights)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
