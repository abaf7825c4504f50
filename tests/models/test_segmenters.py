"""Every row of the table of segmentation networks, unasked."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from voxelight.medseg.losses import LOSSES
from voxelight.medseg.objectives import build_objective
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.segment import build_segmenter, segment
from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.models.values import Geometry, Volume

COMMON = {"in_channels": 2, "classes": 3}
# What makes each network small; a newcomer that needs nothing but channels and classes needs no row.
SMALL = {
    "agunet": {"filters": (4, 6, 8)},
    "daunet": {"filters": (4, 6, 8)},
    "dagunet": {"filters": (4, 6, 8)},
    "msga": {"backbone": "resnet18", "width": 8},
    "cdal": {"width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "discriminator_width": 4, "votes": 2, "steps": 2},
    "attention_unet": {"filters": (4, 6, 8)},
    "dynunet": {"filters": (4, 6, 8, 8)},
    "segresnet": {"filters": 8, "blocks_down": (1, 1), "blocks_up": (1,)},
    "swin_unetr": {"filters": 12, "spatial_dims": 2, "window": 4},
}
VOLUMES = [(16, 16, 16), (9, 14, 11), (5, 4, 3)]


def small(name, **options):
    return find_config(SEGMENTERS, name)(**COMMON | SMALL.get(name, {}) | options)


def build(name, **options):
    torch.manual_seed(0)
    return small(name, **options).build().eval()


def grid_of(network, grid):
    return grid[: getattr(network.config, "spatial_dims", 3)]


def step(network, objective, optimisers, image, reference, generator):
    """One step of training, as docs/networks.md has it."""
    for phase in objective.phases(network):
        terms = objective(phase.name, network, image, reference, generator)
        optimisers[phase.name].zero_grad()
        terms["loss"].backward(inputs=list(phase.parameters))
        optimisers[phase.name].step()
    return terms


@pytest.mark.parametrize("grid", VOLUMES)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_network_keeps_the_grid(name, grid):
    network = build(name)
    grid = grid_of(network, grid)
    with torch.inference_mode():
        logits = network(torch.randn(2, 2, *grid))
    assert logits.shape == (2, 3, *grid)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_second_network_with_the_same_weights_gives_the_same(name):
    network, other = build(name), small(name).build().eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(1, 2, *grid_of(network, (12, 9, 7)))
    with torch.inference_mode():
        torch.testing.assert_close(network(x), other(x))


@pytest.mark.parametrize("name", ["agunet", "daunet", "dagunet", "dynunet"])
def test_the_first_level_is_the_answer(name):
    network = build(name)
    x = torch.randn(1, 2, *grid_of(network, (12, 9, 7)))
    with torch.inference_mode():
        torch.testing.assert_close(network.forward_levels(x)[0], network(x))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_loss_falls(name):
    """On one batch that shows its labels; and every parameter of the phases takes part."""
    network = build(name).train()
    generator = torch.Generator().manual_seed(0)
    grid = grid_of(network, (8, 8, 8))
    labels = torch.zeros(2, *grid, dtype=torch.long)
    labels[:, 1:7, 1:7] = 1
    labels[:, 3:5, 3:5] = 2
    reference = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    image = reference[:, 1:] + 0.1 * torch.randn(2, 2, *grid, generator=generator)
    objective = build_objective(network, LOSSES["dice_ce"])
    optimisers = {
        phase.name: torch.optim.AdamW(phase.parameters, lr=1e-2 * phase.rate) for phase in objective.phases(network)
    }
    losses = [
        float(step(network, objective, optimisers, image, reference, generator)["loss"].detach()) for _ in range(8)
    ]
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    silent = [key for key, value in network.named_parameters() if value.grad is None]
    assert not silent, "every parameter reaches the loss"


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_recipe_labels_a_volume_with_it(name):
    """By a sliding window; networks of slices too, in a window of the volume."""
    recipe = SegmentationRecipe(
        name="one",
        title="One",
        summary="One.",
        network=name,
        config=COMMON | SMALL.get(name, {}),
        weights="one",
        labels={1: "rim", 2: "core"},
        spacing_mm=(1.0, 1.0, 1.0),
        patch=(16, 16, 8),
    )
    geometry = Geometry((14, 17, 9), np.eye(4))
    volume = Volume(np.random.default_rng(0).normal(size=(2, *geometry.shape)).astype(np.float32), geometry)
    segmenter = build_segmenter(recipe, build(name).state_dict(), "cpu")
    found = segment(volume, segmenter)
    assert found.geometry is geometry
    assert set(np.unique(found.array)) <= {0, 1, 2}
    np.testing.assert_array_equal(segment(volume, segmenter).array, found.array)


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("wrong", [{"depth": 3}, {"classes": 1}, {"in_channels": 0}])
def test_a_config_refuses_what_it_does_not_know(name, wrong):
    with pytest.raises(ValidationError):
        small(name, **wrong)
