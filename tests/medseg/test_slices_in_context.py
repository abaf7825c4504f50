"""Slices that are seen with their neighbours (2.5-D): in training, while it is looked at, and in use."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.evaluate import dice
from voxelight.medseg.predict import build_segmenter, predict
from voxelight.medseg.recipes.training import Augmentation
from voxelight.medseg.segment import segment
from voxelight.medseg.train import build_network, fit
from voxelight.medseg.train_samples import Dealer, prepare_sample
from voxelight.medseg.train_validation import Validation
from voxelight.models.segmentation.slices import stack_slices

STILL = Augmentation(mirror=0, rotation=0, scale=(1, 1), stretch=0, shift=0, bend=0, contrast=0, brightness=0, gamma=0,
                     bias=0, noise=0)  # fmt: skip
SMALL = {"context": 3, "width": 8, "multipliers": (1,), "attention_levels": (), "encoder_blocks": 1, "latent": 4,
         "embedding": 8, "mapping_layers": 1, "steps": 2, "votes": 1, "adversarial_weight": 0, "attention": "none",
         "supervision_weight": 1.0}  # fmt: skip


def in_context(patch=(24, 24, 1), **training):
    options = {"window": (16, 16, 1), "batch": 4, "steps": 80, "settling": 1, "learning_rate": 5e-3} | training
    return make_recipe("cdal", SMALL, **options).model_copy(update={"patch": patch})


def test_a_crop_is_a_slice_of_a_case_with_its_neighbours():
    recipe = in_context(augmentation=STILL.model_dump(), foreground=0.0, batch=8)
    samples = [prepare_sample(make_case(number), recipe) for number in range(2)]
    dealer = Dealer(samples, recipe, recipe.training, "cpu")
    slices = torch.cat([stack_slices(torch.from_numpy(sample.image)[None], 3) for sample in samples])
    labels = np.concatenate([np.moveaxis(sample.labels, 2, 0) for sample in samples])
    places = set()
    for number in range(3):
        image, reference = dealer.place(dealer.read(number), number)
        assert image.shape == (8, 3, 16, 16)
        for crop, share in zip(image, reference, strict=True):
            at = [(place, i, j) for place in range(len(slices)) for i in range(3) for j in range(3)
                  if torch.allclose(slices[place, :, i : i + 16, j : j + 16], crop, atol=1e-4)]  # fmt: skip
            assert len(at) == 1
            [(place, i, j)] = at
            np.testing.assert_array_equal(share.argmax(0), labels[place, i : i + 16, j : j + 16])
            places.add(place % 18)
    assert len(places) > 8


@pytest.fixture(scope="module")
def trained():
    recipe = in_context(validation=0.2, validate_steps=80)
    return recipe, fit([make_case(number) for number in range(5)], recipe, "cpu")


def test_a_network_learns_from_slices_in_context(trained):
    recipe, fitted = trained
    unseen = make_case(99)
    found = segment(unseen.volume, build_segmenter(recipe, fitted.weights, "cpu"))
    assert dice(found.array, unseen.labels.array, 1, 2) > 0.5
    assert set(fitted.validation) == {"anterior", "posterior"}


def test_windows_see_the_neighbours_that_the_whole_volume_has(trained):
    """One slice at a time gives what the network gives for the volume: no seam, no edge that is none."""
    recipe, fitted = trained
    image = make_case(7).volume.array
    found = predict(image, build_segmenter(recipe.model_copy(update={"mirror_average": False}), fitted.weights, "cpu"))
    network = build_network(recipe).eval()
    network.load_state_dict(fitted.weights)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)[None])[0].softmax(0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_looked_at_sees_them_too(trained):
    recipe, fitted = trained
    network = build_network(recipe).eval()
    network.load_state_dict(fitted.weights)
    sample = prepare_sample(make_case(7), recipe)
    whole, cut = (Validation([sample], recipe.model_copy(update={"patch": patch}), torch.device("cpu"))
                  for patch in ((24, 24, 1), (18, 18, 1)))  # fmt: skip
    assert whole.score(network) == cut.score(network)
    windows = Validation([sample], recipe.model_copy(update={"patch": (16, 16, 1)}), torch.device("cpu"))
    assert windows.score(network).keys() == whole.score(network).keys()
