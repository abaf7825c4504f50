"""Regions that overlap (region-based training), from the recipe to the label map."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import dice
from voxelight.medseg.losses import LOSSES
from voxelight.medseg.predict import predict, soften
from voxelight.medseg.recipes.recipe import LabelRegion, own_labels
from voxelight.medseg.reduce import LabelReducer, assemble
from voxelight.medseg.segment import build_segmenter, label, prepare
from voxelight.medseg.train import fit
from voxelight.medseg.train_folds import score_cases
from voxelight.medseg.train_samples import Dealer, prepare_sample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.recipes import read_recipe, write_recipe

WHOLE, CORE = {"name": "whole", "labels": [1, 2]}, {"name": "core", "labels": [2]}


def nested(**training):
    """A recipe for balls of a rim (1) around a core (2), learnt as whole and core."""
    recipe = make_recipe(loss="dice_ce_regions", **training)
    told = recipe.model_dump() | {"label_regions": [WHOLE, CORE], "labels": {1: "rim", 2: "core"}}
    told["config"] = recipe.config | {"classes": 2}
    return type(recipe).model_validate(told | {"labels": {1: "rim", 2: "kernel"}})


def make_nest(number):
    """A bright core in a grey rim, on noise."""
    chance = np.random.default_rng(number)
    far = np.linalg.norm(np.indices((18,) * 3) - chance.uniform(8, 10, 3)[:, None, None, None], axis=0)
    labels = ((far < 6).astype(np.uint8) + (far < 3)).astype(np.uint8)
    image = (labels * 2 + 0.3 * chance.standard_normal(labels.shape)).astype(np.float32)
    grid = Geometry(labels.shape, np.eye(4))
    return Case(f"nest{number}", Volume(image[None], grid), LabelMap(labels, grid, {1: "rim", 2: "kernel"}))


def test_every_label_comes_back_from_its_regions():
    regions = [LabelRegion(name=name, labels=labels) for name, labels in (("A", (1, 3)), ("B", (2, 3)), ("both", (3,)))]
    numbers = own_labels(regions)
    assert numbers == [1, 2, 3]
    drawn = torch.tensor([0, 1, 2, 3])
    shares = torch.stack([torch.isin(drawn, torch.tensor(region.labels)).float() for region in regions])
    found, sure = assemble(shares, numbers)
    assert found.tolist() == drawn.tolist()
    assert sure.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ([CORE, WHOLE], "leaves none of its labels"),
        ([WHOLE], "leaves 1 and 2 of its labels"),
        ([{"name": "rim", "labels": [1]}], "every label"),
    ],
)
def test_regions_that_no_label_map_can_be_made_of_are_refused(regions, said):
    with pytest.raises(ValidationError, match=said):
        type(nested()).model_validate(nested().model_dump() | {"label_regions": regions})


def test_loss_and_network_must_be_for_regions():
    with pytest.raises(BadInput, match="dice_ce_regions"):
        fit([make_nest(0)], nested().model_copy(update={"training": make_recipe().training}), "cpu")
    with pytest.raises(BadInput, match="dice_ce_regions for one label"):
        fit([make_case(0)], make_recipe(loss="dice_ce_regions"), "cpu")
    with pytest.raises(BadInput, match="3 classes for 2 regions"):
        fit([make_nest(0)], nested().model_copy(update={"config": make_recipe().config}), "cpu")


def test_training_sees_the_share_of_every_region():
    recipe = nested()
    dealer = Dealer([prepare_sample(make_nest(n), recipe) for n in range(2)], recipe, recipe.training, "cpu")
    image, reference = dealer.place(dealer.read(0), 0)
    assert reference.shape == (2, 2, *image.shape[2:])
    whole, core = reference.unbind(dim=1)
    assert (core <= whole).all()
    assert 0 < core.sum() < whole.sum()
    logits = torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    expected = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, reference)
    expected = expected + torch.nn.BCEWithLogitsLoss()(logits, reference)
    torch.testing.assert_close(LOSSES["dice_ce_regions"](logits, reference), expected, rtol=1e-4, atol=1e-5)


def test_a_network_learns_regions_and_gives_labels():
    recipe = nested(steps=30, validation=0.2, validate_steps=30, settling=4)
    fitted = fit([make_nest(number) for number in range(5)], recipe, "cpu")
    assert set(fitted.validation) == {"rim", "kernel", "whole", "core"}
    unseen = make_nest(99)
    segmenter = build_segmenter(recipe, fitted.weights, "cpu")
    prepared = prepare(unseen.volume, recipe)
    found = label(prepared, segmenter, confidence=True)
    shares = predict(prepared.fields[0][1], segmenter)
    assert shares.shape[0] == 2
    expected = np.where(shares[1] > 0.5, 2, np.where(shares[0] > 0.5, 1, 0))
    np.testing.assert_array_equal(found.label_map.array, expected)
    np.testing.assert_allclose(found.confidence, np.maximum(shares, 1 - shares).min(axis=0), atol=1e-3)
    assert dice(found.label_map.array, unseen.labels.array, 1, 2) > 0.5
    scored = score_cases([unseen], recipe, fitted.weights, "cpu")["nest99"]
    assert scored["whole"] == pytest.approx(dice(found.label_map.array, unseen.labels.array, 1, 2))
    assert list(scored) == ["rim", "kernel", "whole", "core"]


def test_on_a_finer_grid_regions_are_interpolated_and_then_assembled():
    coarse, fine = Geometry((6, 6, 6), np.diag([2, 2, 2, 1.0])), Geometry((11, 11, 11), np.eye(4))
    shares = torch.rand(2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    reducer = LabelReducer(coarse, fine, 3, confidence=True, overlapping=(1, 2))
    reducer.take((slice(0, 6),) * 3, shares)
    between = torch.nn.functional.interpolate(shares[None], size=(11, 11, 11), mode="trilinear", align_corners=True)[0]
    expected, sure = assemble(between, (1, 2))
    np.testing.assert_array_equal(reducer.labels, expected.numpy())
    np.testing.assert_allclose(reducer.confidence, sure.numpy(), atol=1e-3)


def test_temperature_softens_each_region_by_itself():
    logits = torch.randn(2, 5)
    torch.testing.assert_close(soften(logits.sigmoid(), 2.5, overlapping=True), (logits / 2.5).sigmoid())


def test_the_order_of_regions_is_kept_in_a_file(tmp_path):
    write_recipe(tmp_path / "nested.toml", nested(), {})
    assert read_recipe(tmp_path / "nested.toml").label_regions == nested().label_regions
