"""A decoder whose tokens lie in few dimensions of the betas needs no more, and noise needs none."""

import numpy as np
import pytest
import torch

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.values import Betas, ClipTokens
from voxelight.neuro.training.bottleneck import sweep_decoder
from voxelight.neuro.training.check import decode_held_out
from voxelight.neuro.training.recorded import SeenTrials, prepare_subject

PICTURES, VOXELS, SIGNAL = 60, 20, 3


@pytest.fixture(scope="module")
def decoded():
    """Betas of three strong dimensions and weak noise, and a random decoder that is linear in them."""
    rng = np.random.default_rng(0)
    code, latent = rng.normal(size=(SIGNAL, VOXELS)), rng.normal(size=(PICTURES, SIGNAL))
    shown = np.repeat(np.arange(PICTURES), 2)
    values = 5 * latent[shown] @ code + 0.1 * rng.normal(size=(len(shown), VOXELS))
    keys = tuple(f"{picture:064d}" for picture in shown)
    betas = Betas(values.astype(np.float32), np.array(keys), "s", "v")
    prepared = prepare_subject(SeenTrials(betas, keys), frozenset(keys[80:]), "as-stored")
    torch.manual_seed(1)
    network = MindEye2Config(voxels=(VOXELS,), hidden=16, tokens=3, dim=8, low_level=False, prior=None).build().eval()
    return network, prepared


def test_three_dimensions_tell_what_all_do(decoded):
    network, prepared = decoded
    everything = decode_held_out(network, 0, prepared, "cpu", lambda *_: None)
    shown = ClipTokens(everything, "test")
    found = sweep_decoder(network, 0, prepared, shown, "cpu", lambda *_: None)
    assert found["k"] == [1, 2, 4, 8, 16]
    assert found["trials"] == 80
    assert found["y"][2] > 0.99, "four components hold the signal"
    assert found["y"][0] < found["y"][1] < found["y"][2]
    assert all(low <= y <= high for low, y, high in zip(found["low"], found["y"], found["high"], strict=True))
    wrong = ClipTokens(np.roll(everything, 7, axis=0), "test")
    assert max(sweep_decoder(network, 0, prepared, wrong, "cpu", lambda *_: None)["y"]) < 0.8


def test_repeats_are_averaged_after_the_network(decoded):
    network, prepared = decoded
    found = decode_held_out(network, 0, prepared, "cpu", lambda *_: None)
    rows = next(iter(prepared.test.values()))
    with torch.no_grad():
        each = network(torch.from_numpy(prepared.training.read(rows))[:, None]).retrieval
    expected = each[0] * (2 / 3) + each[1] / 3  # as published, the first of two stands for the missing third
    np.testing.assert_allclose(found[0], expected.numpy(), atol=2e-3)
